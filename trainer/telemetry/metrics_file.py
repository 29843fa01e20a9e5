"""`metrics.jsonl`: the one source of a run's metrics. Other writers get the same figures; reports read this file."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.process.whole_files import write_whole
from trainer.telemetry.writers import MetricWriter

METRICS_FILE = "metrics.jsonl"
_LONGEST_LINE = 2**20
"""Characters; a longer line is not ours and is passed over."""
_AXES = ("samples", "seconds", "time")


@dataclass(frozen=True)
class Metrics:
    """All metrics of a run. The arrays have one entry for each line of its file."""

    samples: NDArray[np.int64]
    """[lines]: of the run so far."""
    seconds: NDArray[np.float64]
    """[lines]: of training so far, earlier parts of a resumed run included."""
    time: NDArray[np.float64]
    """[lines]: seconds since 1970."""
    values: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """[lines] by name; NaN where a line does not have the metric."""

    def points(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Returns samples, seconds and values [points] of a metric where it was written. KeyError if it never was."""
        written = ~np.isnan(self.values[name])
        return self.samples[written], self.seconds[written], self.values[name][written]


class MetricsFile(MetricWriter):
    """Appends a line of JSON for each point: `{"samples": 5000, "seconds": 12.5, "time": …, "episode/reward": 9.1, …}`.

    A line is flushed at once, so that whoever reads the file while the run goes on sees whole lines.
    """

    def __init__(self, folder: Path, samples: int = 0) -> None:
        """Removes the lines beyond `samples`, which a resume has undone, and what was written of one in part."""
        path = folder / METRICS_FILE
        if path.exists():
            kept = [json.dumps(line) for line in _lines(path) if line["samples"] <= samples]
            write_whole(path, "".join(f"{line}\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def values(self, samples: int, seconds: float, values: Mapping[str, float]) -> None:
        """Appends a line."""
        rounded = {name: float(f"{value:.7g}") for name, value in values.items() if math.isfinite(value)}
        line = {"samples": samples, "seconds": round(seconds, 3), "time": round(time.time(), 3), **rounded}
        self._file.write(f"{json.dumps(line)}\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_metrics(folder: Path) -> Metrics:
    """Returns the metrics of the run in `folder`; without any lines if it has written none yet."""
    path = folder / METRICS_FILE
    lines = list(_lines(path)) if path.exists() else []
    axes = {axis: np.array([line.get(axis, 0.0) for line in lines], np.float64) for axis in _AXES}
    names = dict.fromkeys(name for line in lines for name in line if name not in _AXES)
    values = {name: np.array([line.get(name, np.nan) for line in lines], np.float64) for name in names}
    return Metrics(axes["samples"].astype(np.int64), axes["seconds"], axes["time"], values)


def _lines(path: Path) -> Iterator[dict[str, float]]:
    """Yields the whole lines of a file that are numbers by name; of damaged ones, nothing."""
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(_LONGEST_LINE):
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and isinstance(found.get("samples"), int):
                yield {
                    name: value
                    for name, value in found.items()
                    if isinstance(value, (int, float)) and abs(value) <= np.finfo(np.float64).max
                }
