"""Gather-v0: food to gather and poison to avoid, of which there is now more and now less, in no order.

What the agent sees is a set: where each thing lies and what it is. A network that takes it as a vector of fixed length
has to learn for each place of that vector what a thing means there; one with attention learns it once, for all.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from envs.spec import Array, UserError

SPEED, REACH = 0.2, 0.15
"""Of the square's half side: how far a step leads, and how near a thing is taken."""
LEAST = 2
"""Things of each kind at the start of an episode, at least."""
LIMIT = 50
"""Steps, after which an episode is truncated."""


class Gather(gymnasium.Env[Any, Any]):
    """An agent in a square with food and poison, 2 to `most` / 2 pieces of each, which are taken by coming near.

    Action: Discrete(5), stay or step right, left, up, down. Observation: `place` float32 (2,), its own, and
    `things`, a sequence of at most `most` float32 (4,): 1, the way to the thing (2), and 1 for food, -1 for poison. Its
    order says nothing. With `flat` it is one vector instead, padded with zeros to `most` things. Food earns 1 / its
    number at the start, poison costs as much. An episode terminates when no food is left, and is truncated after 50
    steps. Best possible: 1; random play: about 0. A wrong `most` raises UserError.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, most: int = 20, flat: bool = False, render_mode: str | None = None) -> None:
        if not isinstance(most, int) or most < 2 * LEAST:
            raise UserError(f"Gather: most={most!r} is not possible; it must be a whole number, {2 * LEAST} or more")
        self.render_mode, self.most, self.flat = render_mode, most, flat
        thing = gymnasium.spaces.Box(-2, 2, (4,), np.float32)
        things = gymnasium.spaces.Box(-2, 2, (4 * most,), np.float32) if flat else gymnasium.spaces.Sequence(thing)
        self.observation_space = gymnasium.spaces.Dict(place=gymnasium.spaces.Box(-1, 1, (2,)), things=things)
        self.action_space = gymnasium.spaces.Discrete(5)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Scatters the things again."""
        super().reset(seed=seed)
        rng = self.np_random
        food, poison = rng.integers(LEAST, self.most // 2 + 1, 2).tolist()
        self.kind = np.repeat(np.array([1, -1], np.float32), (food, poison))
        self.place = rng.uniform(-1, 1, (food + poison, 2)).astype(np.float32)
        self.agent = np.zeros(2, np.float32)
        self.worth, self.steps = 1 / food, 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Moves, and takes what is near."""
        self.steps += 1
        self.agent = np.clip(self.agent + SPEED * _WAYS[int(action)], -1, 1)
        near = np.square(self.place - self.agent).sum(1) < REACH**2
        reward = self.worth * float(self.kind[near].sum())
        self.kind, self.place = self.kind[~near], self.place[~near]
        terminated = not (self.kind > 0).any()
        return self._observe(), reward, terminated, not terminated and self.steps >= LIMIT, {}

    def _observe(self) -> dict[str, Any]:
        ways = self.place - self.agent
        things = np.concatenate([np.ones((len(ways), 1), np.float32), ways, self.kind[:, None]], axis=1)
        things = self.np_random.permutation(things)
        if self.flat:
            return {"place": self.agent, "things": np.pad(things.ravel(), (0, 4 * (self.most - len(things))))}
        return {"place": self.agent, "things": tuple(things)}


_WAYS: Array = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
