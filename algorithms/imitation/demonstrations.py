"""Demonstrated steps on the device, for whatever learns from them a batch at a time.

Shapes: N steps drawn, Q sequences of L steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from buffers.rollout import cut
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
    """(N, D) int64."""
    terminated: Tensor
    """(N,) bool: the episode ended with the step, by its own rules."""
    following: tuple[Tensor, ...]
    """For each observation (N, *shape): what was seen next, zeros if terminated. None of demonstrated steps."""

    def part(self, first: int, end: int) -> Steps:
        """Returns the steps from `first` on, before `end`."""
        return self._each(lambda x: x[first:end])

    def take(self, places: Tensor) -> Steps:
        """Returns the steps at (M,) places."""
        return self._each(lambda x: x.index_select(0, places))

    def _each(self, chosen: Callable[[Tensor], Tensor]) -> Steps:
        observations, following = (tuple(map(chosen, x)) for x in (self.observations, self.following))
        mask, continuous, discrete, terminated = map(chosen, self[1:5])
        return Steps(observations, mask, continuous, discrete, terminated, following)


class Demonstrations:
    """All steps of `rows`, drawn uniformly. All randomness follows from `seed`."""

    def __init__(self, rows: Rows, device: torch.device, seed: int) -> None:
        numbers = np.arange(1, rows.head + 1)
        (links,) = rows.gather(numbers, ("next",))
        names = observation_names(rows.layout.spec)
        arrays = rows.gather(numbers[links >= 0], (*names, "mask", "continuous", "discrete", "terminated"))
        *observations, mask, continuous, discrete, terminated = (torch.from_numpy(x).to(device) for x in arrays)
        self.steps = Steps(tuple(observations), mask, continuous, discrete.long(), terminated, ())
        self._ends = np.flatnonzero(np.append(links[links >= 0][:-1] != numbers[links >= 0][1:], True))
        self.generator = Generator(device).manual_seed(seed)

    def sequences(self, length: int, lead: int) -> tuple[Tensor, Tensor]:
        """All steps in sequences as of `cut`: their places in `steps` (Q, L), and their loss mask (Q, L) float32."""
        sequences = cut(self._ends, length, lead)
        device = self.steps.mask.device
        return torch.from_numpy(sequences.rows).to(device), torch.from_numpy(sequences.loss_mask).to(device).float()

    def draw(self, count: int) -> Steps:
        """`count` steps, with replacement."""
        device = self.steps.mask.device
        return self.steps.take(torch.randint(len(self.steps.mask), (count,), generator=self.generator, device=device))
