"""Sacrifice: three in a cell whose gate opens only for one who stays behind. A PettingZoo `ParallelEnv`.

One of them has to step on the altar and is gone. That costs it something, and opens the gate; what the group earns
comes later, as the others get out. Who learns for itself learns to stay off the altar, as nothing follows for it: PPO
does, also where each is paid what the group earns. Who learns as a group is paid for what follows.

Shapes: 3 agents, numbered in the order of `AGENTS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv

from envs.spec import Array, UserError

AGENTS = ("one", "two", "three")
SIDE = 5
"""Cells of a side."""
LIMIT = 30
"""Steps after which an episode is over."""
COST = 0.1
"""What the altar takes, from the one who steps on it."""
SHARE = 1 / (len(AGENTS) - 1)
"""What the group earns for each who gets out: 1 is the most."""
MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))

Cell = tuple[int, int]
"""Column and row, from the left and from above."""


class Sacrifice(ParallelEnv):  # type: ignore[misc] # it has no types
    """Three agents in 5 x 5 cells, with an altar in the leftmost column and a gate in the rightmost one.

    Action: Discrete(5): stay, left, right, up, down. Observation: float32 (13,): the own cell, the ways to the altar
    and to the gate, in sides; whether the gate is open; the share of the time that is left; for each of the two others
    whether it is there, and if so whether it is nearer to the altar; and whether the agent is nearer than both.
    Who steps on the altar while the gate is shut opens it, and is gone with a reward of -0.1. Who goes through the open
    gate is out, and earns 0.5 for the group: all who are there are paid it (`info["group_reward"]`). The episode is
    over when nobody is there, or after 30 steps. Then `info` holds its `score`, what the group has earned; the best is
    1.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 6, "name": "sacrifice_v0"}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self._observation_space = gymnasium.spaces.Box(-1, 1, (13,), np.float32)
        self._action_space = gymnasium.spaces.Discrete(len(MOVES))
        self._rng = random.Random(0)

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Returns the same for all."""
        return self._observation_space

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Returns the same for all."""
        return self._action_space

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, dict[str, Any]]]:
        """Puts altar and gate into random rows, and the agents into cells between them."""
        if seed is not None:
            self._rng = random.Random(seed)
        rng = self._rng
        self.agents = list(AGENTS)
        self.steps, self.score, self.open = 0, 0.0, False
        self.altar, self.gate = (0, rng.randrange(SIDE)), (SIDE - 1, rng.randrange(SIDE))
        between = [(x, y) for x in range(1, SIDE - 1) for y in range(SIDE)]
        self.at: dict[str, Cell] = dict(zip(AGENTS, rng.sample(between, len(AGENTS))))
        return {agent: self._observe(agent) for agent in AGENTS}, {agent: {} for agent in AGENTS}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Array], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Moves all at once."""
        acted = list(self.agents)
        for agent in acted:
            self.at[agent] = self._moved(self.at[agent], actions[agent])
        self.steps += 1
        given = [] if self.open else [agent for agent in acted if self.at[agent] == self.altar]
        out = [agent for agent in acted if self.open and self.at[agent] == self.gate]
        earned = SHARE * len(out)
        self.score += earned
        self.agents = [agent for agent in acted if agent not in given and agent not in out]
        self.open = self.open or bool(given)
        seen = {agent: self._observe(agent) for agent in acted}
        rewards = {agent: earned - COST * (agent in given) for agent in acted}
        over = self.steps >= LIMIT or not self.agents
        ended = {agent: over or agent not in self.agents for agent in acted}
        infos: dict[str, dict[str, Any]] = {agent: {"group_reward": earned} for agent in acted}
        if over:
            self.agents = []
            for agent in acted:
                infos[agent] |= {"score": self.score, "success": self.score >= 1}
        return seen, rewards, ended, dict.fromkeys(acted, False), infos

    def render(self) -> Array | None:
        """Returns (420, 420, 3) uint8 with `render_mode="rgb_array"`, else None."""
        return painted(self) if self.render_mode == "rgb_array" else None

    def _moved(self, at: Cell, action: int) -> Cell:
        if not 0 <= action < len(MOVES):
            raise UserError(f"Sacrifice: action {action!r} is not 0 (stay) or 1 to 4 (left, right, up, down)")
        x, y = (min(max(each + way, 0), SIDE - 1) for each, way in zip(at, MOVES[action]))
        return at if (x, y) == self.gate and not self.open else (x, y)

    def _observe(self, agent: str) -> Array:
        (x, y), far = self.at[agent], self._way(agent)
        ways = [each / (SIDE - 1) for goal in (self.altar, self.gate) for each in (goal[0] - x, goal[1] - y)]
        others = [each for each in AGENTS if each != agent]
        there = [each in self.agents for each in others]
        nearer = [here and self._way(each) < far for each, here in zip(others, there)]
        pairs = [value for pair in zip(there, nearer) for value in pair]
        place = (2 * x / (SIDE - 1) - 1, 2 * y / (SIDE - 1) - 1)
        return np.array((*place, *ways, self.open, 1 - self.steps / LIMIT, *pairs, not any(nearer)), np.float32)

    def _way(self, agent: str) -> tuple[int, int]:
        """Returns how many steps an agent is away from the altar; of those who are as near, the first is nearer."""
        (x, y), (column, row) = self.at[agent], self.altar
        return abs(x - column) + abs(y - row), AGENTS.index(agent)


def make_bot(rng: random.Random) -> Callable[[Array], int]:
    """Returns the best bot there is: the nearest goes to the altar, the others wait for the gate to open."""

    def act(observation: Array) -> int:
        altar, gate, is_open = observation[2:4], observation[4:6], observation[6] > 0
        if not is_open and not observation[12]:
            return 0
        x, y = gate if is_open else altar
        if x:
            return 1 if x < 0 else 2
        return 3 if y < 0 else 4

    return act


# The picture is painted four times as large and scaled down.
_FINE = 4
_CELL = 76 * _FINE
_EDGE = 20 * _FINE
_COLORS = ((255, 188, 46), (88, 214, 110), (48, 176, 255))
_ALTAR = (255, 84, 84)
_GATE = (196, 150, 255)


def painted(game: Sacrifice) -> Array:
    """Returns the cell, its altar and gate, and who is there: (420, 420, 3) uint8."""
    # Pillow is needed for pictures alone.
    from PIL import Image, ImageDraw, ImageFilter

    from envs.games.picture import finish, vertical_gradient

    side = 2 * _EDGE + SIDE * _CELL
    picture = vertical_gradient((side, side), (38, 30, 92), (12, 14, 44))
    draw = ImageDraw.Draw(picture)
    for cell in ((x, y) for x in range(SIDE) for y in range(SIDE)):
        draw.rounded_rectangle(_box(cell, 35), 8 * _FINE, (26, 28, 74), (52, 56, 116), _FINE)
    glow = Image.new("L", picture.size)
    shining = game.gate if game.open else game.altar
    ImageDraw.Draw(glow).ellipse(_box(shining, 40), fill=150)
    picture.paste(_GATE if game.open else _ALTAR, (0, 0), glow.filter(ImageFilter.BoxBlur(9 * _FINE)))
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = _box(game.altar, 24)
    middle = (left + right) // 2
    draw.polygon([(middle, top), (right, bottom), (left, bottom)], (96, 40, 60), _ALTAR, 3 * _FINE)
    draw.rounded_rectangle(_box(game.gate, 28), 6 * _FINE, (20, 16, 40), _GATE, 4 * _FINE)
    if not game.open:
        left, top, right, bottom = _box(game.gate, 28)
        for k in range(1, 4):
            x = left + k * (right - left) // 4
            draw.line([(x, top), (x, bottom)], _GATE, 4 * _FINE)
    for k, agent in enumerate(AGENTS):
        if agent in game.agents:
            x, y = game.at[agent]
            box = _box((x, y), 15, (k - 1) * 16)
            draw.ellipse(box, _COLORS[k], (240, 244, 255), 2 * _FINE)
    return finish(picture, _FINE)


def _box(cell: Cell, half: int, aside: int = 0) -> tuple[int, int, int, int]:
    """Returns a square of `half` a side around the middle of a cell, or `aside` of it."""
    x, y = (_EDGE + each * _CELL + _CELL // 2 for each in cell)
    x, half = x + aside * _FINE, half * _FINE
    return x - half, y - half, x + half, y + half
