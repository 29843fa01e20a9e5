"""A collector with its instances and actors, how the learner drives it, and the one that runs in the learner's process.

No torch at the top: it takes a second or more to import, in which instances can start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from buffers.rows import Writer
from envs.api import InstanceEvent, Setup
from envs.config import Stepping
from envs.process.ram import available_memory
from envs.spec import BehaviorSpec, Statistic
from trainer.checkpoint import restoring
from trainer.config.schema import Device, Mode, TrainConfig, behavior_config
from trainer.runtime.behaviors import check_networks, open_buffer
from trainer.runtime.collector import Channel, Collector
from trainer.runtime.device import one_torch_thread
from trainer.runtime.ipc import Message, Shared
from trainer.selfplay.matches import Matches

PLAYERS = "players"
"""The folder in a run's own to which Unity players log."""
REPORT_SECONDS = 0.5
"""Seconds between two reports to the learner."""


class CollectorHandle(Protocol):
    """A collector as the learner drives it."""

    intact: bool
    """Whether `state` can be resumed from: no step is unfinished."""

    def receive(self) -> list[Message]:
        """Returns the messages that have come since the last call.

        Their kinds are `spec`, `acting` (how the actions of a behavior are computed), `episodes`, `matches` (of
        self-play, with the teams that there are), `statistics`, `game`, `events`, `picture`, and `lost` if the
        collector has ended and will be replaced.
        """

    def send(self, kind: str, behavior: str = "", content: Any = None) -> None:
        """Sends a request: `ready` with a behavior's rate limiter, once weights are published; `picture`, a file;
        `lessons`, once there are others in the shared memory; `self_play`, who learns and against whom.
        """

    def collect(self, due: Callable[[], bool]) -> None:
        """Collects until the learner may have something to do; `due` says whether it has."""

    def notify_update(self) -> None:
        """Lets games that were throttled go on, after an update."""

    def state(self) -> dict[str, Any]:
        """Returns what a resumed run needs of the collector. Messages that belong to it wait to be received."""

    def close(self) -> None:
        """Ends the collector with its instances."""


class CollectorHost:
    """Holds a collector in whatever process it runs: makes its instances and actors, reports, and answers requests."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        shared: Shared,
        send: Callable[..., None],
        crowded: Callable[[], bool],
        resume: dict[str, Any] | None,
    ) -> None:
        self._config, self._shared, self._send, self._crowded = config, shared, send, crowded
        self._resume = resume or {}
        self._restoring = partial(restoring, folder) if resume is not None else nullcontext
        self._inline = config.run.mode is Mode["inline"]
        self._reported = 0.0
        self._group_owners: dict[int, str] = {}
        self._matches = Matches()
        self._teams_sent: Sequence[tuple[str, int]] = ()
        if "matches" in self._resume:
            with self._restoring():
                self._matches.load_state(self._resume["matches"])
        with self._restoring():
            self.instances = config.env.make_manager(
                Setup(
                    config.seed,
                    folder / PLAYERS,
                    min_instances=config.env.min_instances,
                    begun=shared.begun,
                    record_actions=self._inline,
                    resume=self._resume.get("manager"),
                    lessons=shared.lessons,
                )
            )
        self.instances.lockstep = self._inline or config.env.stepping is Stepping["lockstep"]

    @contextmanager
    def open(self) -> Iterator[Collector]:
        """Yields a collector whose instances have started. They end with the context."""
        with self.instances:
            self.instances.start()
            with one_torch_thread():  # importing it takes a second or more, in which instances start
                self.collector = Collector(self.instances, self._open_channel, self._config.stop.samples)
                for spec in self.instances.specs.values():
                    self.collector.open(spec)
                self.instances.admit = self.collector.open
                yield self.collector

    def handle(self, message: Message) -> None:
        """Answers a request of the learner."""
        if message.kind == "ready":
            self.collector.channel(message.behavior).rate_limiter = message.content
        elif message.kind == "self_play":
            self._matches.turn, self._matches.pools = message.content
        elif message.kind == "lessons":
            self.instances.set_lessons(self._shared.lessons)
        elif message.kind == "picture":
            self.instances.request_picture(message.content)
        elif message.kind == "report":
            self.report(at_once=True)
            self._send("reported")

    def report(self, at_once: bool = False) -> None:
        """Sends the learner what has happened, once every `REPORT_SECONDS` or `at_once`."""
        now = time.monotonic()
        # What the learner, in an update perhaps, has not read yet must not make games wait for room in the pipe.
        due = at_once or (now >= self._reported + REPORT_SECONDS and not self._crowded())
        if due and (sent := self.instances.take_statistics()):
            # Before the episodes: what a goal looks for may be among them.
            self._send("game", content=[Statistic(*each) for each in sent])
        if due or self._inline:  # inline, an episode is sent at once: the same run always stops at the same sample
            teams, finished = self._matches.teams, self._matches.finished
            if finished or teams != self._teams_sent:
                self._send("matches", content=(list(teams), finished))
                self._teams_sent, self._matches.finished = list(teams), []
            for name, channel in self.collector.channels.items():
                if channel.episodes:
                    self._send("episodes", name, channel.episodes)
                    channel.episodes = []
        if not due:
            return
        self._reported = now
        for channel in self.collector.channels.values():
            for text in channel.warnings:
                self._send("events", content=InstanceEvent("warning", 0, text))
            channel.warnings.clear()
        self.report_events()
        if self.instances.picture is not None:
            self._send("picture", content=self.instances.picture)
            self.instances.picture = None
        self._send("statistics", content=self.collector.statistics())

    def report_events(self) -> None:
        """Sends the learner what has happened to instances, such as a restart."""
        while self.instances.events:
            self._send("events", content=self.instances.events.popleft())

    def state(self) -> dict[str, Any]:
        """Returns all that the next turn depends on."""
        channels = {name: channel.state() for name, channel in self.collector.channels.items()}
        state = {"manager": self.instances.state(), "channels": channels}
        return {**state, "matches": self._matches.state()} if self._matches.teams else state

    def _open_channel(self, spec: BehaviorSpec) -> Channel:
        from algorithms.policy import make_policy
        from trainer.runtime.actor import quickest_actor
        from trainer.runtime.policy_store import PolicyReader

        shared, name = self._shared, spec.name
        chosen = behavior_config(self._config, name)
        settings = chosen.algorithm
        check_networks(spec, settings, available_memory())
        policy = make_policy(spec, settings)
        place = shared.claim(name)
        at_once = self._config.env.rows_at_once
        weights, snapshots, rows = open_buffer(shared, policy, spec, settings, chosen.self_play, at_once=at_once)
        # A collector that goes on with a run, as another has died or after a resume, draws other noise than the first.
        seed = (self._config.seed + 1 + place + (shared.samples << 32)) % 2**63  # torch takes no more
        reader = PolicyReader(weights, policy.flat.numel())
        device = self._config.device
        gpu = device is not Device["cpu"] and not self._inline  # which measures nothing, to be the same again
        actor, description = quickest_actor(policy, reader, seed, self._config.env.rows_at_once, gpu)
        self._send("acting", name, description)
        writer, counters, total = Writer(rows), shared.counters(name), lambda: shared.samples
        if snapshots is None:
            channel = Channel(spec, actor, writer, counters, total, self._group_owners)
        else:
            from trainer.selfplay.open import open_channel

            parts = spec, writer, counters, total, self._group_owners
            channel = open_channel(self._config, policy, actor, parts, snapshots, self._matches, seed)
        with self._restoring():
            if name in self._resume.get("channels", {}):
                state = self._resume["channels"][name]
                channel.load_state(state)
                actor.load_state(state["actor"])
        self._send("spec", name, (spec, place))
        return channel


class InlineCollector:
    """A collector in the learner's process, which goes in a fixed order and is exactly reproducible."""

    intact = True

    def __init__(self, config: TrainConfig, folder: Path, shared: Shared, resume: dict[str, Any] | None) -> None:
        self._messages: list[Message] = []
        self._host = CollectorHost(config, folder, shared, self._keep, lambda: False, resume)
        self._opened = self._host.open()
        self._collector = self._opened.__enter__()

    def _keep(self, kind: str, behavior: str = "", content: Any = None) -> None:
        self._messages.append(Message(kind, behavior, content))

    def receive(self) -> list[Message]:  # noqa: D102
        messages, self._messages = self._messages, []
        return messages

    def send(self, kind: str, behavior: str = "", content: Any = None) -> None:  # noqa: D102
        self._host.handle(Message(kind, behavior, content))

    def collect(self, due: Callable[[], bool]) -> None:  # noqa: D102
        if not due():
            self.intact = False  # an error leaves steps unfinished
            try:
                answered = self._collector.turn(REPORT_SECONDS)
            except Exception:
                self._host.report_events()
                raise
            self._host.report()
            self.intact = answered  # else more turns have to come

    def notify_update(self) -> None:  # noqa: D102
        pass

    def state(self) -> dict[str, Any]:  # noqa: D102
        self._host.report(at_once=True)
        return self._host.state()

    def close(self) -> None:  # noqa: D102
        self._opened.__exit__(None, None, None)
