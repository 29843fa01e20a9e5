"""Recall-v0: a cue is shown once and asked for later, so that only an agent with a memory knows the answer."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from envs.spec import Array, UserError


class Recall(gymnasium.Env[Any, Any]):
    """The first observation shows one of `cues` cues, `delay` blank ones follow, and the next one asks which it was.

    Action: Discrete(cues), which counts only where it is asked for: 1 if it is the cue, else 0, and the episode
    terminates. Observation: float32 (cues + 1,), the cue one-hot, and 1 at the end where it is asked for. Nothing tells
    how many steps have passed. Best possible: 1; without a memory 1 / cues on average. Wrong arguments raise UserError.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, cues: int = 4, delay: int = 30, render_mode: str | None = None) -> None:
        for name, value, least in (("cues", cues, 2), ("delay", delay, 1)):
            if not isinstance(value, int) or value < least:
                raise UserError(f"Recall: {name}={value!r} is not possible; it must be a whole number, {least} or more")
        self.render_mode = render_mode
        self.cues, self.delay = cues, delay
        self.observation_space = gymnasium.spaces.Box(0, 1, (self.cues + 1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(self.cues)
        self.cue, self.steps = 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Draws a cue and shows it."""
        super().reset(seed=seed)
        self.cue, self.steps = int(self.np_random.integers(self.cues)), 0
        return self._observe(self.cue), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Goes on to the next observation, or takes the answer."""
        if not 0 <= action < self.cues:
            raise UserError(f"Recall: action {action!r} is none of the cues 0 to {self.cues - 1}")
        asked = self.steps > self.delay
        self.steps += 1
        observation = self._observe(self.cues if self.steps == self.delay + 1 else -1)
        return observation, float(asked and action == self.cue), asked, False, {}

    def _observe(self, shown: int) -> Array:
        return np.asarray(np.arange(self.cues + 1) == shown, np.float32)
