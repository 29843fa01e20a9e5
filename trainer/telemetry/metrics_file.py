"""`metrics.jsonl`: the one source of a run's metrics. Other writers get the same figures; reports read this file."""

from __future__ import annotations

import json
import math
import time
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.process.whole_files import write_whole
from envs.spec import Array
from trainer.telemetry.writers import MetricWriter

METRICS_FILE = "metrics.jsonl"
_LONGEST_LINE = 2**20
"""Characters; a longer line is not ours and is passed over."""
_MOST_CHARACTERS = 2**29
"""Of what is read of a file: the metrics of some four weeks."""
_MOST_NAMES, _MOST_NUMBERS = 10_000, 2**26
"""Of a run with sixty metrics, four weeks have some 15 million numbers; each takes up to 16 bytes."""
_LARGEST = 1e300
_AXES = ("samples", "seconds", "time")


@dataclass(frozen=True)
class Metrics:
    """All metrics of a run.

    Shapes: L lines of the file.
    """

    samples: Array
    """(L,) int64: samples of the run so far."""
    seconds: Array
    """(L,) float64: seconds of training so far, earlier parts of a resumed run included."""
    time: Array
    """(L,) float64: seconds since 1970."""
    found: Mapping[str, tuple[Array, Array]]
    """By name: in which lines the metric is, and its values there."""

    def points(self, name: str) -> tuple[Array, Array, Array]:
        """Returns the samples, seconds and values of a metric where it was written. KeyError if it never was."""
        lines, values = self.found[name]
        return self.samples[lines], self.seconds[lines], values


class MetricsFile(MetricWriter):
    """Appends a line of JSON for each point: `{"samples": 5000, "seconds": 12.5, "time": …, "episode/reward": 9.1, …}`.

    A line is flushed at once, so that whoever reads the file while the run goes on sees whole lines.
    """

    def __init__(self, folder: Path, samples: int = 0) -> None:
        """Removes the lines beyond `samples`, which a resume has undone, and what was written of one in part."""
        path = folder / METRICS_FILE
        if path.exists():
            kept = [
                json.dumps({**line, "samples": int(line["samples"])})
                for line in _lines(path)
                if line["samples"] <= samples
            ]
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
    """Returns the metrics of the run in `folder`; without any lines if it has written none yet.

    Anybody may have written the file: of what is damaged, or beyond the bounds, nothing is returned.
    """
    axes = {axis: array("d") for axis in _AXES}
    columns: dict[str, tuple[array[int], array[float]]] = {}
    """By name, in which lines it is, and its values."""
    left = _MOST_NUMBERS
    for number, line in enumerate(_lines(folder / METRICS_FILE)):
        left -= max(len(line), len(axes))
        if left < 0:
            break
        for axis, values in axes.items():
            values.append(line.pop(axis, 0.0))
        for name, value in line.items():
            if name not in columns and len(columns) < _MOST_NAMES:
                columns[name] = array("q"), array("d")
            if name in columns:
                columns[name][0].append(number)
                columns[name][1].append(value)
    samples, seconds, times = (np.array(axes[axis], np.float64) for axis in _AXES)
    found = {name: (np.array(lines, np.int64), np.array(values)) for name, (lines, values) in columns.items()}
    return Metrics(samples.astype(np.int64), seconds, times, found)


def values_until(folder: Path, name: str, samples: int) -> list[float]:
    """Returns the values of one metric of the run in `folder`, up to so many samples."""
    metrics = read_metrics(folder)
    if name not in metrics.found:
        return []
    at, _, values = metrics.points(name)
    kept: list[float] = values[at <= samples].tolist()
    return kept


def _lines(path: Path) -> Iterator[dict[str, float]]:
    """Yields the whole lines of a file that are numbers by name; of damaged ones, nothing."""
    if not path.is_file():
        return
    left = _MOST_CHARACTERS
    with path.open(encoding="utf-8", errors="replace") as file:
        while left > 0 and (line := file.readline(_LONGEST_LINE)):
            left -= len(line)
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and isinstance(found.get("samples"), int) and 0 <= found["samples"] < 2**53:
                yield {name: float(value) for name, value in found.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    """Returns whether a value of JSON is one that a metric can have, and that can be drawn."""
    return isinstance(value, (int, float)) and abs(value) <= _LARGEST
