"""How fast a run is, and where its time goes: since the last point of its metrics, and over all of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.telemetry.statistics import Statistics

RELIABLE_SECONDS = 1.0
"""A shorter time says little: the collector reports twice a second."""

_SHARES_SHOWN = 64
"""Up to so many instances, the share of samples of each is a metric of its own."""


@dataclass(frozen=True)
class Measured:
    """What was measured over some time."""

    interval: float
    """Its seconds."""
    samples_per_second: float
    env_utilization: float | None
    """None before it can be estimated."""
    shares: Mapping[str, float]
    """Shares of time (0 to 1) by activity, those of collector and learner."""

    def scalars(self) -> dict[str, float]:
        """Returns them as metrics by name."""
        scalars = {"run/samples_per_second": self.samples_per_second}
        scalars |= {f"time/{name.replace(' ', '_')}": share for name, share in self.shares.items()}
        if self.env_utilization is not None:
            scalars["run/env_utilization"] = self.env_utilization
        return scalars


class Speed:
    """Measures a run from `samples` samples on, from what collector and learner report."""

    def __init__(self, samples: int, supply: tuple[float, float]) -> None:
        """`supply`: what an earlier part of the run has returned as such."""
        self.began = time.monotonic()
        self.statistics = Statistics.none()
        """The collector's latest figures."""
        self._reported_at = self.began
        self._samples_before, self._supply_before = samples, supply
        self._last = self.began, samples, self.statistics, dict[str, float]()

    @property
    def started(self) -> bool:
        """Whether games have begun to play."""
        return self.statistics.elapsed > 0

    def add(self, statistics: Statistics) -> None:
        """Takes the collector's latest figures."""
        self.statistics, self._reported_at = statistics, time.monotonic()

    def note(self, now: float, samples: int, learner_seconds: Mapping[str, float]) -> None:
        """Begins a new interval."""
        self._last = now, samples, self.statistics, dict(learner_seconds)

    def last(self, now: float, samples: int, learner_seconds: Mapping[str, float]) -> Measured:
        """Returns what was measured since the interval began.

        `learner_seconds` are, by activity, those that the learner has spent in this part of the run.
        """
        then, samples_then, statistics, learning = self._last
        interval = max(now - then, 1e-9)
        recent = self.statistics.since(statistics)
        rate = (samples - samples_then) / interval
        return Measured(
            interval, rate, _utilization(recent.supply()), _shares(recent, interval, learner_seconds, learning)
        )

    def whole(self, now: float, samples: int, learner_seconds: Mapping[str, float]) -> Measured:
        """Returns what was measured since this part of the run began; utilization is that of all parts."""
        interval = max(now - self.began, 1e-9)
        rate = 0.0
        if self.started:
            rate = (samples - self._samples_before) / (self.statistics.elapsed + now - self._reported_at)
        shares = _shares(self.statistics, interval, learner_seconds, {})
        return Measured(interval, rate, _utilization(self.supply()), shares)

    def supply(self) -> tuple[float, float]:
        """Returns the samples, and how many could have been delivered meanwhile, over all parts of the run."""
        counted, supply = self.statistics.supply()
        return self._supply_before[0] + counted, self._supply_before[1] + supply

    def instance_shares(self) -> dict[str, float]:
        """Returns, as metrics by name, which shares of the samples instances have delivered."""
        counts = self.statistics.samples
        shares = [float(share) for share in counts / max(1, counts.sum())]
        scalars = {"instances/smallest_share": min(shares), "instances/largest_share": max(shares)} if shares else {}
        if len(shares) <= _SHARES_SHOWN:
            scalars |= {f"instances/share_{i}": share for i, share in enumerate(shares)}
        return scalars

    @property
    def first(self) -> bool:
        """Whether the interval is the first one."""
        return self._last[0] == self.began


def _utilization(supply: tuple[float, float]) -> float | None:
    counted, possible = supply
    return counted / possible if possible else None


def _shares(
    collector: Statistics, interval: float, learner: Mapping[str, float], before: Mapping[str, float]
) -> dict[str, float]:
    shares = {word: seconds / max(collector.elapsed, 1e-9) for word, seconds in collector.seconds.items()}
    return shares | {word: (seconds - before.get(word, 0.0)) / interval for word, seconds in learner.items()}
