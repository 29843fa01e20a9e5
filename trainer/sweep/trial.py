"""A trial while it is made: its runs, one for each seed, in a process of their own, and what they have reached."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.process.cores import SHARE
from trainer.checkpoint import CheckpointStore
from trainer.sweep.plan import POINTS, Plan
from trainer.sweep.settings import Average
from trainer.sweep.study import Claimed, trial_folder
from trainer.telemetry.metrics_file import METRICS_FILE

TRAIN = (sys.executable, "-m", "outstep", "train")
"""How a run is started."""
LOG = "output.log"
"""What the runs of a trial print, in its folder."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_TAIL = 4096


class Reading:
    """Reads a run's `metrics.jsonl` while it grows: of each point of the run, the score at it."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._path, self._plan = folder / METRICS_FILE, plan
        self._forget()

    def _forget(self) -> None:
        self._offset, self._file_id = 0, 0
        self.scores: dict[int, float] = {}
        """By point, from 1 to `POINTS`."""
        self.latest: float | None = None
        self.samples, self.share = 0, 0.0
        self.names: dict[str, None] = {}
        """Metrics that it has."""

    def look(self) -> None:
        """Reads what has been written since. A run that is resumed may have written its file again."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._file_id or status.st_size < self._offset:
                    self._forget()
                    self._file_id = status.st_ino
                file.seek(self._offset)
                whole, _, _ = file.read().rpartition(b"\n")
        except OSError:
            return
        self._offset += len(whole) + bool(whole)
        for line in whole.splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            found: dict[str, float] = json.loads(line)
            samples, seconds = int(found["samples"]), float(found["seconds"])
        except (ValueError, KeyError, TypeError):
            return
        value = found.get(self._plan.settings.metric)
        self.names |= dict.fromkeys(name for name in found if "/" in name)
        first = self.latest is None
        if isinstance(value, (int, float)) and math.isfinite(value):
            self.latest = float(value)
        before, self.samples, self.share = self.share, samples, self._plan.share(samples, seconds)
        if self.latest is None:
            return
        begin = math.floor(before * POINTS) if not first else math.floor(self.share * POINTS) - 1
        for point in range(max(begin, 0) + 1, math.floor(self.share * POINTS) + 1):
            self.scores.setdefault(point, self.latest)


@dataclass
class _Attempt:
    """A run that is under way."""

    process: subprocess.Popen[bytes]
    starts: int
    """How often it was started."""


class RunningTrial:
    """A trial that this process makes."""

    def __init__(self, claimed: Claimed, plan: Plan, ended: Callable[[RunningTrial, int], None]) -> None:
        """Starts nothing yet; `ended` is called with the exit status of each run, from another thread."""
        self.claimed, self._plan, self._ended = claimed, plan, ended
        self.bad = False
        """Whether the pruner has ended it."""
        self._place = 0
        self._noted: set[int] = set()
        self._attempt: _Attempt | None = None
        self._seeds: list[int | None] = list(plan.seeds)
        if any(each.name == "seed" for each in plan.parameters):
            self._seeds = [None]
        self._readings = [Reading(self._run_folder(place), plan) for place in range(len(self._seeds))]

    @property
    def reading(self) -> Reading:
        """What the run has reached that is under way."""
        return self._readings[self._place]

    @property
    def is_last(self) -> bool:
        """Whether no run comes behind it."""
        return self._place == len(self._seeds) - 1

    @property
    def starts(self) -> int:
        """How often its run was started."""
        return self._attempt.starts if self._attempt else 0

    @property
    def is_alive(self) -> bool:
        """Whether a run is under way."""
        return self._attempt is not None and self._attempt.process.poll() is None

    @property
    def log(self) -> Path:
        """The file with what its runs print."""
        return self.claimed.folder / LOG

    def start(self) -> None:
        """Starts the run of the present seed, or goes on with it."""
        words = [*TRAIN, *self._words()]
        environment = {**os.environ, **dict.fromkeys(_THREADS, str(self._plan.cores)), SHARE: str(self._plan.cores)}
        # A group of its own: Ctrl+C on the terminal reaches the sweep alone, which ends its runs.
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own command
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, **apart
            )
        self._attempt = _Attempt(process, self.starts + 1)
        threading.Thread(target=self._wait, args=(process,), daemon=True).start()

    def next_seed(self) -> None:
        """Starts the run of the next seed."""
        self._place, self._attempt = self._place + 1, None
        self.start()

    def end(self, kill: bool = False) -> None:
        """Asks the run to save and end, or kills it."""
        if self._attempt is None or not self.is_alive:
            return
        if kill:
            self._attempt.process.kill()
        elif sys.platform == "win32":
            self._attempt.process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            self._attempt.process.terminate()

    def look(self) -> list[tuple[int, float]]:
        """Returns points and scores of the trial that are new.

        At each point of the second seed's run, behind those of the first, stands what both have reached there.
        """
        self.reading.look()
        before = [each.scores for each in self._readings[: self._place]]
        found = []
        for point, score in self.reading.scores.items():
            if (at := self._place * POINTS + point) in self._noted:
                continue
            self._noted.add(at)
            others = [_nearest(scores, point) for scores in before if scores]
            found.append((at, average([*others, score], self._plan.settings.average)))
        return found

    def score(self) -> float | None:
        """Returns what its runs have reached last; None if one has not written the metric."""
        for each in self._readings:
            each.look()
        reached = [each.latest for each in self._readings[: self._place + 1]]
        known = [each for each in reached if each is not None]
        return average(known, self._plan.settings.average) if len(known) == len(reached) else None

    def error(self, status: int) -> str:
        """Returns what its run has said last of why it failed."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (said or lines or [f"exit status {status}"])[-1].strip()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        self._ended(self, process.wait())

    def _run_folder(self, place: int) -> Path:
        return run_folder(self.claimed.folder, self._seeds[place])

    def _words(self) -> list[str]:
        """Returns the words of `outstep train` for the present run."""
        folder, part = self._run_folder(self._place), self.claimed.part
        if part is not None and part.parent is not None and not part.takes_over:
            _copy_run(run_folder(trial_folder(self._plan.folder, part.parent), self._seeds[self._place]), folder)
        stop = [f"stop.samples={part.stop}"] if part is not None else []
        if (folder / "config.yaml").is_file() and CheckpointStore(folder / "checkpoints").latest() is not None:
            return [f"resume={folder}", *stop]
        seed = self._seeds[self._place]
        own = [each.word(self.claimed.values[each.name]) for each in self._plan.parameters]
        own += [*self._plan.log_words(), f"run.dir={folder}", *([] if seed is None else [f"seed={seed}"]), *stop]
        if part is not None and part.parent is not None and part.takes_over:
            source = run_folder(trial_folder(self._plan.folder, part.parent), seed)
            own.append(f"init={CheckpointStore(source / 'checkpoints').latest() or source}")
        return [*self._plan.flags(), *self._plan.words, *own]


def average(scores: Sequence[float], kind: Average) -> float:
    """Returns the mean of scores, or their interquartile mean: a quarter of them at each end, in parts, is left out."""
    if kind is Average.mean:
        return float(np.mean(scores))
    ordered, left_out = np.sort(np.array(scores, np.float64)), len(scores) / 4
    edges = np.arange(len(ordered) + 1)
    kept = np.diff(np.clip(edges, left_out, len(ordered) - left_out))
    return float((ordered * kept).sum() / kept.sum())


def _nearest(scores: dict[int, float], point: int) -> float:
    """Returns the score at a point, or at the one that is nearest to it."""
    return scores[min(scores, key=lambda at: abs(at - point))]


def run_folder(trial: Path, seed: int | None) -> Path:
    """Returns the folder of a trial's run with this seed; None = the trial's own."""
    return trial / ("run" if seed is None else f"seed-{seed}")


def _copy_run(source: Path, folder: Path) -> None:
    """Copies what a run can be resumed from, unless that was done before."""
    if folder.exists():
        return
    aside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    store = CheckpointStore(source / "checkpoints")
    aside.mkdir()
    for file in source.iterdir():
        if file.is_file() and file.name in _KEPT:
            shutil.copy2(file, aside)
    for checkpoint in (store.latest(), store.best()):
        if checkpoint is not None:
            shutil.copytree(checkpoint, aside / "checkpoints" / checkpoint.name)
    aside.rename(folder)


_KEPT = ("config.yaml", "signature", "spaces.json", METRICS_FILE, "train.log")
"""Files of a run that it goes on with."""
