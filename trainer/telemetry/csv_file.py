"""Writes a run's metrics as `metrics.csv`, for spreadsheets: a row each point, a column each metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from envs.process.whole_files import write_whole
from trainer.telemetry.writers import MetricWriter

CSV_FILE = "metrics.csv"
_AXES = ["samples", "seconds"]


class CsvFile(MetricWriter):
    """Appends a row each point. A metric that appears later gets a column behind the others."""

    def __init__(self, folder: Path, samples: int = 0) -> None:
        """Removes the rows beyond `samples`, which a resume has undone."""
        self._path = folder / CSV_FILE
        self._columns: list[str] = list(_AXES)
        rows = self._rows()
        self._rewrite([row for row in rows if int(row["samples"]) <= samples])

    def values(self, samples: int, seconds: float, values: Mapping[str, float]) -> None:
        """Appends a row, and a column for each new name."""
        if new := [name for name in values if name not in self._columns]:
            rows = self._rows()
            self._columns += new
            self._rewrite(rows)
        row = {"samples": str(samples), "seconds": f"{seconds:.3f}", **{k: f"{v:.7g}" for k, v in values.items()}}
        with self._path.open("a", encoding="utf-8", newline="") as file:
            self._writer(file).writerow(row)

    def _rows(self) -> list[dict[str, str]]:
        """Returns the whole rows that are there, and takes over their columns."""
        if not self._path.exists():
            return []
        with self._path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            self._columns += [name for name in reader.fieldnames or () if name not in self._columns]
            return [row for row in reader if None not in row.values() and str(row.get("samples")).isdecimal()]

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self._path, text.getvalue().encode())

    def _writer(self, file: io.TextIOBase | io.StringIO) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self._columns, restval="", extrasaction="ignore", lineterminator="\n")
