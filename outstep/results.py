"""What a run tells in numbers: its metrics, and what an evaluation has scored.

Shapes: T logging intervals, N episodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from envs.spec import Array


class Metric(NamedTuple):
    """One metric over a run."""

    samples: Array
    """(T,) int64: samples of the run at each point."""
    seconds: Array
    """(T,) float64: seconds of training at each point."""
    values: Array
    """(T,) float64."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a policy has scored."""

    rewards: Array
    """(N,) float64: the sum of rewards of each episode."""
    lengths: Array
    """(N,) int64: the steps of each episode."""
    metrics: dict[str, Array]
    """(N,) float64 by name: the numbers that the environment reported at the end of each episode, NaN where none."""

    @property
    def mean(self) -> float:
        """The mean of the rewards."""
        return float(self.rewards.mean())

    @property
    def deviation(self) -> float:
        """The standard deviation of the rewards from episode to episode; 0 for a single one."""
        return float(self.rewards.std(ddof=1)) if len(self.rewards) > 1 else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean: what chance in the episodes leaves open; NaN for a single one."""
        from trainer.evaluate.results import mean_interval

        return mean_interval(self.rewards.tolist()) if len(self.rewards) > 1 else (math.nan, math.nan)

    @property
    def wins(self) -> int | None:
        """How many episodes were won; None if they report no success, such as `is_success` or `won`."""
        from trainer.evaluate.results import won
        from trainer.telemetry.metrics import finite

        ends = [dict(zip(self.metrics, values)) for values in zip(*self.metrics.values())]
        found = [is_won for end in ends if (is_won := won(finite(end))) is not None]
        return sum(found) if found else None

    def __repr__(self) -> str:
        return f"Evaluation({len(self.rewards)} episodes: mean {self.mean:.4g}, deviation {self.deviation:.4g})"


def read_metrics(folder: Path) -> dict[str, Metric]:
    """Returns the metrics of the run in `folder` by name; none before the first logging interval."""
    from trainer.telemetry.metrics_file import read_metrics

    found = read_metrics(folder)
    return {name: Metric(*found.points(name)) for name in found.found}
