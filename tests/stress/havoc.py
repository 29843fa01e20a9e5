"""What is done to a run while it goes on: faults drawn by a seed, and who fails by them."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import psutil

from tests.stress.trial import Trial, send
from tests.stress.witness import NAN_OBSERVATION, NAN_REWARD, NAP, Life

STEP_TIMEOUT = 5.0
"""`env.step_timeout` of these runs, in seconds."""
CHECKPOINT_SECONDS = 5.0
"""`checkpoint.every_seconds` of these runs."""
PAUSE_SECONDS = 1.5
"""A process that is stopped for so long has not failed."""
DISK_SECONDS = 1.5 * CHECKPOINT_SECONDS
"""The disk refuses for so long: at least one checkpoint is tried."""
_FILE_BYTES = 4096

WEIGHTS = {
    "kill": 8,
    "stop": 5,
    "pause": 4,
    "nan": 8,
    "hang": 5,
    "slow": 4,
    "kill_warden": 2,
    "kill_collector": 1.5,
    "stop_collector": 0.5,  # half a minute passes before it is given up
    "pause_collector": 2,
    "disk": 4,
}
"""Kinds of faults, and how often each is drawn."""
KINDS = {
    "kill": "a worker or player is killed",
    "stop": "a worker or player is stopped for good",
    "pause": f"a worker or player is stopped for {PAUSE_SECONDS:g} s",
    "nan": "a step returns NaN, as an observation or a reward",
    "hang": "a step takes longer than env.step_timeout",
    "slow": "a step takes a third of env.step_timeout",
    "kill_warden": "the launcher is killed (Unity)",
    "kill_collector": "the collector is killed",
    "stop_collector": "the collector is stopped for good",
    "pause_collector": f"the collector is stopped for {PAUSE_SECONDS:g} s",
    "disk": "the disk refuses checkpoints: files stay short, or there is a file in the place of their folder",
}


class Havoc:
    """Draws faults and does them to a trial.

    Args:
        trial: the run.
        kinds: of `KINDS`, those to draw from.
        every: seconds between two, on average.
        seed: of what, when and whom.
    """

    def __init__(self, trial: Trial, kinds: Sequence[str], every: float, seed: int) -> None:
        self.done: Counter[str] = Counter()
        """Faults by kind."""
        self.log: list[str] = []
        """Each of them, in words."""
        self._trial, self._every = trial, every
        self._kinds = [kind for kind in kinds if kind != "kill_warden" or trial.kind == "unity"]
        self._rng = np.random.default_rng(seed)
        self._pids: set[int] = set()
        self._parents: set[int] = set()
        self._lives: set[int] = set()
        self._undo: list[tuple[float, Callable[[], object]]] = []
        """When (monotonic), and what."""
        self._refusing = 0.0
        self._began = self._before = time.monotonic()
        self._due = self._pause()
        """Seconds until the next fault, those in which it is calm left out."""

    def turn(self, calm: bool) -> None:
        """Does what is due; when `calm`, undoes what can be undone and does nothing new."""
        now = time.monotonic()
        for due, undo in self._undo:
            if calm or due <= now:
                with contextlib.suppress(ProcessLookupError):  # the run may have ended meanwhile
                    undo()
        self._undo = [] if calm else [each for each in self._undo if each[0] > now]
        self._due -= 0.0 if calm else now - self._before
        self._before = now
        if calm or self._due > 0:
            return
        weights = np.array([WEIGHTS[kind] for kind in self._kinds], float)
        kind = self._kinds[self._rng.choice(len(weights), p=weights / weights.sum())]
        whom = _ACTS[kind](self)
        if whom is None:  # there is nobody yet to whom it could happen
            self._due = 0.2
            return
        self.done[kind] += 1
        self.log.append(f"{time.monotonic() - self._began:7.1f} s  {kind}: {whom}")
        self._due = self._pause()

    def failed(self) -> set[int]:
        """The lives that were made to fail, by number."""
        return {
            number
            for number, life in self._trial.lives().items()
            if number in self._lives or life.pid in self._pids or life.parent in self._parents
        }

    def _pause(self) -> float:
        return float(self._every * self._rng.uniform(0.5, 1.5))

    def _someone(self) -> Life | None:
        playing = [life for life in self._trial.playing() if life.pid not in self._pids and not life.reported]
        playing = [life for life in playing if life.steps]
        return playing[self._rng.integers(len(playing))] if playing else None

    def _signal_player(self, number: signal.Signals, lasting: bool = True) -> str | None:
        life = self._someone()
        if life is None or not send(life.pid, number):
            return None
        if lasting:
            self._pids.add(life.pid)
        else:
            self._continue(life.pid)
        return f"process {life.pid} of life {life.number}"

    def _signal(
        self, process: psutil.Process | None, number: signal.Signals, parents: Sequence[psutil.Process | None] = ()
    ) -> str | None:
        """Signals a process above the players; they fail if it does, which is said by their `parents`."""
        if process is None or not self._trial.playing():
            return None
        self._parents |= {parent.pid for parent in parents if parent is not None}
        return f"process {process.pid}" if send(process.pid, number) else None

    def _signal_collector(self, number: signal.Signals) -> str | None:
        collector = self._trial.collector()
        return self._signal(collector, number, [collector, self._trial.launcher()])

    def _pause_collector(self) -> str | None:
        collector = self._trial.collector()
        whom = self._signal(collector, signal.SIGSTOP)
        if collector is not None:
            self._continue(collector.pid)
        return whom

    def _kill_warden(self) -> str | None:
        launcher = self._trial.launcher()
        return self._signal(launcher, signal.SIGKILL, [launcher])

    def _continue(self, pid: int) -> None:
        self._undo.append((time.monotonic() + PAUSE_SECONDS, lambda: send(pid, signal.SIGCONT)))

    def _tell(self, command: int, seconds: float = 0.0) -> str | None:
        life = self._someone()
        if life is None:
            return None
        if command != NAP:
            self._lives.add(life.number)
        elif seconds > STEP_TIMEOUT:
            self._pids.add(life.pid)
        life.tell(command, seconds)
        return f"life {life.number} of process {life.pid}"

    def _spoil(self) -> str | None:
        return self._tell(NAN_OBSERVATION if self._rng.random() < 0.5 else NAN_REWARD)

    def _refuse(self) -> str | None:
        """Lets the disk refuse checkpoints for a while."""
        folder, until = self._trial.folder / "checkpoints", time.monotonic() + DISK_SECONDS
        if not folder.is_dir() or self._refusing > time.monotonic():
            return None
        self._refusing = until
        if self._rng.random() < 0.5:
            away = folder.with_name("checkpoints.away")
            folder.rename(away)
            folder.touch()

            def undo() -> None:
                folder.unlink()
                away.rename(folder)

            self._undo.append((until, undo))
            return "a file in the place of their folder"
        pid = self._trial.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (_FILE_BYTES, resource.RLIM_INFINITY))
        self._undo.append((until, lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, before)))
        return f"no file longer than {_FILE_BYTES} bytes"


_ACTS: dict[str, Callable[[Havoc], str | None]] = {
    "kill": lambda havoc: havoc._signal_player(signal.SIGKILL),
    "stop": lambda havoc: havoc._signal_player(signal.SIGSTOP),
    "pause": lambda havoc: havoc._signal_player(signal.SIGSTOP, lasting=False),
    "nan": Havoc._spoil,
    "hang": lambda havoc: havoc._tell(NAP, 3 * STEP_TIMEOUT),
    "slow": lambda havoc: havoc._tell(NAP, STEP_TIMEOUT / 3),
    "kill_warden": Havoc._kill_warden,
    "kill_collector": lambda havoc: havoc._signal_collector(signal.SIGKILL),
    "stop_collector": lambda havoc: havoc._signal_collector(signal.SIGSTOP),
    "pause_collector": Havoc._pause_collector,
    "disk": Havoc._refuse,
}
