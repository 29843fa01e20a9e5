"""Demonstrated steps on the device, for whatever learns from them a batch at a time.

Shapes: N steps drawn, Q sequences of L steps.
"""

from __future__ import annotations

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
        """The steps from `first` on, before `end`."""
        part = slice(first, end)
        observations, following = (tuple(x[part] for x in seen) for seen in (self.observations, self.following))
        return Steps(
            observations, self.mask[part], self.continuous[part], self.discrete[part], self.terminated[part], following
        )

    def take(self, places: Tensor) -> Steps:
        """The steps at (M,) places."""
        return Steps(
            tuple(x.index_select(0, places) for x in self.observations),
            self.mask.index_select(0, places),
            self.continuous.index_select(0, places),
            self.discrete.index_select(0, places),
            self.terminated.index_select(0, places),
            tuple(x.index_select(0, places) for x in self.following),
        )


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
