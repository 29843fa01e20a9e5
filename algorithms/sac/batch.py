"""What one update of soft actor-critic learns from. Shapes: as in `sac.py`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Steps to learn from, and what lies behind the n-step return that begins at each (its end), on the device."""

    observations: tuple[Tensor, ...]
    """All places, sequence by sequence (W * P, ...); without memory steps, then ends (2 * N, ...)."""
    memory: Tensor
    """(W, R) of the policy before each sequence."""
    places: Tensor | None
    """(2 * N,) int64, with a memory: where the steps are, then where their ends are; None without."""
    noise: Tensor
    """(2 * N, C) standard normal, from which actions at steps and ends are drawn."""
    mask: Tensor
    """(2 * N, A) at steps, then at ends."""
    continuous: Tensor
    """(N, C)."""
    discrete: Tensor
    """(N, B) int64, as they are chosen."""
    returns: Tensor
    """(N,) n-step."""
    next_discount: Tensor
    """(N,) weight of the value behind a return, 0 where the episode terminated."""
    loss_mask: Tensor | None
    """(N,) float32, 0 where padded or replayed for the memory alone; None if all count."""
