"""The relay: it stands in the learner's place on a host that collects, and passes rows on to the learner's host.

A host runs the collector's process as any run does. What is an update there, is rows passed on here: the rate limiter
holds games once a window of rows was not asked for. The learner's host pulls: each request is answered once, in order.
No torch here: rows and weights are memory.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np

from buffers.fragments import WINDOW, FragmentReader, fragment_rows
from buffers.rows import Layout, Rows
from envs.process.restarts import START_SECONDS
from envs.spec import BehaviorSpec, Lessons, UserError
from trainer.cluster.logs import LogReader
from trainer.cluster.messages import Message, Part, episode_content, statistics_content
from trainer.cluster.stream import Way, connect
from trainer.config.schema import ClusterConfig, StopConfig, TrainConfig
from trainer.runtime.behaviors import known_behaviors
from trainer.runtime.collector_host import PLAYERS
from trainer.runtime.collector_process import CollectorLost, CollectorProcess
from trainer.runtime.ipc import CAPACITY, LEARNER_WAITS, OPEN, UPDATES, Shared
from trainer.runtime.policy_store import PolicyWriter, weights_bytes
from trainer.runtime.rate_limiter import RateLimiter

SHIP_SECONDS = 0.1
"""Rows that do not fill a fragment leave after so long."""
IDLE_SECONDS = 0.25
"""A request that nothing can be said to is answered after so long: a sign of life."""
_HEARD_SECONDS = 10.0
_PICTURE_BYTES = 2**26
"""A larger picture stays where it is."""


@dataclass(frozen=True)
class HostSetup:
    """What a relay is told when it starts."""

    key: int
    """Of this relay, unlike that of any other in the run."""
    config: TrainConfig
    """The run's, as the learner's host has it."""
    seed: int
    """Of the host's games and actions."""
    begun: list[int]
    """By instance: episodes that were begun in its place before."""
    lessons: Lessons
    fragment_rows: int
    """How many rows a fragment should have."""
    address: tuple[str, int]
    secret: bytes = field(repr=False)


def host_config(setup: HostSetup) -> TrainConfig:
    """Returns the configuration with which a host's collector runs."""
    config = setup.config
    # A new object: what the learner's host has found out about the environment need not hold here.
    env = replace(config.env)
    return replace(config, env=env, seed=setup.seed, stop=StopConfig(), cluster=ClusterConfig(), resume=None, init=None)


def check_host(config: TrainConfig) -> None:
    """Refuses what this host cannot play: UserError for an executable or a module that it lacks, or that fails."""
    config.env.check()
    config.env.probe_specs(config.seed)


@dataclass
class _Behavior:
    """One behavior's rows and weights on this host."""

    spec: BehaviorSpec
    reader: FragmentReader | None = None
    """None until the learner's host has asked for its rows."""
    weights: PolicyWriter | None = None
    rows: int = 1
    """Of a fragment."""

    @property
    def waiting(self) -> int:
        return self.reader.waiting if self.reader is not None else 0


class _HostCollector(CollectorProcess):
    """The host's collector, for whose messages one can wait beside others."""

    def wait_beside(self, seconds: float, way: Way) -> None:
        """Waits for a message of the collector or of `way`."""
        self._wait(seconds, way.socket)


class Relay:
    """Answers the requests of the learner's host by rows and messages of this host's collector."""

    def __init__(self, setup: HostSetup, config: TrainConfig) -> None:
        """`config`: that of the host, `host_config(setup)`."""
        self.over = False
        """Whether nothing more is to be expected of it, once its last reply is sent."""
        self._setup = setup
        self._folder = Path(tempfile.mkdtemp(prefix="outstep-host-"))
        self._logs = LogReader(self._folder / PLAYERS)
        instances, lessons = config.env.instances, setup.lessons
        self._shared = Shared(
            *known_behaviors(config), instances=instances, lessons=len(lessons.at), fragment_rows=setup.fragment_rows
        )
        self._shared.lessons = lessons
        begun = setup.begun[:instances]
        self._shared.begun[: len(begun)] = begun
        self._behaviors: dict[str, _Behavior] = {}
        self._pulls: deque[tuple[float, frozenset[str]]] = deque()
        """The requests that were not answered: when they came, and the behaviors whose rows they ask for."""
        self._messages: list[list[Any]] = []
        self._parts: list[Part] = []
        self._urgent, self._sent_at = True, 0.0
        self._collector = _HostCollector(config, self._folder, self._shared, None)

    @property
    def opened(self) -> bool:
        """Whether the learner's host has asked for the rows of a behavior."""
        return any(each.reader is not None for each in self._behaviors.values())

    def handle(self, request: Message) -> None:
        """Does what a request says. It is answered later, by `reply`."""
        content = request.content
        for name, numbers, state_size in content.get("ready", ()):
            self._open(name, int(numbers), int(state_size))
        for part in request.parts:
            behavior = self._behaviors.get(part.name)
            if part.kind == "weights" and behavior is not None and behavior.weights is not None:
                behavior.weights.publish(np.frombuffer(part.data, np.float32), part.number)
        for name, _, _ in content.get("ready", ()):
            self._let_act(name)  # with the weights that came along
        if "lessons" in content:
            self._shared.lessons = Lessons.of(np.array(content["lessons"]))
            self._collector.send("lessons")
        if content.get("picture"):
            self._collector.send("picture", content=self._folder / "picture.gif")
        if content.get("stop"):
            self.over = True
        self._pulls.append((time.monotonic(), frozenset(content.get("rows", ()))))

    def receive(self) -> None:
        """Takes what the host's collector has said."""
        if self.over:
            return
        try:
            for message in self._collector.receive():
                self._take(message.kind, message.behavior, message.content)
        except UserError as error:
            self._end("refused", str(error))
        except CollectorLost as error:
            self._end("failed", str(error))

    def reply(self) -> Message | None:
        """Returns the answer to the oldest request, once there is something to say or it has waited long enough."""
        if not self._pulls:
            return None
        now, (asked, rows) = time.monotonic(), self._pulls[0]
        wanted = [each for name, each in self._behaviors.items() if name in rows]
        full = any(each.waiting >= each.rows for each in wanted)
        some = now >= self._sent_at + SHIP_SECONDS and any(each.waiting for each in wanted)
        another = not rows and len(self._pulls) > 1
        if not (self._urgent or another or full or some or now >= asked + IDLE_SECONDS):
            return None
        self._pulls.popleft()
        self._urgent, self._sent_at = False, now
        parts, self._parts = self._parts, []
        parts += self._fragments(rows)
        parts += self._logs.read()
        messages, self._messages = self._messages, []
        behaviors = {
            name: int(self._shared.counters(name)[OPEN]) for name, each in self._behaviors.items() if each.reader
        }
        return Message({"messages": messages, "open": behaviors, "begun": self._shared.begun.tolist()}, parts)

    def wait(self, way: Way) -> None:
        """Waits until there may be something to do: a message, rows that were asked for, or a reply that is due."""
        if not self._pulls:
            self._collector.wait_beside(IDLE_SECONDS, way)
            return
        now, (asked, rows) = time.monotonic(), self._pulls[0]
        due = asked + IDLE_SECONDS
        if any(each.waiting for name, each in self._behaviors.items() if name in rows):
            due = min(due, self._sent_at + SHIP_SECONDS)
        flags = self._shared.flags
        if rows:
            self._count()
            flags[LEARNER_WAITS] = 1
        self._collector.wait_beside(max(0.0, due - now), way)
        flags[LEARNER_WAITS] = 0

    def close(self) -> None:
        """Ends the host's collector with its games."""
        self.over = True
        self._collector.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _take(self, kind: str, behavior: str, content: Any) -> None:
        if kind == "spec":
            self._add_behavior(*content)
        elif kind == "episodes":
            self._messages.append([kind, behavior, episode_content(content)])
        elif kind == "statistics":
            self._messages.append([kind, "", statistics_content(content)])
        elif kind == "picture":
            self._add_picture(content)
        elif kind == "lost":
            self._skip_half_done()
            self._messages.append([kind, "", content])
        elif kind != "matches":  # of self-play; the others are of texts, and of named tuples of what JSON can hold
            self._messages.append([kind, behavior, content])

    def _add_behavior(self, spec: BehaviorSpec, place: int) -> None:
        self._shared.assign(spec.name, place)
        known = self._behaviors.get(spec.name)
        if known is None:
            self._behaviors[spec.name] = _Behavior(spec)
            self._messages.append(["spec", spec.name, spec.to_dict()])
            self._urgent = True
        elif known.reader is not None:  # a new collector: the learner's host has asked for these rows already
            self._let_act(spec.name)

    def _open(self, name: str, numbers: int, state_size: int) -> None:
        """Opens a behavior's memory, which the collector has given its size."""
        behavior, shared = self._behaviors[name], self._shared
        if behavior.reader is not None:
            return
        layout, weights = Layout(behavior.spec, state_size, positions=True), weights_bytes(numbers)
        capacity = int(shared.counters(name)[CAPACITY])
        memory = shared.arena(name, weights + layout.memory_bytes(capacity))
        behavior.reader = FragmentReader(Rows(layout, memory[weights:], capacity))
        behavior.weights = PolicyWriter(memory[:weights], numbers)
        behavior.rows = fragment_rows(layout, self._setup.fragment_rows)

    def _let_act(self, name: str) -> None:
        """Lets the collector act, at most a window of rows ahead of what was passed on."""
        rows = self._behaviors[name].rows
        self._count()
        self._collector.send("ready", name, RateLimiter(1 / rows, 0, WINDOW * rows))

    def _fragments(self, names: frozenset[str]) -> list[Part]:
        """Returns what there is of rows, at most a fragment of each behavior, and lets games go on."""
        parts = []
        for name, each in self._behaviors.items():
            fragment = each.reader.take(each.rows) if each.reader is not None and name in names else None
            if fragment is not None:
                parts.append(Part("rows", name, *fragment))
        if parts:
            self._count()
            self._collector.notify_update()
        return parts

    def _count(self) -> None:
        """Lets the collector's rate limiters see what was passed on: updates, each of a fragment's rows."""
        for name, each in self._behaviors.items():
            if each.reader is not None:
                passed_on = each.reader.rows.sampleable - each.waiting
                self._shared.counters(name)[UPDATES] = passed_on // each.rows

    def _skip_half_done(self) -> None:
        """Leaves out the rows of an append in which the collector has died, before the next one comes."""
        for each in self._behaviors.values():
            if each.reader is not None:
                each.reader.skip(each.reader.rows.head + 1, each.reader.rows.reserved)

    def _add_picture(self, file: Path) -> None:
        with contextlib.suppress(OSError):
            if file.stat().st_size <= _PICTURE_BYTES:
                data = file.read_bytes()
                self._parts.append(Part("picture", file.name, 0, len(data), data))

    def _end(self, kind: str, why: str) -> None:
        self._messages.append([kind, "", why])
        self._urgent = self.over = True


def serve(relay: Relay, way: Way, silent_seconds: float) -> None:
    """Lets a relay answer what comes, until it is told to stop.

    Raises:
        OSError, EOFError: the learner's host is gone, or has asked for nothing for so long.
    """
    asked = time.monotonic()
    while True:
        while (request := way.receive()) is not None:
            relay.handle(request)
            asked = time.monotonic()
        # Until it asks for rows, the learner's host may be busy for long: it imports torch, and makes its buffer.
        patience = silent_seconds + (0.0 if relay.opened else START_SECONDS)
        if time.monotonic() > asked + patience:
            raise TimeoutError(f"nothing was asked for {patience:g} s")
        relay.receive()
        while (reply := relay.reply()) is not None:
            way.send(reply)
            if relay.over:
                return
        relay.wait(way)


def run_relay(setup: HostSetup, connected: Callable[[dict[str, Any]], Way]) -> None:
    """Collects on this host until the learner's is gone or has enough.

    `connected` takes what this host says of itself, and returns the way to the learner's.
    """
    refusal, relay = None, None
    try:
        config = host_config(setup)
        check_host(config)
        relay = Relay(setup, config)
    except UserError as error:
        refusal = str(error)
    with contextlib.closing(relay) if relay is not None else contextlib.nullcontext():
        way = connected({"key": setup.key, "host": gethostname(), "refusal": refusal})
        with contextlib.closing(way), contextlib.suppress(OSError, EOFError):
            if relay is not None:
                serve(relay, way, setup.config.cluster.silent_seconds)
            else:  # what was said has to be heard before this process ends
                select.select([way.socket], [], [], _HEARD_SECONDS)


def by_tcp(setup: HostSetup) -> Callable[[dict[str, Any]], Way]:
    """Returns what connects to the learner's host by TCP: for `run_relay`."""
    return lambda greeting: connect(setup.address, setup.secret, greeting, setup.config.cluster.silent_seconds)
