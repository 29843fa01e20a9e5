"""The worker processes of a manager, their signals in one selector, and what happens when one of them fails.

Whatever fails, fails alone: an env that raises is made again in its worker; a worker that dies, or whose instance does
not answer in time, is killed and started again. Nobody waits for either.

Shapes: I instances, N of them that are ready or go on.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from envs.gym.worker import Report, WorkPlan, run_worker
from envs.process.lifetime import CLOSE_SECONDS, described_end, end_process, kill_soon, start_following
from envs.process.messages import Inbox, dispatch, socket_pair
from envs.process.restarts import START_SECONDS, Budget, InstanceEvent
from envs.spec import Array

_CHECK_SECONDS = 1.0
_FIRST_WORD_SECONDS = 5.0


class Link:
    """A worker's process and the manager's ends of its sockets."""

    def __init__(self, plan: WorkPlan[Any, Any], block: Any) -> None:
        self.plan = plan
        self.instances = np.arange(plan.first, plan.first + plan.count)
        """(count,) by local index."""
        self.open = True
        self.last_words: str | None = None
        """Why the process ends, if it has said so."""
        self.signals, signals = socket_pair()
        control_here, control = socket_pair()
        self.inbox = Inbox(control_here)
        name = f"worker of instances {plan.first} to {plan.first + plan.count - 1}"
        self.process = start_following(name, run_worker, plan, block, signals, control)
        signals.close()
        control.close()
        self.signals.setblocking(False)

    def command(self, local: bytes | bytearray) -> None:
        """Lets these local indices go on. A dead worker is noticed when its end of the socket is read."""
        with contextlib.suppress(OSError):
            self.signals.send(local)

    def close(self, kill: bool = True) -> None:
        """Ends the process: at once with all that it has started, or by itself as its socket has closed."""
        if kill:
            kill_soon(self.process)
        self.open = False
        self.signals.close()
        self.inbox.socket.close()


class WorkerPool:
    """All workers of one manager.

    Args:
        plans: what each worker drives: instances in order, without gaps.
        block: the memory of the slots.
        selector: where the workers' sockets are watched; the data of every key in it is a function to call.
        step_timeout: seconds that an instance has to answer.
        budget: restarts that instances may take, and events.
    """

    def __init__(
        self,
        plans: list[WorkPlan[Any, Any]],
        block: Any,
        selector: selectors.BaseSelector,
        *,
        step_timeout: float,
        budget: Budget,
    ) -> None:
        instances = plans[0].instances
        self.failed: list[int] = []
        """Instances that failed since the manager last took note."""
        self._metrics: dict[int, Any] = {}
        """By instance: metrics whose closing has not been delivered yet."""
        self._events, self._budget = budget.events, budget
        self._block, self._selector, self._step_timeout = block, selector, step_timeout
        self._worker_of = np.repeat(np.arange(len(plans)), [plan.count for plan in plans])
        self._local_of = np.concatenate([np.arange(plan.count) for plan in plans]).astype(np.uint8)
        self._deadline = np.full(instances, np.inf)
        """(I,) when the answer to each instance's last command is overdue."""
        self._late = np.zeros(instances, bool)
        self._due: list[tuple[float, int, Link, int | None]] = []
        """Heap of restarts: when, tie-breaker, in or of which worker, which instance (None: the worker)."""
        self._order = itertools.count()
        self._seen: set[str] = set()
        self._last_error: dict[int, str] = {}
        self._period = min(_CHECK_SECONDS, step_timeout / 4)
        self._check_at = time.monotonic() + self._period
        self._began, self._say_at = time.monotonic(), _FIRST_WORD_SECONDS
        self._heard = False
        self._dying: list[Link] = []
        self._links: list[Link] = []
        for plan in plans:
            self._links.append(self._launch(plan))

    def poll(self, until: float) -> Array | None:
        """Waits for signals, once, at most until `until` (monotonic): instances with a new decision, or None."""
        now = time.monotonic()
        if now >= self._check_at:
            self._check(now)
        wait = 0.0 if self.failed else min(until, self._check_at) - now
        parts = dispatch(self._selector, wait)
        if not parts:
            if not self._heard and now >= self._began + self._say_at:
                text = f"Waiting for {len(self._late)} instances to be made and reset: {self._say_at:g} s so far."
                self._events.append(InstanceEvent("note", 0, text))
                self._say_at *= 2
            return None
        ready: Array = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self._deadline[ready] = np.inf
        self._heard = True
        return ready

    def command(self, instances: Array) -> None:
        """Lets these instances (N,) go on."""
        self._deadline[instances] = time.monotonic() + self._step_timeout
        commands: dict[int, bytearray] = {}
        for worker, local in zip(self._worker_of.take(instances).tolist(), self._local_of.take(instances).tolist()):
            if worker in commands:
                commands[worker].append(local)
            else:
                commands[worker] = bytearray((local,))
        for worker, data in commands.items():
            self._links[worker].command(data)

    def take_metrics(self, instance: int) -> Any:
        """Returns what the instance has sent as metrics ahead of its closing; `{}` if it has sent none."""
        if instance not in self._metrics:
            self._read_reports(self._links[self._worker_of[instance]])
        return self._metrics.pop(instance, {})

    def close(self) -> None:
        """Ends all workers: they close their envs; those that do not get round to it are killed."""
        for link in self._links:
            link.close(kill=False)
        stop = time.monotonic() + CLOSE_SECONDS
        for link in self._links + self._dying:
            end_process(link.process, max(0.0, stop - time.monotonic()))

    def _launch(self, plan: WorkPlan[Any, Any]) -> Link:
        link = Link(plan, self._block)
        playing = np.flatnonzero(~self._budget.retired[link.instances])
        link.command(playing.astype(np.uint8).tobytes())
        self._selector.register(link.signals, selectors.EVENT_READ, partial(self._read_signals, link))
        self._selector.register(link.inbox.socket, selectors.EVENT_READ, partial(self._read_reports, link))
        self._deadline[link.instances[playing]] = time.monotonic() + self._step_timeout + START_SECONDS
        return link

    def _read_signals(self, link: Link) -> Array | None:
        try:
            data = link.signals.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if data:
            return link.instances.take(np.frombuffer(data, np.uint8))
        self._read_reports(link)
        link.process.join(0.1)  # its sockets close a moment before its exit status is there
        self._lose_worker(link, link.last_words or described_end(link.process.exitcode))
        return None

    def _read_reports(self, link: Link) -> None:
        if not link.open:  # its signals, ready at the same moment, have ended it
            return
        reports: list[Report] = link.inbox.take()
        for report in reports:
            if report.kind == "metrics":
                self._metrics[report.instance] = report.content
            elif report.kind == "last words":
                link.last_words = report.content.rstrip()
            else:
                self._lose_instance(link, report.instance, report.content)
        if link.inbox.closed:
            self._ignore(link.inbox.socket)  # the end of its signals says the rest

    def _check(self, now: float) -> None:
        """Restarts what is due, and looks for workers that hang."""
        while self._due and self._due[0][0] <= now:
            _, _, link, instance = heapq.heappop(self._due)
            worker = int(self._worker_of[link.plan.first])
            if self._links[worker] is not link or (instance is not None and not link.open):
                continue  # the whole worker has failed since
            if instance is None:
                self._links[worker] = self._launch(replace(link.plan, replay={}))
            else:
                self._deadline[instance] = now + self._step_timeout + START_SECONDS
                link.command(self._local_of[instance : instance + 1].tobytes())
            who = link.process.name.capitalize() if instance is None else f"Instance {instance}"
            self._events.append(
                InstanceEvent("restart", link.plan.first if instance is None else instance, f"{who}: starts again.")
            )
        late = self._deadline < now
        overdue = (late & self._late).nonzero()[0]  # twice: the answer may lie unread, if nobody has polled for long
        self._late = late
        for worker, instance in dict(zip(self._worker_of[overdue].tolist(), overdue.tolist())).items():
            why = f"instance {instance} did not answer within {self._step_timeout:g} s (env.step_timeout)"
            self._lose_worker(self._links[worker], why)
        for link in self._links:
            if link.open and not link.process.is_alive():  # something that it started holds its sockets open
                self._lose_worker(link, described_end(link.process.exitcode))
        self._dying = [link for link in self._dying if link.process.is_alive()]
        self._check_at = min(now + self._period, self._due[0][0] if self._due else np.inf)

    def _lose_worker(self, link: Link, why: str) -> None:
        self._ignore(link.signals)
        self._ignore(link.inbox.socket)
        link.close()
        self._dying.append(link)
        who = link.process.name.capitalize()
        self._schedule(link, None, link.instances.tolist(), f"{who}: {why}.")

    def _ignore(self, sock: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):  # the worker's end of it may have closed before
            self._selector.unregister(sock)

    def _lose_instance(self, link: Link, instance: int, error: str) -> None:
        self._last_error[instance] = error.rstrip()
        description = "the same as before." if error in self._seen else f"{error.rstrip()}\n"
        self._seen.add(error)
        self._schedule(link, instance, [instance], f"Instance {instance}: {description}")

    def _schedule(self, link: Link, instance: int | None, lost: list[int], text: str) -> None:
        """Counts a failure of the instances `lost`, and plans the restart of `instance` or of the whole worker."""
        self._deadline[lost] = np.inf
        self.failed += lost
        for one in lost:
            self._metrics.pop(one, None)
        causes = self._last_error
        if instance is None:
            causes = {one: f"{text}\n{self._last_error.get(one, '')}" for one in lost}
        due = self._budget.next_start(lost, text, causes)
        if due is not None:
            heapq.heappush(self._due, (due, next(self._order), link, instance))
            self._check_at = min(self._check_at, due)
