"""What a run tells in numbers: its metrics, and what an evaluation has scored.

Shapes: T logging intervals, N episodes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from envs.spec import Array

METRICS = "metrics.jsonl"
"""The file in a run's folder with a line for each logging interval: samples, seconds and values by name."""


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

    def __repr__(self) -> str:
        return f"Evaluation({len(self.rewards)} episodes: mean {self.mean:.4g}, deviation {self.deviation:.4g})"


def read_metrics(folder: Path) -> dict[str, Metric]:
    """Returns the metrics of the run in `folder` by name; none before the first logging interval.

    What was written beyond the checkpoint from which the run was resumed is left out, as the resume has undone it. So
    is a line that is being written.
    """
    file = folder / METRICS
    points: dict[str, list[tuple[int, float, float]]] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            point = json.loads(line)
            samples, seconds, values = int(point["samples"]), float(point["seconds"]), dict(point["values"])
        except (ValueError, KeyError, TypeError):  # cut short
            continue
        for name, value in values.items():
            before = points.setdefault(name, [])
            while before and before[-1][0] > samples:
                before.pop()
            before.append((samples, seconds, float(value)))
    return {name: _metric(*zip(*found)) for name, found in points.items()}


def _metric(samples: tuple[int, ...], seconds: tuple[float, ...], values: tuple[float, ...]) -> Metric:
    return Metric(np.array(samples, np.int64), np.array(seconds, np.float64), np.array(values, np.float64))
