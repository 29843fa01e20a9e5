"""A training run as a command of its own, with all processes below it: who is who, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil

from tests.stress.witness import Life, lives

INSTANCES = 16
LEFT_SECONDS = 5.0
"""So long after its end nothing may be left of a run."""
_ROOT = Path(__file__).resolve().parents[2]
_MARK = "OUTSTEP_TRIAL"
"""Environment variable by which every process of a trial is known, whoever its parent is by then."""
_SHARED_MEMORY = Path("/dev/shm")


class Left(NamedTuple):
    """What a run has left behind."""

    processes: int
    sockets: int
    shared_memory: int
    seconds: float | None
    """Until nothing was left; None if something was when time was up."""
    words: list[str]
    """Each of them."""


class Trial:
    """`python -m trainer` on the game that can be audited, until it ends; leaving it kills whatever is left.

    Args:
        kind: `gym` or `unity`.
        folder: the run's will be `run` in it; the lives of the game are in `lives`.
        overrides: the trainer's, beside those that make the env.
        instances: how many.
        record: whether the game's steps are recorded.
        game: the Gymnasium id of the game, by default the witness; it takes the same arguments.
        module: what is run in place of `trainer`, and behaves alike.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        overrides: Sequence[str],
        instances: int = INSTANCES,
        record: bool = True,
        game: str = "tests.stress.witness:Witness-v0",
        module: str = "trainer",
    ) -> None:
        self.kind, self.folder, self.instances = kind, folder / "run", instances
        self._lives, self._known_lives = folder / "lives", dict[int, Life]()
        self._lives.mkdir(parents=True)
        self._mark = uuid.uuid4().hex
        self._pids: set[int] = set()
        self._ports: set[int] = set()
        command = [sys.executable, "-m", module, *_env(kind, game, self._lives, instances, record), *overrides]
        with (folder / "output.txt").open("wb") as output:
            self.process = subprocess.Popen(
                [*command, f"run.dir={self.folder}"],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, _MARK: self._mark},
                start_new_session=True,  # so that a signal to its group is not ours too
            )
        self.learner = psutil.Process(self.process.pid)

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [self.learner, *self.processes()]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()

    @property
    def running(self) -> bool:
        """Whether the command has not ended."""
        return self.process.poll() is None

    def lives(self) -> dict[int, Life]:
        """All lives of the game so far, by number."""
        return lives(self._lives, self._known_lives)

    def playing(self) -> list[Life]:
        """Those that are played now."""
        return [life for life in self.lives().values() if not life.closed and _runs(life.pid)]

    @property
    def begun(self) -> bool:
        """Whether the clock of `stop.seconds` runs."""
        return (self.folder / "train.log").exists()

    def collector(self) -> psutil.Process | None:
        """The collector's process, if there is one now; before, that of the first look. Not in runs that evaluate."""
        return _newest(spawned_by(self.learner))

    def evaluator(self) -> psutil.Process | None:
        """The process that plays evaluations, once there is one beside the collector."""
        children = spawned_by(self.learner)
        return _newest(children) if len(children) > 1 else None

    def launcher(self) -> psutil.Process | None:
        """The launcher's process, if there is one now."""
        collector = self.collector() if self.kind == "unity" else None
        return _newest(spawned_by(collector)) if collector is not None else None

    def pictures(self) -> psutil.Process | None:
        """The process that draws a picture of play, if there is one now."""
        collector, workers = self.collector(), {life.pid for life in self.playing()}
        drawing = [each for each in spawned_by(collector) if each.pid not in workers] if collector is not None else []
        return _newest(drawing)

    def processes(self) -> list[psutil.Process]:
        """All processes of the run that are there now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(_MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def note(self) -> None:
        """Remembers processes and ports of the run, to be looked for at its end."""
        self._pids |= {process.pid for process in self.processes()}
        self._ports |= {
            each.laddr.port
            for each in psutil.net_connections("inet")
            if each.pid in self._pids and each.status == psutil.CONN_LISTEN
        }

    def left(self, since: float, most: float | None = None) -> Left:
        """What is left of the run, which ended at `since` (monotonic): looks until nothing is, or time is up.

        That is after `most` seconds, `LEFT_SECONDS` by default.
        """
        while True:
            words = [*self._left()]
            seconds = time.monotonic() - since
            if not words or seconds > (LEFT_SECONDS if most is None else most):
                kinds = [word.partition(" ")[0] for word in words]
                processes, sockets, memory = (kinds.count(kind) for kind in ("process", "socket", "memory"))
                return Left(processes, sockets, memory, None if words else seconds, words)
            time.sleep(0.05)

    def _left(self) -> Iterator[str]:
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.Error):
                yield f"process {process.pid}: {' '.join(process.cmdline())[:120]}"
        pids = self._pids | {process.pid for process in processes}
        for each in psutil.net_connections("inet"):
            ours = each.pid in pids or (each.pid is None and each.laddr.port in self._ports)
            if ours and each.status != psutil.CONN_TIME_WAIT:  # which the kernel keeps for itself
                yield f"socket {each.laddr.port}: {each.status}"
        for name in os.listdir(_SHARED_MEMORY) if _SHARED_MEMORY.is_dir() else ():
            if any(int(number) in pids for number in re.findall(r"\d+", name)):
                yield f"memory {name}"


def spawned_by(parent: psutil.Process) -> list[psutil.Process]:
    """Returns the processes of ours that a process has started; what games start is not among them."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in parent.children():
            with contextlib.suppress(psutil.Error):
                if "spawn_main" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
    return found


def send(pid: int, number: signal.Signals) -> bool:
    """Sends a signal; tells whether there was a process to send it to."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _env(kind: str, game: str, folder: Path, instances: int, record: bool) -> list[str]:
    chosen: list[Any] = [f"env.instances={instances}", "env.time_scale=1", "env.restarts=1000000"]
    if kind == "gym":
        # Two to a worker: what fails with a worker, and what fails in it alone, are different things.
        chosen += ["env=gym", f"env.id={game}", f"env.workers={max(1, instances // 2)}"]
        return [*chosen, f"+env.kwargs.folder={folder}", f"+env.kwargs.record={str(record).lower()}"]
    words = f"env={game} kwargs.folder={folder} kwargs.record={str(record).lower()}"
    return [*chosen, "env=unity", f"env.player={words}"]


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _newest(processes: list[psutil.Process]) -> psutil.Process | None:
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.append((process.create_time(), process.pid, process))
    return max(found)[2] if found else None
