"""The collector in a process of its own: both ends of it, and what happens when it fails.

No torch at the top, so that the collector starts before the learner has imported it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socket
from typing import Any

from envs.gym.worker_pool import START_SECONDS, Budget
from envs.process.lifetime import run_following
from envs.spec import Array, UserError
from trainer.config.schema import TrainConfig
from trainer.runtime.collector import Collector
from trainer.runtime.collector_host import REPORT_SECONDS, Side
from trainer.runtime.env_factory import begun_before, saved_state
from trainer.runtime.ipc import GAMES_HELD, LEARNER_WAITS, SPAWN, TO_COLLECTOR, TURNS, Link, Message, Shared, link_pair
from trainer.telemetry.profiler import tracer
from trainer.telemetry.statistics import Statistics

RESTARTS = 10
"""Collectors that may be lost at once; one more every ten minutes, as for instances."""
UNHEARD_RESTARTS = 2
"""The same while no instance has delivered anything: then it will hardly get better."""
SILENT_SECONDS = 30.0
"""A collector that has not made a turn for so long is replaced. It makes one every half second, if it can."""
_AWAKE_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_EXIT_SECONDS = 1.0
_CLOSE_SECONDS = 10.0


class CollectorLost(RuntimeError):
    """The collector ended by an error of ours, or without a word."""


class Remote:
    """The collector in a process of its own, so that learning never slows acting down. One that dies is replaced."""

    intact = True

    def __init__(self, config: TrainConfig, folder: Path, shared: Shared, resume: dict[str, Any] | None) -> None:
        self._config, self._folder, self._shared = config, folder, shared
        if resume is not None:
            known = begun_before(resume["manager"])[: len(shared.begun)]
            shared.begun[: len(known)] = known
        self._flags = shared.flags
        self._samples = shared.samples
        self._kept: list[Message] = []
        self._failure: Exception | None = None
        self._budget = Budget(RESTARTS, 1, 1)
        self._told: set[str] = set()
        self._figures = self._figures_before = Statistics.none()
        self._launch_at = 0.0
        self._launch()

    def receive(self) -> list[Message]:  # noqa: D102
        if self._link is not None:
            self._take(self._link)
        if self._link is not None:
            self._watch()
        elif self._failure is None and time.monotonic() >= self._launch_at:
            self._launch()
        messages, self._kept = self._kept, []
        if not messages and self._failure is not None:
            raise self._failure
        return messages

    def send(self, kind: str, behavior: str = "", content: Any = None) -> None:  # noqa: D102
        if self._link is not None:  # a new collector is told anew what it has to know
            with contextlib.suppress(OSError):  # it has ended; what it has to say of that is on its way
                self._link.send(kind, behavior, content)

    def advance(self, due: Callable[[], bool]) -> None:  # noqa: D102
        if due():
            return
        self._flags[LEARNER_WAITS] = 1
        if not due():  # once more: a sample may have come before the flag stood
            self._wait()
        self._flags[LEARNER_WAITS] = 0

    def updated(self) -> None:  # noqa: D102
        if self._link is not None and self._flags[GAMES_HELD]:
            with contextlib.suppress(OSError):
                self._link.wake()

    def state(self) -> dict[str, Any]:  # noqa: D102
        self._reported = False
        self.send("report")
        until = time.monotonic() + _ANSWER_SECONDS  # a collector that hangs must not keep a run from saving
        while self._link is not None and not self._reported and time.monotonic() < until:
            self._take(self._link)
            if not self._reported:
                self._wait()
        return {"manager": saved_state(self._config.env, self._shared.begun)}

    def close(self) -> None:  # noqa: D102
        self.send("stop")
        self._end(_CLOSE_SECONDS)

    def _launch(self) -> None:
        link, ends = link_pair(self._shared)
        tie = threading.current_thread() is threading.main_thread()
        # By name, as importing this file takes a while, in which this process may be killed.
        args = (tie, __name__, "collect", self._config, self._folder, self._shared, ends)
        self._process = SPAWN.Process(target=run_following, args=args, name="collector")
        with one_thread():
            self._process.start()
        for end in ends:
            end.close()
        self._link: Link | None = link
        self._turns, self._silent, self._looked = 0, 0.0, time.monotonic()

    def _take(self, link: Link) -> None:
        """Keeps what has arrived, but for what is the learner's end of it."""
        try:
            messages = link.receive()
        except (EOFError, OSError):
            self._lose()
            return
        for message in messages:
            if message.kind == "reported":
                self._reported = True
            elif message.kind == "failed" and isinstance(message.content, UserError):
                self._failure = message.content
                self._end(_CLOSE_SECONDS)
            elif message.kind == "failed":
                self._lose(message.content)
            elif message.kind == "statistics":
                self._figures = message.content.after(self._figures_before)
                self._kept.append(message._replace(content=self._figures))
            else:
                self._kept.append(message)

    def _wait(self) -> None:
        if self._link is None:
            time.sleep(max(0.0, min(REPORT_SECONDS, self._launch_at - time.monotonic())))
            return
        try:
            self._link.wait(REPORT_SECONDS)
        except (EOFError, OSError):
            if not self._link.pending:
                self._lose()

    def _watch(self) -> None:
        """Gives up a collector that does not answer. Only time counts in which this process was awake."""
        turns, now = int(self._flags[TURNS]), time.monotonic()
        self._silent = 0.0 if turns != self._turns else self._silent + min(now - self._looked, _AWAKE_SECONDS)
        self._turns, self._looked = turns, now
        # Before its first turn it looks at an instance, which may take as long as an instance may.
        patience = SILENT_SECONDS if turns else SILENT_SECONDS + self._config.env.step_timeout + START_SECONDS
        if self._silent > patience:
            self._process.kill()
            self._lose(f"it did not answer within {patience:g} s")

    def _lose(self, why: str = "") -> None:
        """Plans a new collector for one that has ended, or lets its end be the run's."""
        self._end(_EXIT_SECONDS)
        why = why.rstrip() or f"its process ended (exit status {self._process.exitcode})"
        spent = self._budget.spend(0, time.monotonic())
        heard = self._shared.samples > self._samples
        if spent is None or (not heard and spent[0] > UNHEARD_RESTARTS):
            number = RESTARTS if heard else UNHEARD_RESTARTS
            self._failure = CollectorLost(f"the collector failed once more than {number} restarts allow: {why}")
            return
        number, delay = spent
        told = why if why not in self._told else "the same as before"
        self._told.add(why)
        lost = self._shared.open_rows
        text = f"The collector: {told}. Lost: rows of {lost} agents that were open."
        self._kept.append(Message("lost", "", f"{text} Restart {number} of {RESTARTS} in {delay:g} s."))
        self._figures_before = self._figures
        self._launch_at = time.monotonic() + delay

    def _end(self, seconds: float) -> None:
        """Waits until the collector has ended by itself, so long, and then ends it."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()  # its workers see its pipes close, and end
            self._process.join()
        if self._link is not None:
            self._link.close()
            self._link = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes that start meanwhile, and theirs, do numpy's linear algebra in one thread, if nobody asked for more.

    Its libraries read that when they are loaded, too early for the process itself; without, they start a thread a core.
    """
    added = [name for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def collect(config: TrainConfig, folder: Path, shared: Shared, ends: tuple[Connection, socket]) -> None:
    """Main function of the collector's process: ends when it is told to."""
    link = Link(*ends, shared, TO_COLLECTOR)
    side = None
    try:
        side = Side(config, folder, shared, link.send, lambda: link.unread, None)
        with side.open() as collector:
            side.instances.watch(link.fileobj)
            _turns(side, collector, link, shared.flags, tracer(config.run, folder, "collector"))
    except Exception as error:  # whatever it was, the learner has to know
        if side is not None:
            side.tell_news()
        link.send("failed", content=error if isinstance(error, UserError) else traceback.format_exc())


def _turns(side: Side, collector: Collector, link: Link, flags: Array, turned: Callable[[], None]) -> None:
    while True:
        flags[TURNS] += 1
        for message in link.receive():
            if message.kind == "stop":
                return
            side.handle(message)
        held = collector.held
        flags[GAMES_HELD] = held
        if held and not collector.held:  # an update came before the flag stood
            flags[GAMES_HELD] = 0
        collector.turn(REPORT_SECONDS)
        if flags[LEARNER_WAITS] and any(channel.may_update() for channel in collector.channels.values()):
            link.wake()
        side.report()
        turned()
