"""One-step episodes that need every part of a hybrid action at once.

Reward: max(0, 1 - 2 |a - x|) where both branches are right, else 0. The continuous part alone (branches at random, but
within the mask, which leaves the right choice and one other) earns 1/4; the branches alone, with the best constant a,
earn 1/4 as well.
"""

from __future__ import annotations

import numpy as np

from envs.spec import Array, BehaviorSpec, ObservationSpec

SPEC = BehaviorSpec("toy", (ObservationSpec("o", (6,), "float32"),), continuous_size=1, branches=(3, 2), masked=True)
AGENTS = 16


class HybridToy:
    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def observe(self) -> tuple[Array, Array]:
        """Observations (AGENTS, 6) and masks (AGENTS, 5)."""
        rng = self._rng
        self._x = rng.uniform(-1, 1, AGENTS)
        self._right = np.stack([rng.integers(3, size=AGENTS), rng.integers(2, size=AGENTS)], axis=1)
        rows = np.arange(AGENTS)
        observations = np.zeros((AGENTS, 6), np.float32)
        observations[:, 0] = self._x
        observations[rows, 1 + self._right[:, 0]] = 1
        observations[rows, 4 + self._right[:, 1]] = 1
        mask = np.ones((AGENTS, 5), np.bool_)
        mask[rows, (self._right[:, 0] + rng.integers(1, 3, size=AGENTS)) % 3] = False
        self._mask = mask
        return observations, mask

    def reward(self, continuous: Array, discrete: Array) -> Array:
        rows = np.arange(AGENTS)
        if not (self._mask[rows, discrete[:, 0]].all() and self._mask[rows, 3 + discrete[:, 1]].all()):
            raise AssertionError("a forbidden choice was taken")
        close = np.maximum(0, 1 - 2 * np.abs(np.clip(continuous[:, 0], -1, 1) - self._x))
        return np.where((discrete == self._right).all(axis=1), close, 0).astype(np.float32)
