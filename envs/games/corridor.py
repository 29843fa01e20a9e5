"""Corridor-v0: a reward so far away that random play never finds it, and a way that curiosity can follow cell by cell.

In a plain corridor a random walk needs about the square of the length to cross it, which is too easy: some episodes get
there by luck. Here each cell has a door, which one of two actions opens; the other throws the agent back by two cells.
Random play then drifts back by half a cell a step, and the chance of ever being d cells further falls as 1.618 ** -d
(the golden ratio): it crosses the default corridor in one of 20 million episodes. Which action opens which door is
drawn once for all: a policy that always does the same does not get far either.

Being thrown back to the start would make it a combination lock, in which every mistake costs all. Two cells forgive
them: who finds the right action more than two times in three comes forward, so an agent that likes what is new learns
one door after another. The observation is the cell, one-hot, so that a new cell looks like none seen before.

The environment parameter `goal` brings the reward nearer: a curriculum moves it away from lesson to lesson.
"""

from __future__ import annotations

import random
from typing import Any

import gymnasium
import numpy as np

from envs.spec import Array, UserError

BACK = 2
"""Cells that a wrong action costs."""
LIMIT = 3
"""Steps for each cell, after which an episode is truncated."""


class Corridor(gymnasium.Env[Any, Any]):
    """An agent at the left end of `length` cells, with a reward of 1 at the right end, where the episode terminates.

    With the environment parameter `goal`, the reward lies in that cell (rounded; from 1 to length - 1).

    Action: Discrete(2). The one that opens the cell's door, `doors[cell]`, leads to the next cell, the other two cells
    back, the start at most. Observation: float32 (length,), the cell one-hot. Truncated after 3 steps for each cell up
    to the reward, its own included. `info` holds the episode's furthest cell at its end. Best possible: 1; random play:
    0. A wrong `length` or `goal` raises UserError.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, length: int = 40, render_mode: str | None = None) -> None:
        if not isinstance(length, int) or length < 2:
            raise UserError(f"Corridor: length={length!r} is not possible; it must be a whole number, 2 or more")
        self.render_mode = render_mode
        self.length = length
        rng = random.Random(0)
        self.doors = tuple(int(rng.random() < 0.5) for _ in range(self.length - 1))
        self.observation_space = gymnasium.spaces.Box(0, 1, (self.length,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.goal = self.length - 1
        self.cell, self.furthest, self.steps = 0, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Starts at the left end again. Nothing is random."""
        super().reset(seed=seed)
        goal = (options or {}).get("parameters", {}).get("goal", self.length - 1)
        self.goal = round(goal)
        if not 1 <= self.goal <= self.length - 1:
            raise UserError(f"Corridor: the parameter goal={goal} must be one of the cells 1 to {self.length - 1}")
        self.cell, self.furthest, self.steps = 0, 0, 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Moves through the door, or back."""
        if action not in (0, 1):
            raise UserError(f"Corridor: action {action!r} is not 0 or 1")
        self.steps += 1
        self.cell = self.cell + 1 if action == self.doors[self.cell] else max(self.cell - BACK, 0)
        self.furthest = max(self.furthest, self.cell)
        reached = self.cell == self.goal
        truncated = not reached and self.steps >= LIMIT * (self.goal + 1)
        info = {"furthest": self.furthest} if reached or truncated else {}
        return self._observe(), float(reached), reached, truncated, info

    def _observe(self) -> Array:
        return np.asarray(np.arange(self.length) == self.cell, np.float32)
