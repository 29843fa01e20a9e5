"""The collector in a process of its own: how the learner drives it, what it runs, and what happens when it fails.

No torch at the top, so that the collector starts before the learner has imported it.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socket
from typing import Any

from envs.api import begun_counts
from envs.process.lifetime import described_end, end_process, start_following
from envs.process.restarts import START_SECONDS, Budget
from envs.spec import Array, UserError
from trainer.config.schema import TrainConfig
from trainer.runtime.collector import Collector
from trainer.runtime.collector_host import REPORT_SECONDS, CollectorHost
from trainer.runtime.ipc import LEARNER_WAITS, THROTTLED, TO_COLLECTOR, TURNS, Link, Message, Shared, link_pair
from trainer.telemetry.profiler import tracer
from trainer.telemetry.statistics import Statistics

RESTARTS = 10
"""How many collectors may be lost at once; one more every ten minutes, as for instances."""
UNHEARD_RESTARTS = 2
"""The same while no instance has delivered anything yet: then restarts will hardly help."""
SILENT_SECONDS = 30.0
"""A collector that has made no turn for so long is replaced. A healthy one makes a turn at least every half second."""
_AWAKE_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_EXIT_SECONDS = 1.0
_CLOSE_SECONDS = 10.0


class CollectorLost(RuntimeError):
    """The collector failed more often than restarts allow, by an error that is not the user's."""


class CollectorProcess:
    """A collector in a process of its own, so that learning never slows acting down. One that dies is replaced."""

    intact = True

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        shared: Shared,
        resume: dict[str, Any] | None,
        main: Callable[..., None] | None = None,
    ) -> None:
        """`main` is the process's main function: `collect`, or another that behaves alike."""
        self._main = main or collect
        self._config, self._folder, self._shared = config, folder, shared
        if resume is not None:
            known = begun_counts(resume["manager"])[: len(shared.begun)]
            shared.begun[: len(known)] = known
        self._flags = shared.flags
        self._samples = shared.samples
        self._messages: list[Message] = []
        self._failure: Exception | None = None
        self._budget = Budget(RESTARTS, 1, 1)
        self._reasons: set[str] = set()
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
        messages, self._messages = self._messages, []
        if not messages and self._failure is not None:
            raise self._failure
        return messages

    def send(self, kind: str, behavior: str = "", content: Any = None) -> None:  # noqa: D102
        if self._link is not None:  # a new collector is sent rate limiters once it has sent its specs
            with contextlib.suppress(OSError):  # it has ended; its last message is on its way
                self._link.send(kind, behavior, content)

    def collect(self, due: Callable[[], bool]) -> None:  # noqa: D102
        if due():
            return
        self._flags[LEARNER_WAITS] = 1
        if not due():  # once more: a sample may have come before the flag stood
            self._wait()
        self._flags[LEARNER_WAITS] = 0

    def notify_update(self) -> None:  # noqa: D102
        if self._link is not None and self._flags[THROTTLED]:
            with contextlib.suppress(OSError):
                self._link.wake()

    def state(self) -> dict[str, Any]:  # noqa: D102
        self._reported = False
        self.send("report")
        until = time.monotonic() + _ANSWER_SECONDS  # one that hangs must not keep a run from saving
        while self._link is not None and not self._reported and time.monotonic() < until:
            self._take(self._link)
            if not self._reported:
                self._wait()
        return {"manager": {"begun": self._shared.begun.tolist()}}

    def close(self) -> None:  # noqa: D102
        self.send("stop")
        self._end(_CLOSE_SECONDS)

    def _launch(self) -> None:
        link, ends = link_pair(self._shared)
        arguments = (self._config, self._folder, self._shared, ends)
        with one_thread():
            self._process = start_following("collector", self._main, *arguments)
        for end in ends:
            end.close()
        self._link: Link | None = link
        self._turns, self._silent, self._looked = 0, 0.0, time.monotonic()

    def _take(self, link: Link) -> None:
        """Keeps the messages that have arrived, and handles those about the collector itself."""
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
                self._messages.append(message._replace(content=self._figures))
            else:
                self._messages.append(message)

    def _wait(self, seconds: float = REPORT_SECONDS, *others: socket) -> None:
        """Waits for the collector, or until one of `others` is readable."""
        if self._link is None:
            time.sleep(max(0.0, min(seconds, self._launch_at - time.monotonic())))
            return
        try:
            self._link.wait(seconds, *others)
        except (EOFError, OSError):
            if not self._link.pending:
                self._lose()

    def _watch(self) -> None:
        """Kills a collector that does not answer. Only time in which this process was awake counts."""
        turns, now = int(self._flags[TURNS]), time.monotonic()
        self._silent = 0.0 if turns != self._turns else self._silent + min(now - self._looked, _AWAKE_SECONDS)
        self._turns, self._looked = turns, now
        # Before its first turn it probes an instance, which may take as long as an instance may.
        patience = SILENT_SECONDS if turns else SILENT_SECONDS + self._config.env.step_timeout + START_SECONDS
        if self._silent > patience:
            self._process.kill()
            self._lose(f"it did not answer within {patience:g} s")

    def _lose(self, why: str = "") -> None:
        """Plans a new collector in place of one that has ended, or records the failure that ends the run."""
        self._end(_EXIT_SECONDS)
        why = why.rstrip() or described_end(self._process.exitcode)
        spent = self._budget.spend(0, time.monotonic())
        heard = self._shared.samples > self._samples
        if spent is None or (not heard and spent[0] > UNHEARD_RESTARTS):
            number = RESTARTS if heard else UNHEARD_RESTARTS
            self._failure = CollectorLost(f"the collector failed once more than {number} restarts allow: {why}")
            return
        number, delay = spent
        reason = why if why not in self._reasons else "the same as before"
        self._reasons.add(why)
        lost = f"The open steps of {self._shared.open_rows} agents are lost."
        text = f"The collector failed: {reason}. {lost} Restart {number} of {RESTARTS} follows in {delay:g} s."
        self._messages.append(Message("lost", "", text))
        self._figures_before = self._figures
        self._launch_at = time.monotonic() + delay

    def _end(self, seconds: float) -> None:
        """Waits so many seconds for the collector to end by itself, and kills it if it does not."""
        end_process(self._process, seconds)
        if self._link is not None:
            self._link.close()
            self._link = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets processes that start meanwhile do numpy's linear algebra in one thread, unless the user has set it.

    Its libraries read that when they are loaded, so the process itself cannot; without it they start a thread a core.
    """
    added = [name for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def collect(config: TrainConfig, folder: Path, shared: Shared, ends: tuple[Connection, socket]) -> None:
    """Collects until the learner sends `stop`: the main function of the collector's process."""
    link = Link(*ends, shared, TO_COLLECTOR)
    host = None
    try:
        host = CollectorHost(config, folder, shared, link.send, lambda: link.unread, None)
        with host.open() as collector:
            host.instances.watch(link.socket)
            _turns(host, collector, link, shared.flags, tracer(config.run, folder, "collector"))
    except Exception as error:  # whatever it was, the learner has to know
        if host is not None:
            host.report_events()
        link.send("failed", content=error if isinstance(error, UserError) else traceback.format_exc())


def _turns(host: CollectorHost, collector: Collector, link: Link, flags: Array, turned: Callable[[], None]) -> None:
    while True:
        flags[TURNS] += 1
        for message in link.receive():
            if message.kind == "stop":
                return
            host.handle(message)
        throttled = collector.throttled
        flags[THROTTLED] = throttled
        if throttled and not collector.throttled:  # an update came before the flag stood
            flags[THROTTLED] = 0
        collector.turn(REPORT_SECONDS)
        if flags[LEARNER_WAITS] and any(channel.may_update() for channel in collector.channels.values()):
            link.wake()
        host.report()
        turned()
