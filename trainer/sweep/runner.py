"""Makes the trials of a study, several at a time, and ends those that look bad."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import Empty, SimpleQueue
from types import FrameType

from optuna.trial import TrialState

from envs.process.lifetime import described_end, nothing_left
from envs.spec import UserError
from trainer.sweep.plan import Plan
from trainer.sweep.study import Study
from trainer.sweep.trial import RunningTrial
from trainer.sweep.view import View

_LOOK_SECONDS = 1.0
"""How often metrics are read."""
_SAVE_SECONDS = 60.0
"""How long a run that is ended may take to save; then it is killed."""
_STARTS = 3
"""How often a run is started that is killed by something else, such as a lack of memory."""
_FAILURES = 3
"""So many trials that fail before any other has ended end the sweep: the next would fail as well."""


class Runner:
    """A sweep, as this process makes it."""

    def __init__(self, plan: Plan, study: Study, view: View) -> None:
        self._plan, self._study, self._view = plan, study, view
        self._running: list[RunningTrial] = []
        self._events: SimpleQueue[tuple[RunningTrial, int] | None] = SimpleQueue()
        self._signal: int | None = None
        self._signals = 0
        self._failures = 0
        self._ending: dict[RunningTrial, float] = {}
        """By trial that was told to end, when it is killed."""

    def run(self) -> int:
        """Makes trials until all have ended, or a signal comes. Returns 0, or 128 + the signal.

        Raises:
            UserError: no trial reports the metric, or the first ones all fail.
        """
        with ExitStack() as ends:
            ends.enter_context(nothing_left())
            ends.enter_context(self._signals_noted())
            try:
                while self._signal is None and not (self._study.finished and not self._running):
                    self._fill()
                    self._take(self._next_event())
                    self._look()
            finally:
                self._end_all()
        return 0 if self._signal is None else 128 + self._signal

    def _fill(self) -> None:
        """Starts trials where there is room."""
        while len(self._running) < self._plan.settings.parallel and (claimed := self._study.next()) is not None:
            trial = RunningTrial(claimed, self._plan, lambda trial, status: self._events.put((trial, status)))
            self._running.append(trial)
            self._view.begins(trial)
            trial.start()

    def _next_event(self) -> tuple[RunningTrial, int] | None:
        try:
            return self._events.get(timeout=_LOOK_SECONDS)
        except Empty:
            return None

    def _take(self, event: tuple[RunningTrial, int] | None) -> None:
        """Goes on behind a run that has ended."""
        if event is None or self._signal is not None:
            return
        trial, status = event
        self._ending.pop(trial, None)
        self._report(trial)
        if trial.bad and not (status == 0 and trial.is_last):
            self._tell(trial, TrialState.PRUNED)
        elif status == 0 and not trial.is_last and trial.reading.latest is not None:
            trial.next_seed()
        elif status == 0 and (score := trial.score()) is not None:
            self._tell(trial, TrialState.COMPLETE, score)
        elif status == 0:
            self._refuse_metric(trial)
            self._fail(trial, f"it has not reported {self._plan.settings.metric}")
        elif status in (1, 2):
            self._fail(trial, trial.error(status))
        elif trial.starts < _STARTS:
            trial.start()
        else:
            self._fail(trial, described_end(status))

    def _look(self) -> None:
        """Notes what runs have reached, and ends those that look bad."""
        for trial in self._running:
            if self._report(trial) and not trial.bad and self._study.looks_bad(trial.claimed):
                trial.bad = True
                self._ending[trial] = time.monotonic() + _SAVE_SECONDS
                trial.end()
        for trial in [each for each, at in self._ending.items() if time.monotonic() > at]:
            trial.end(kill=True)
        self._view.show(self._study.trials(), self._running)

    def _report(self, trial: RunningTrial) -> bool:
        """Notes new scores of a trial; returns whether there are any."""
        found = trial.look()
        for point, score in found:
            self._study.report(trial.claimed, point, score)
        return bool(found)

    def _tell(self, trial: RunningTrial, state: TrialState, score: float | None = None, **notes: str) -> None:
        self._running.remove(trial)
        self._study.tell(trial.claimed, state, score, **notes)
        self._view.ends(trial, state, score, notes.get("error", ""))

    def _fail(self, trial: RunningTrial, error: str) -> None:
        self._tell(trial, TrialState.FAIL, error=error)
        self._failures += 1
        judged = any(each.state in (TrialState.COMPLETE, TrialState.PRUNED) for each in self._study.trials())
        if not judged and self._failures >= min(_FAILURES, self._plan.trials):
            raise UserError(
                f"the first {self._failures} trials have all failed, the last one because: {error} ({trial.log})"
            )

    def _refuse_metric(self, trial: RunningTrial) -> None:
        """Ends the sweep if no trial has reported the metric yet; its run is judged by another once there is one."""
        if any(each.intermediate_values or each.value is not None for each in self._study.trials()):
            return
        names = [name for name in trial.reading.names if not name.startswith(("instances/", "time/"))]
        raise UserError(
            f"metric={self._plan.settings.metric}: trial {trial.claimed.number} has ended, and has reported no such "
            f"metric, but {', '.join(names)}. The same command with one of these goes on with what was trained"
        )

    def _end_all(self) -> None:
        """Lets all runs save and end; their trials stay under way in the study, for the same command to go on with."""
        for trial in self._running:
            trial.end()
        until = time.monotonic() + _SAVE_SECONDS
        self._view.show(self._study.trials(), self._running, ending=True)
        while any(trial.is_alive for trial in self._running):
            self._next_event()
            if self._signals > 1 or time.monotonic() > until:
                for trial in self._running:
                    trial.end(kill=True)
        for trial in self._running:
            self._report(trial)
            trial.claimed.let_go()

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """Notes signals that ask the sweep to end."""
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]

        def note(number: int, _: FrameType | None) -> None:
            self._signal = self._signal or number
            self._signals += 1
            self._events.put(None)

        before = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
