"""Running mean and variance of float32 vector observations.

The learner merges what it sees between updates; networks read the published `shift` and `scale`, which stand still
during an update. Shapes: N rows, D numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.spec import Array


class Moments(NamedTuple):
    """Of rows, in float64."""

    mean: Array
    """(D,)."""
    variance: Array
    """(D,)."""


class Normalizers:
    """Those of numbers of which there are different amounts: of the vector first, and then of the entities of each set.

    Only entities that are there count.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        """`sizes` are the D of each."""
        self._sizes, self._parts = list(sizes), [Normalizer(size) for size in sizes]

    @property
    def count(self) -> float:
        """Rows merged so far."""
        return self._parts[0].count

    def merge(self, groups: Sequence[Array]) -> bool:
        """Takes rows (N, D) of each in; refuses all if one is not finite (returns False)."""
        if not all(np.isfinite(rows).all() for rows in groups):
            return False
        for part, rows in zip(self._parts, groups):
            if len(rows):
                part.merge(rows)
        return True

    def moments(self) -> list[Moments]:
        """Returns those of each."""
        return [part.moments() for part in self._parts]

    def add(self, found: Sequence[Moments], counts: Sequence[float]) -> None:
        """Takes in `counts` rows of each, of which these are the moments."""
        for part, each, count in zip(self._parts, found, counts):
            if count:
                part.add(each, count)

    def publish(self, shift: Tensor, scale: Tensor) -> None:
        """Writes what the networks read, one after another."""
        for part, *read in zip(self._parts, torch.split(shift, self._sizes), torch.split(scale, self._sizes)):
            part.publish(*read)

    def state(self) -> Tensor:
        """Float64, read back by `load_state`."""
        return torch.cat([part.state() for part in self._parts])

    def load_state(self, state: Tensor) -> None:
        """Takes over what `state` gave."""
        for part, each in zip(self._parts, torch.split(state, [1 + 2 * size for size in self._sizes])):
            part.load_state(each)


class Normalizer:
    """Mean and variance of all rows merged so far, in float64 (Chan's parallel form of Welford's algorithm)."""

    def __init__(self, size: int) -> None:
        self.count = 0.0
        self.mean = np.zeros(size)
        self.squares = np.zeros(size)

    def merge(self, rows: Array) -> bool:
        """Takes (N, D) rows in; rows that are not finite would spoil it for ever and are refused (returns False)."""
        if not np.isfinite(rows).all():
            return False
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0)
        self.add(Moments(mean, np.square(rows - mean).mean(axis=0)), len(rows))
        return True

    def moments(self) -> Moments:
        """Returns those of all rows so far."""
        return Moments(self.mean.copy(), self.squares / max(self.count, 1.0))

    def add(self, found: Moments, count: float) -> None:
        """Takes in `count` rows of which these are the moments."""
        total = self.count + count
        delta = found.mean - self.mean
        self.mean += delta * (count / total)
        self.squares += found.variance * count + np.square(delta) * (self.count * count / total)
        self.count = total

    def publish(self, shift: Tensor, scale: Tensor) -> None:
        """Writes (D,) mean and 1 / standard deviation into what the networks read.

        What never changed is only shifted. What changes by no more than float32 can tell apart at its size is noise,
        and stays small.
        """
        if self.count == 0:
            return
        mean, variance = self.moments()
        least = RESOLUTION * np.sqrt(variance + np.square(mean))
        deviation = np.sqrt(variance + np.square(least)).clip(min=TINY)
        scales = np.where(variance > 0, 1 / deviation, 1.0)
        shift.copy_(torch.from_numpy(mean.astype(np.float32)))
        scale.copy_(torch.from_numpy(scales.astype(np.float32)))

    def state(self) -> Tensor:
        """(1 + 2 D,) float64, read back by `load_state`."""
        return torch.from_numpy(np.concatenate([[self.count], self.mean, self.squares]))

    def load_state(self, state: Tensor) -> None:
        """Takes over what `state` gave."""
        self.count = float(state[0])
        self.mean, self.squares = np.split(state[1:].numpy().astype(np.float64), 2)


RESOLUTION = 1e-6
"""Least deviation, over the root mean square: some ten times what float32 tells apart."""
TINY = 1e-15
"""Least deviation of all, so that no product is larger than float32 holds."""
