"""A game of pixels that is learned in minutes: a square lies in one of four corners, and the agent names the corner.

It is made as `env.id=benchmarks.pixel_game:FourCorners-v0`. Images are four frames of 84 x 84 pixels, all alike; an
episode has 16 steps, and each right answer pays 1: chance earns 4, a master 16.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import register

from envs.spec import Array

STEPS = 16


class FourCorners(gymnasium.Env[Array, np.int64]):
    """Shows where the square lies now; it moves after each answer."""

    observation_space = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space = gymnasium.spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begins an episode."""
        super().reset(seed=seed)
        self._steps = 0
        return self._moved(), {}

    def step(self, action: np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Pays for the right corner."""
        reward = float(action == self._corner)
        self._steps += 1
        return self._moved(), reward, self._steps == STEPS, False, {}

    def _moved(self) -> Array:
        self._corner = int(self.np_random.integers(4))
        image = np.zeros((4, 84, 84), np.uint8)
        row, column = 42 * (self._corner // 2), 42 * (self._corner % 2)
        top, left = self.np_random.integers(0, 30, 2)
        image[:, row + top : row + top + 12, column + left : column + left + 12] = 255
        return image


register("FourCorners-v0", entry_point="benchmarks.pixel_game:FourCorners")
