"""What an algorithm keeps beside its networks: averages of its metrics, and random states."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

T = TypeVar("T")


class Averages:
    """Means of named numbers over updates, summed on the device and read once per logging interval.

    What was NaN or infinite in any update, be it one that was skipped, is named when they are read.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._names = list(names)
        self._sums, self._nothing = torch.zeros(2, len(names), device=device)
        self._count = torch.zeros((), device=device)
        self._every = torch.zeros(len(names), device=device)  # sums over all updates: a bad number never leaves them

    @torch.no_grad()
    def add(self, values: Tensor, finite: Tensor) -> None:
        """Takes one update's (M,) values in, unless that update was not `finite` and therefore skipped."""
        self._sums += torch.where(finite, values, self._nothing)
        self._count += finite
        self._every += values

    def read(self) -> dict[str, float]:
        """Means since the last reading; nothing if there was no update. Waits for the device.

        And 1 for each name behind `NOT_FINITE` that was not finite.
        """
        *sums, count = torch.cat([self._every, self._sums, self._count[None]]).tolist()
        self._every.zero_()
        self._sums.zero_()
        self._count.zero_()
        every, sums = sums[: len(self._names)], sums[len(self._names) :]
        bad = {f"{NOT_FINITE}{name}": 1.0 for name, total in zip(self._names, every) if not math.isfinite(total)}
        return bad | ({name: total / count for name, total in zip(self._names, sums)} if count else {})


NOT_FINITE = "not_finite/"
SKIPPED = "skipped_non_finite"
"""Last word of the names under which optimisers report how many steps they have left out."""


def mean(values: Tensor, loss_mask: Tensor | None) -> Tensor:
    """() mean of values (..., N) over those whose `loss_mask` (N,) float32 is 1: all if None."""
    if loss_mask is None:
        return values.mean()
    return (values * loss_mask).sum() / (loss_mask.expand_as(values).sum().clamp(min=1))


def variance(values: Tensor, loss_mask: Tensor | None = None) -> Tensor:
    """() variance of values (..., N) over those of the loss mask, as for `mean`."""
    if loss_mask is None:
        return values.var(unbiased=False)
    return mean((values - mean(values, loss_mask)).square(), loss_mask)


def explained_variance(averages: dict[str, float]) -> dict[str, float]:
    """Returns averages with the share of the targets' variance that values explain, in place of what it is made of.

    It is 1 - Var(target - value) / Var(target): 1 where values foresee all, 0 where a constant would say as much, below
    where that would say more. Without any variance there is none.
    """
    error, whole = averages.pop(ERROR_VARIANCE, 0.0), averages.pop(TARGET_VARIANCE, 0.0)
    return averages | ({"value/explained_variance": 1 - error / whole} if whole > 0 else {})


ERROR_VARIANCE, TARGET_VARIANCE = "value/error_variance", "value/target_variance"
"""Names under which an algorithm logs these; `explained_variance` follows from their averages."""


def column_mean(values: Tensor, loss_mask: Tensor | None) -> Tensor:
    """(X,) means of values (N, X) over the rows of the loss mask, as for `mean`."""
    return values.mean(0) if loss_mask is None else loss_mask @ values / loss_mask.sum().clamp(min=1)


def seeded(make: Callable[[], T], seed: int) -> T:
    """Makes modules whose first weights follow from `seed`; torch's global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def numpy_state(rng: np.random.Generator) -> Tensor:
    """The generator's state as bytes, read back by `load_numpy_state`."""
    return torch.tensor(list(json.dumps(rng.bit_generator.state).encode()), dtype=torch.uint8)


def load_numpy_state(rng: np.random.Generator, state: Tensor) -> None:
    """Takes over what `numpy_state` gave."""
    rng.bit_generator.state = json.loads(bytes(state.tolist()))


def load_torch_state(generator: Generator, state: Tensor) -> None:
    """Takes over what `get_state` gave; a generator of another kind of device keeps its own state."""
    if state.shape == generator.get_state().shape:
        generator.set_state(state.cpu())


def words_of(error: Exception) -> str:
    """Returns what a user's code raised, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names start with `prefix`, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
