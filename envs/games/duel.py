"""Duel: two wrestlers in a ring that shrinks; who is pushed out of it loses. A PettingZoo `ParallelEnv`.

Symmetric: each sees itself as the one in the middle of its own frame, whose first axis points to the other. So one
policy plays both, and what it has learned on one side holds on the other.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv

from envs.spec import Array, BehaviorSpec, UserError

AGENTS = ("red", "blue")
LIMIT = 80
"""Decisions after which a match is a draw."""
RADIUS = 0.13
"""Of a wrestler."""
DIRECTIONS = 8
_SUBSTEPS = 3
_SECONDS = 0.05
"""Of a substep."""
_THRUST = 2.4
_DRAG = 1.1
_BOUNCE = 0.9
_PUSH = 0.3
"""Deviation of the speeds at the beginning: without them two who charge each other would stand still in the middle."""
_ALIKE = 1e-9
"""Distances from the middle that differ by no more than this are equal."""
_FIRST_RING, _LAST_RING = 1.0, 0.1


class Duel(ParallelEnv):  # type: ignore[misc] # it has no types
    """Two wrestlers, `red` and `blue`.

    Action: Discrete(9): 0 rests, 1 to 8 thrust in eight directions, counted from the one that leads to the other
    wrestler (1), anticlockwise in steps of 45 degrees. Observation: float32 (9,), lengths in ring radii and speeds a
    second, all of it in the frame that points to the other: its distance, the way to the ring's middle (2), the own
    velocity (2), that of the other (2), the ring's radius and the share of the time that is left. Whose middle leaves
    the ring loses: its last reward is -1, that of the other 1. If both leave it at once, who is farther out loses;
    it is 0 for both if they are equally far. In the end the ring is too small for two. All other rewards are 0.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10, "name": "duel_v0"}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self._observation_space = gymnasium.spaces.Box(-8, 8, (9,), np.float32)
        self._action_space = gymnasium.spaces.Discrete(1 + DIRECTIONS)
        self._rng = random.Random(0)

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Returns the same for both."""
        return self._observation_space

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Returns the same for both."""
        return self._action_space

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, dict[str, Any]]]:
        """Puts both into the ring, opposite to each other at a random angle, and gives each a push."""
        if seed is not None:
            self._rng = random.Random(seed)
        self.agents = list(AGENTS)
        self.steps = 0
        self.winner: str | None = None
        angle = self._rng.uniform(0, 2 * math.pi)
        at = 0.5 * complex(math.cos(angle), math.sin(angle))
        self.at = [at, -at]
        self.speed = [complex(self._rng.gauss(0, _PUSH), self._rng.gauss(0, _PUSH)) for _ in AGENTS]
        self.thrust = [0j, 0j]
        return self._observe(), {agent: {} for agent in AGENTS}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Array], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Lets both thrust for 0.15 seconds."""
        self.thrust = [self._thrust(k, actions[agent]) for k, agent in enumerate(AGENTS)]
        self.steps += 1
        out = [False, False]
        for _ in range(_SUBSTEPS):
            self._move()
            out = [abs(at) > self.ring for at in self.at]
            if any(out):
                break
        over = any(out) or self.steps >= LIMIT
        if all(out):  # who is farther out is the loser
            farther = abs(self.at[0]) - abs(self.at[1])
            out = [farther > _ALIKE, farther < -_ALIKE]
        score = float(out[1] - out[0])
        rewards = {"red": score, "blue": 0.0 - score}
        infos: dict[str, dict[str, Any]] = {agent: {} for agent in AGENTS}
        if over:
            self.agents = []
            self.winner = None if not score else AGENTS[score < 0]
            infos = {agent: {"success": rewards[agent] > 0} for agent in AGENTS}
        return self._observe(), rewards, dict.fromkeys(AGENTS, over), dict.fromkeys(AGENTS, False), infos

    @property
    def ring(self) -> float:
        """The ring's radius by now."""
        return _FIRST_RING + (_LAST_RING - _FIRST_RING) * self.steps / LIMIT

    def render(self) -> Array | None:
        """Returns (H, W, 3) uint8 with `render_mode="rgb_array"`, else None."""
        if self.render_mode != "rgb_array":
            return None
        return _painted(self)

    def _thrust(self, k: int, action: int) -> complex:
        if not 0 <= action <= DIRECTIONS:
            raise UserError(f"Duel: action {action!r} is not 0 (rest) or 1 to {DIRECTIONS} (a direction)")
        return _compass()[action] * self._towards(k)

    def _towards(self, k: int) -> complex:
        """Returns the direction of the other wrestler, of length 1."""
        way = self.at[1 - k] - self.at[k]
        return way / abs(way) if way else 1 + 0j

    def _move(self) -> None:
        for k in (0, 1):
            self.speed[k] += (_THRUST * self.thrust[k] - _DRAG * self.speed[k]) * _SECONDS
            self.at[k] += self.speed[k] * _SECONDS
        way = self.at[1] - self.at[0]
        distance = abs(way)
        if distance >= 2 * RADIUS:
            return
        normal = way / distance if distance else 1 + 0j
        overlap = (2 * RADIUS - distance) / 2
        self.at[0] -= overlap * normal
        self.at[1] += overlap * normal
        closing = ((self.speed[0] - self.speed[1]) * normal.conjugate()).real
        if closing > 0:
            push = (1 + _BOUNCE) / 2 * closing * normal
            self.speed[0] -= push
            self.speed[1] += push

    def _observe(self) -> dict[str, Array]:
        seen = {}
        for k, agent in enumerate(AGENTS):
            turn = self._towards(k).conjugate()
            middle, own, other = -self.at[k] * turn, self.speed[k] * turn, self.speed[1 - k] * turn
            distance = abs(self.at[1 - k] - self.at[k])
            seen[agent] = np.array(
                (
                    distance,
                    middle.real,
                    middle.imag,
                    own.real,
                    own.imag,
                    other.real,
                    other.imag,
                    self.ring,
                    1 - self.steps / LIMIT,
                ),
                np.float32,
            )
        return seen


def make_bot(rng: random.Random, skill: float = 0.8) -> Callable[[Array], int]:
    """Returns a bot that charges the other, and runs to the middle when it comes near to the edge.

    `skill`: the share of its actions that are its own; the others are drawn. Against chance it wins nearly every match.
    """

    def act(observation: Array) -> int:
        if rng.random() >= skill:
            return rng.randrange(1 + DIRECTIONS)
        distance, x, y, own_x, own_y, _, _, ring, _ = map(float, observation)
        middle, own = complex(x, y), complex(own_x, own_y)
        outwards = abs(middle - 0.4 * own)  # where it will be soon, from the middle
        way = middle if outwards > 0.8 * ring else complex(distance, 0) - 0.2 * own
        return 1 + round(math.atan2(way.imag, way.real) / (2 * math.pi / DIRECTIONS)) % DIRECTIONS

    return act


def bot(spec: BehaviorSpec, rng: random.Random) -> Callable[[tuple[Array, ...], Array], tuple[list[float], list[int]]]:
    """Returns `make_bot`'s bot, a fifth of whose actions are drawn.

    As `outstep evaluate run=… against=envs.games.duel:bot` takes it.
    """
    act = make_bot(rng)
    return lambda observations, mask: ([], [act(observations[0])])


@cache
def _compass() -> tuple[complex, ...]:
    turns = (2 * math.pi * k / DIRECTIONS for k in range(DIRECTIONS))
    return (0j, *(complex(math.cos(turn), math.sin(turn)) for turn in turns))


def _painted(game: Duel) -> Array:
    """Returns the ring with both wrestlers and where they thrust: (400, 380, 3) uint8."""
    from envs.games.arenas import BLUE, GOLD, RED, TEXT, Canvas  # it needs Pillow

    canvas = Canvas(380, 400, 170, (38, 30, 92), (12, 14, 44))
    canvas.disc(0, 0, 1, (20, 21, 60), (54, 58, 120))
    canvas.disc(0, 0, game.ring, (34, 36, 92), (150, 160, 235), 3)
    canvas.disc(0, 0, 0.02, (110, 118, 190))
    colors = {"red": RED, "blue": BLUE}
    for agent, at, thrust in zip(AGENTS, game.at, game.thrust):
        color = colors[agent]
        tail = at - 0.24 * thrust
        canvas.line(at.real, at.imag, tail.real, tail.imag, GOLD, 6)
        canvas.glow(at.real, at.imag, RADIUS * 1.5, color)
        canvas.disc(at.real, at.imag, RADIUS, color, (240, 244, 255))
    for k, at in enumerate(game.at):  # eyes look at the other
        way = game.at[1 - k] - at
        side = way / abs(way) * RADIUS if way else RADIUS + 0j
        for eye in (at + 0.5 * side + 0.35j * side, at + 0.5 * side - 0.35j * side):
            canvas.disc(eye.real, eye.imag, 0.028, (255, 255, 255))
    over = not game.agents
    result = "" if not over else f"{game.winner} wins" if game.winner else "draw"
    canvas.head(f"step {game.steps} of {LIMIT}", result, colors.get(game.winner or "", TEXT))
    return canvas.pixels()
