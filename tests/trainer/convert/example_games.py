"""Games with the observations and actions of ML-Agents' examples, for our player: `…example_games:Example-v0`."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces

LENGTH = 40
"""Steps of an episode."""


class Example(gymnasium.Env):
    """Shows random numbers and random images, and pays for its last action. What is masked leaves the first choice."""

    def __init__(self, vectors=(), images=(), continuous=0, branches=(), masked=False):
        seen = [spaces.Box(-np.inf, np.inf, (size,), np.float32) for size in vectors]
        seen += [spaces.Box(0, 255, tuple(shape), np.uint8) for shape in images]
        self.observation_space = spaces.Tuple(seen)
        actions = [spaces.Box(-1, 1, (continuous,), np.float32)] if continuous else []
        actions += [spaces.MultiDiscrete(branches)] if branches else []
        self.action_space = spaces.Tuple(actions)
        self._choices = sum(branches) if masked else 0
        self._starts = np.cumsum([0, *branches])[:-1]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return self._observation(), self._info()

    def step(self, action):
        self._steps += 1
        return self._observation(), float(np.mean(action[0])), self._steps == LENGTH, False, self._info()

    def _observation(self):
        draw = self.np_random
        return tuple(
            draw.normal(size=space.shape).astype(np.float32)
            if space.dtype == np.float32
            else draw.integers(0, 256, space.shape, np.uint8)
            for space in self.observation_space.spaces
        )

    def _info(self):
        if not self._choices:
            return {}
        mask = self.np_random.random(self._choices) < 0.5
        mask[self._starts] = True
        return {"action_mask": mask}


gymnasium.register("Example-v0", Example)
