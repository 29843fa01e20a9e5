"""Keeps the number of updates for each sample where the algorithm wants it: two functions of two counts, no sleeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

_ROUNDING = 1e-6  # in updates; a ratio such as 1/49 times 49 samples falls short of 1


@dataclass(frozen=True)
class RateLimiter:
    """Holds `updates_per_sample` within `tolerance` samples, counting rows that can be drawn.

    The counts begin at the origin: a run that is resumed without its replay fills it again, and lost rows ask for no
    updates. Whenever `may_write` is False, `may_update` is True, so the two sides never wait for each other.
    """

    updates_per_sample: float
    start_samples: int
    """Sampleable rows before the first update."""
    tolerance: float
    """Samples by which the learner may lag before games are throttled; at least those of one update."""
    origin_samples: int = 0
    origin_updates: int = 0

    def __post_init__(self) -> None:
        if not self.updates_per_sample > 0 or self.tolerance * self.updates_per_sample < 1 - _ROUNDING:
            raise ValueError(f"{self}: the ratio must be positive, the tolerance hold at least one update's samples")

    def may_update(self, samples: int, updates: int) -> bool:
        """Returns whether one more update keeps within what `samples` sampleable rows allow."""
        return updates < self.due_updates(samples)

    def may_write(self, samples: int, updates: int) -> bool:
        """Returns whether acting may go on: False only when the learner is `tolerance` samples behind."""
        if samples < self.origin_samples + self.start_samples:
            return True
        return self.allowed_updates(samples - self.tolerance) + _ROUNDING < updates

    def due_updates(self, samples: int) -> int:
        """Returns the whole updates that so many sampleable rows ask for in all."""
        return math.floor(self.allowed_updates(samples) + _ROUNDING)

    def allowed_updates(self, samples: float) -> float:
        """Returns the updates that so many sampleable rows allow in all."""
        return self.origin_updates + (samples - self.origin_samples - self.start_samples) * self.updates_per_sample
