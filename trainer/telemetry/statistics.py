"""What a collector reports: finished episodes, and where its time and that of its instances went. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from envs.spec import Array, Lessons


class Episode(NamedTuple):
    """One finished episode of one agent."""

    instance: int
    samples: int
    """The run's samples when it ended, of all behaviors together."""
    reward: float
    length: int
    metrics: dict[str, float]
    lessons: Lessons | None = None
    """Those in which it was played; None where the environment's parameters have none."""


@dataclass(frozen=True)
class Statistics:
    """A collector's figures since it began to act. Arrays are by instance and count from its first completed step on.

    Shapes: I instances.
    """

    samples: Array
    """(I,) samples after the first."""
    spans: Array
    """(I,) seconds from the first completed step to the latest."""
    busy: Array
    """(I,) seconds of these in which the instance was stepping or resetting, as its worker measured."""
    elapsed: float
    """Seconds since the first action."""
    seconds: dict[str, float]
    """How many seconds the collector spent in each of its activities."""
    layout: str
    """How instances are spread over workers, in words."""

    @staticmethod
    def none() -> Statistics:
        """Returns the statistics of a run that has not begun to act."""
        nothing = np.zeros(0)
        return Statistics(nothing, nothing, nothing, 0.0, {}, "")

    def after(self, before: Statistics) -> Statistics:
        """Returns the sum of these statistics and those of the collectors `before` in the same run."""
        return self._plus(before, 1)

    def since(self, before: Statistics) -> Statistics:
        """Returns the statistics of the time after `before`."""
        return self._plus(before, -1)

    def supply(self) -> tuple[float, float]:
        """Returns the samples, and how many the instances could have delivered if they had never had to wait."""
        known = self.busy > 0
        samples = self.samples[known]
        return float(samples.sum()), float((samples * self.spans[known] / self.busy[known]).sum())

    def _plus(self, other: Statistics, sign: int) -> Statistics:
        if not len(other.samples):
            return self
        return Statistics(
            self.samples + sign * other.samples,
            self.spans + sign * other.spans,
            self.busy + sign * other.busy,
            self.elapsed + sign * other.elapsed,
            {name: value + sign * other.seconds.get(name, 0.0) for name, value in self.seconds.items()},
            self.layout,
        )
