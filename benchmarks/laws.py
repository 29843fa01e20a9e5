"""Step-time laws: environments that do next to nothing and return how long a step would have taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from envs.spec import Array, UserError

LAWS = ("lognormal", "reset", "game_engine", "constant")
EPISODE_STEPS = 200
_BLOCK = 1024


def durations(law: str, seed: int, seconds: float = 1.0, spread: float = 0.0) -> Iterator[float]:
    """The seconds of one step after another, without end: the same for the same law and seed.

    `lognormal`: mean 50 ms, sigma 0.8. `reset`: 20 ms, and 0.5 % of the steps 1 s. `game_engine`: 1 ms, and 200 ms
    every 200 steps, from a phase that is drawn first. `constant`: `seconds`, give or take at most the share
    `spread` of them, and in the first step a part of them, so that instances which begin together are not in step.
    """
    rng = np.random.default_rng(seed)
    step = int(rng.integers(EPISODE_STEPS))
    if law == "constant":
        yield seconds * float(rng.random())
    while True:
        if law == "lognormal":
            block = rng.lognormal(np.log(0.05) - 0.8**2 / 2, 0.8, _BLOCK)
        elif law == "reset":
            block = np.where(rng.random(_BLOCK) < 0.005, 1.0, 0.02)
        elif law == "game_engine":
            block = np.where(np.arange(step, step + _BLOCK) % EPISODE_STEPS == EPISODE_STEPS - 1, 0.2, 0.001)
            step += _BLOCK
        elif law == "constant":
            block = seconds * rng.uniform(1 - spread, 1 + spread, _BLOCK)
        else:
            raise UserError(f"Unknown law {law!r}; known are {', '.join(LAWS)}.")
        yield from block.tolist()


class StepLaw(gymnasium.Env[Array, Any]):
    """Random vectors as observations, two choices as actions, `info["duration"]` by a law.

    The law is seeded by the first reset alone, so an instance draws the same durations however its episodes are seeded.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (8,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, law: str = "lognormal", seconds: float = 1.0, spread: float = 0.0) -> None:
        self._law, self._seconds, self._spread = law, seconds, spread
        self._durations = durations(law, 0, seconds, spread)
        self._seeded = False
        self._observation: Array = np.zeros(8, np.float32)
        self._step = 0
        next(self._durations)  # an unknown law is refused here

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begins an episode; it takes no time."""
        super().reset(seed=seed)
        if not self._seeded:
            self._durations = durations(self._law, seed or 0, self._seconds, self._spread)
            self._seeded = True
        self._step = 0
        self._observation = self.np_random.uniform(-1, 1, 8).astype(np.float32)
        return self._observation.copy(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Returns the next duration; the episode is cut off after `EPISODE_STEPS`."""
        self._step += 1
        info = {"duration": next(self._durations)}
        return self._observation.copy(), float(action), False, self._step >= EPISODE_STEPS, info


class Lasting(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose steps last by a law, which the first reset seeds. For `env.wrappers`."""

    def __init__(self, env: gymnasium.Env[Any, Any], law: str, seconds: float = 1.0, spread: float = 0.0) -> None:
        super().__init__(env)
        self._law = law, seconds, spread
        self._durations = durations(law, 0, seconds, spread)
        self._seeded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; it takes no time."""
        if not self._seeded:
            law, seconds, spread = self._law
            self._durations = durations(law, seed or 0, seconds, spread)
            self._seeded = True
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Returns the next duration."""
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {**info, "duration": next(self._durations)}


gymnasium.register("StepLaw-v0", entry_point="benchmarks.laws:StepLaw")
