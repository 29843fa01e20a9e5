"""Demonstrated steps on the device, for whatever learns from them a batch at a time.

Shapes: N steps drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from buffers.rows import Rows, observation_names


class Steps(NamedTuple):
    """What agents saw and did."""

    observations: tuple[Tensor, ...]
    """For each observation of the spec (N, *shape), raw."""
    mask: Tensor
    """(N, A) bool."""
    continuous: Tensor
    """(N, C)."""
    discrete: Tensor
    """(N, B) int64."""

    def take(self, places: Tensor) -> Steps:
        """The steps at (M,) places."""
        observations = tuple(x.index_select(0, places) for x in self.observations)
        return Steps(observations, *(x.index_select(0, places) for x in self[1:]))


class Demonstrations:
    """All steps of `rows`, drawn uniformly. All randomness follows from `seed`."""

    def __init__(self, rows: Rows, device: torch.device, seed: int) -> None:
        numbers = np.arange(1, rows.head + 1)
        (links,) = rows.gather(numbers, ("next",))
        names = observation_names(rows.layout.spec)
        arrays = rows.gather(numbers[links >= 0], (*names, "mask", "continuous", "discrete", "terminated"))
        *observations, mask, continuous, discrete, terminated = (torch.from_numpy(x).to(device) for x in arrays)
        self.steps = Steps(tuple(observations), mask, continuous, discrete.long())
        self.terminated = terminated
        """(all,) bool: the episode ended with a step, by its own rules."""
        self.generator = Generator(device).manual_seed(seed)

    def draw(self, count: int) -> tuple[Steps, Tensor]:
        """`count` steps, with replacement, and whether each was its episode's end, (N,) bool."""
        size, device = len(self.terminated), self.terminated.device
        places = torch.randint(size, (count,), generator=self.generator, device=device)
        return self.steps.take(places), self.terminated.index_select(0, places)
