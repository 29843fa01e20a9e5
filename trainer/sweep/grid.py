"""Several runs one after another (`-m`), and the table of what they have reached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.spec import UserError
from trainer.config.schema import TrainConfig, overridden_settings
from trainer.data_files import read_json
from trainer.runtime.start import start
from trainer.telemetry.metrics_file import read_metrics
from trainer.telemetry.tables import print_table

HEADINGS = ("run", "best reward", "last reward", "samples", "seconds", "state", "folder")
_REWARDS = ("evaluation/reward", "episode/reward")
"""Metrics by which runs are judged: the first that a run has."""
_PLAIN_WIDTH = 1000
"""Columns of the table where it does not go to a terminal."""
_LONGEST = 60
"""Characters of an error in the table; the whole was printed when it happened."""


@dataclass
class _Run:
    config: TrainConfig
    folder: Path | None = None
    error: str = ""
    """What has ended it, if it failed."""


class Grid:
    """The runs of one command line."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def start(self, config: TrainConfig) -> int:
        """Does what `trainer.runtime.start.start` does, and keeps in mind what became of the run."""
        run = _Run(config)
        self._runs.append(run)

        def begun(folder: Path) -> None:
            run.folder = folder

        try:
            return start(config, begun)
        except UserError as error:
            run.error = str(error).splitlines()[0]
            raise

    def report(self) -> None:
        """Prints a table of the runs, the best first, if there was more than one."""
        if len(self._runs) < 2:
            return
        print_table(HEADINGS, self.table(), ("run", "state", "folder"), _PLAIN_WIDTH)

    def table(self) -> list[list[str]]:
        """Returns a row for each run, as `HEADINGS` say, the best first."""
        given = [overridden_settings(run.config.run) for run in self._runs]
        keys = [key for key in dict.fromkeys(key for each in given for key in each) if not key.startswith("run.")]
        differing = [key for key in keys if len({each.get(key) for each in given}) > 1]
        rows = []
        for run, own in zip(self._runs, given):
            rewards, summary = _rewards(run), _summary(run)
            name = " ".join(f"{key}={own[key]}" for key in differing if key in own)
            reached = [f"{value:.4g}" for value in (max(rewards), rewards[-1])] if rewards else ["-", "-"]
            effort = [f"{summary.get('samples', 0):,}", f"{summary.get('seconds', 0):.0f}"]
            state = f"failed: {run.error[:_LONGEST]}" if run.error else str(summary.get("stopped_by", "failed"))
            score = max(rewards, default=-math.inf)
            rows.append((score, [name, *reached, *effort, state, "-" if run.folder is None else str(run.folder)]))
        return [row for _, row in sorted(rows, key=lambda each: each[0], reverse=True)]


def _rewards(run: _Run) -> list[float]:
    """Returns the rewards that a run is judged by: of evaluations if it made any, else of training."""
    metrics = read_metrics(run.folder).found if run.folder else {}
    found: list[float] = next((metrics[name][1].tolist() for name in _REWARDS if name in metrics), [])
    return found


def _summary(run: _Run) -> dict[str, Any]:
    """Returns what a run has left in `summary.json`; nothing if it came to no end."""
    file = run.folder / "summary.json" if run.folder else None
    found: dict[str, Any] = read_json(file) if file is not None and file.exists() else {}
    return found
