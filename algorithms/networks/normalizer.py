"""Running mean and variance of float32 vector observations.

The learner merges what it sees between updates; networks read the published `shift` and `scale`, which stand still
during an update. Shapes: N rows, D numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from envs.spec import Array


class Normalizer:
    """Mean and variance of all rows merged so far, in float64 (Chan's parallel form of Welford's algorithm)."""

    def __init__(self, size: int) -> None:
        self.count = 0.0
        self.mean = np.zeros(size)
        self.squares = np.zeros(size)

    def merge(self, rows: Array) -> bool:
        """Takes (N, D) rows in; rows that are not finite would spoil it for ever and are refused (returns False)."""
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0)
        if not np.isfinite(mean).all():
            return False
        squares = np.square(rows - mean).sum(axis=0)
        total = self.count + len(rows)
        delta = mean - self.mean
        self.mean += delta * (len(rows) / total)
        self.squares += squares + np.square(delta) * (self.count * len(rows) / total)
        self.count = total
        return True

    def publish(self, shift: Tensor, scale: Tensor) -> None:
        """Writes (D,) mean and 1 / standard deviation into what the networks read."""
        if self.count == 0:
            return
        deviation = np.sqrt(self.squares / self.count + EPSILON)
        shift.copy_(torch.from_numpy(self.mean.astype(np.float32)))
        scale.copy_(torch.from_numpy((1 / deviation).astype(np.float32)))

    def state(self) -> Tensor:
        """(1 + 2 D,) float64, read back by `load_state`."""
        return torch.from_numpy(np.concatenate([[self.count], self.mean, self.squares]))

    def load_state(self, state: Tensor) -> None:
        """Takes over what `state` gave."""
        self.count = float(state[0])
        self.mean, self.squares = np.split(state[1:].numpy().astype(np.float64), 2)


EPSILON = 1e-6
"""Added to the variance, so that an observation that never changes is not blown up."""
