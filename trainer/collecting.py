"""Where a collector runs: in a process of its own, or inline in the learner's. Both sides of either are here."""

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
from typing import Any, Protocol

import numpy as np
import torch

from algorithms.acting import NumpyActor
from algorithms.policy import Acted, Policy
from buffers.rows import Writer
from envs.lockstep import LockstepManager
from envs.manager import EnvManager
from envs.processes import follow_parent
from envs.spec import Array, BehaviorSpec, UserError
from trainer.behavior import divide_arena, make_policy
from trainer.collector import Channel, Collector
from trainer.config import Mode, Stepping, TrainConfig, settings_of
from trainer.instances import make_manager
from trainer.profile import tracer
from trainer.shared import GAMES_HELD, LEARNER_WAITS, SPAWN, TO_COLLECTOR, Link, Message, Shared, link_pair
from trainer.weights import WeightsReader

PLAYERS = "players"
"""Where, in a run's folder, Unity players log."""
_REPORT_SECONDS = 0.5
_CLOSE_SECONDS = 10.0


class PolicyActor:
    """Acts with the newest published weights of a policy, on the CPU: in numpy where it fits, else in torch."""

    def __init__(self, policy: Policy, weights: WeightsReader, seed: int) -> None:
        self._policy, self._weights = policy, weights
        self._flat: Array = policy.flat.detach().numpy()
        self._numpy = NumpyActor(policy) if NumpyActor.fits(policy) else None
        self._numpy_generator = np.random.default_rng(seed)
        self._torch_generator = torch.Generator().manual_seed(seed)

    @property
    def version(self) -> int:
        """Version of the weights it acts with."""
        return self._weights.version

    def refresh(self) -> None:
        """Takes the newest weights."""
        self._weights.refresh(self._flat)

    def act(self, observations: tuple[Array, ...], mask: Array, memory: Array) -> Acted:
        """Sampled actions, their log-probabilities, and the memory after."""
        if self._numpy is not None:
            return self._numpy.act(observations, mask, memory, self._numpy_generator)
        return self._policy.act(observations, mask, memory, self._torch_generator)

    def state(self) -> dict[str, Any] | list[int]:
        """The random state: numpy's is a dict, torch's a list."""
        if self._numpy is not None:
            return dict(self._numpy_generator.bit_generator.state)
        return self._torch_generator.get_state().tolist()

    def load_state(self, state: dict[str, Any] | list[int]) -> None:
        """Goes on drawing from there."""
        if isinstance(state, dict):
            self._numpy_generator.bit_generator.state = state
        else:
            self._torch_generator.set_state(torch.tensor(state, dtype=torch.uint8))


class Collecting(Protocol):
    """A collector as the learner sees it."""

    intact: bool
    """Whether `state` can be resumed from."""

    def receive(self) -> list[Message]:
        """What the collector has to tell: `spec`, `episodes`, `statistics`, `game`, `news`, `picture`."""

    def send(self, kind: str, behavior: str = "", content: Any = None) -> None:
        """`ready` with a behavior's limiter once its first weights are published; `picture` asks for one, in a file."""

    def advance(self, due: Callable[[], bool]) -> None:
        """Lets time pass until there may be something to do; `due` tells whether an update is."""

    def updated(self) -> None:
        """Games that were held back may go on."""

    def state(self) -> dict[str, Any]:
        """What a resumed run needs of the collector. What it has told by then waits to be received."""

    def close(self) -> None:
        """Ends the collector and everything below it."""


class _Side:
    """The collector's side: a collector, what it reports, and what it is asked for."""

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
        self._inline = config.run.mode is Mode["inline"]
        self._reported = 0.0
        self.instances = make_manager(
            config.env,
            config.seed,
            folder / PLAYERS,
            record_actions=self._inline,
            resume=self._resume.get("manager"),
        )

    @contextmanager
    def open(self) -> Iterator[Collector]:
        """A collector whose instances have started; they end with it."""
        with self.instances:
            self.instances.start()
            lockstep = self._inline or self._config.env.stepping is Stepping["lockstep"]
            manager = LockstepManager(self.instances) if lockstep else self.instances
            self.collector = Collector(manager, self._open_channel, self._config.stop.samples)
            for behavior in self.instances.specs:
                self.collector.channel(behavior)
            yield self.collector

    def handle(self, message: Message) -> None:
        """Does what the learner asks for."""
        if message.kind == "ready":
            self.collector.channel(message.behavior).limiter = message.content
        elif message.kind == "picture":
            self.instances.request_picture(message.content)
        elif message.kind == "state":
            self.report(at_once=True)
            self._send("state", content=self.state())

    def report(self, at_once: bool = False) -> None:
        """Tells what has come up, now and then or `at_once`."""
        now = time.monotonic()
        # What the learner, in an update perhaps, has not read yet must not make games wait for room in the pipe.
        due = at_once or (now >= self._reported + _REPORT_SECONDS and not self._crowded())
        if due and not isinstance(self.instances, EnvManager) and (sent := self.instances.take_statistics()):
            # Before the episodes: what a goal looks for may be among them.
            self._send("game", content=[(each.key, each.value, each.aggregation) for each in sent])
        if due or self._inline:  # inline, an episode is told at once: the same run always stops at the same sample
            for name, channel in self.collector.channels.items():
                if channel.episodes:
                    self._send("episodes", name, channel.episodes)
                    channel.episodes = []
        if not due:
            return
        self._reported = now
        while self.instances.news:
            self._send("news", content=self.instances.news.popleft())
        if self.instances.picture is not None:
            self._send("picture", content=self.instances.picture)
            self.instances.picture = None
        self._send("statistics", content=self.collector.statistics())

    def state(self) -> dict[str, Any]:
        """Episode counters; in inline mode, all that the next turn depends on."""
        state: dict[str, Any] = {"manager": self.collector.manager.state()}
        if self._inline:
            state["channels"] = {name: channel.state() for name, channel in self.collector.channels.items()}
        return state

    def _open_channel(self, spec: BehaviorSpec) -> Channel:
        shared, name = self._shared, spec.name
        settings, _ = settings_of(self._config, name)
        policy = make_policy(spec, settings)
        place = shared.claim(name)
        weights, rows = divide_arena(shared.arena(name), policy, spec, settings)
        actor = PolicyActor(policy, WeightsReader(weights, policy.flat.numel()), self._config.seed + 1 + place)
        channel = Channel(spec, actor, Writer(rows), shared.counters(name), lambda: shared.samples)
        if name in self._resume.get("channels", {}):
            state = self._resume["channels"][name]
            channel.load_state(state)
            actor.load_state(state["actor"])
        self._send("spec", name, (spec, place))
        return channel


class Inline:
    """The collector in the learner's process and in a fixed order: exactly reproducible."""

    intact = True

    def __init__(self, config: TrainConfig, folder: Path, shared: Shared, resume: dict[str, Any] | None) -> None:
        self._messages: list[Message] = []
        self._side = _Side(config, folder, shared, self._keep, lambda: False, resume)
        self._opened = self._side.open()
        self._collector = self._opened.__enter__()

    def _keep(self, kind: str, behavior: str = "", content: Any = None) -> None:
        self._messages.append(Message(kind, behavior, content))

    def receive(self) -> list[Message]:  # noqa: D102
        messages, self._messages = self._messages, []
        return messages

    def send(self, kind: str, behavior: str = "", content: Any = None) -> None:  # noqa: D102
        self._side.handle(Message(kind, behavior, content))

    def advance(self, due: Callable[[], bool]) -> None:  # noqa: D102
        if not due():
            self.intact = False  # an error leaves steps half done
            self._collector.turn(None)
            self._side.report()
            self.intact = True

    def updated(self) -> None:  # noqa: D102
        pass

    def state(self) -> dict[str, Any]:  # noqa: D102
        self._side.report(at_once=True)
        return self._side.state()

    def close(self) -> None:  # noqa: D102
        self._opened.__exit__(None, None, None)


class CollectorLost(RuntimeError):
    """The collector ended by an error of ours, or without a word."""


class Remote:
    """The collector in a process of its own, so that learning never slows acting down."""

    intact = True

    def __init__(self, config: TrainConfig, folder: Path, shared: Shared, resume: dict[str, Any] | None) -> None:
        self._flags = shared.flags
        self._link, ends = link_pair(shared)
        tie = threading.current_thread() is threading.main_thread()
        self._process = SPAWN.Process(
            target=_collect, args=(config, folder, shared, ends, resume, tie), name="collector"
        )
        with one_thread():
            self._process.start()
        for end in ends:
            end.close()
        self._kept: list[Message] = []
        self._state = resume or {}
        self._asked = False
        self._failure: Exception | None = None

    def receive(self) -> list[Message]:  # noqa: D102
        self._take()
        messages, self._kept = self._kept, []
        if not messages and self._failure is not None:
            raise self._failure
        return messages

    def send(self, kind: str, behavior: str = "", content: Any = None) -> None:  # noqa: D102
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
        if self._flags[GAMES_HELD]:
            with contextlib.suppress(OSError):
                self._link.wake()

    def state(self) -> dict[str, Any]:  # noqa: D102
        self._asked = True
        self.send("state")
        while self._asked and self._failure is None:
            self._take()
            if self._asked:
                self._wait()
        return self._state

    def close(self) -> None:  # noqa: D102
        self.send("stop")
        self._process.join(_CLOSE_SECONDS)
        if self._process.is_alive():
            self._process.kill()  # its workers see its pipes close, and end
            self._process.join()

    def _take(self) -> None:
        """Keeps what has arrived, but for states and failures, which are noted."""
        try:
            messages = self._link.receive()
        except (EOFError, OSError):
            self._note_end()
            return
        for message in messages:
            if message.kind == "state":
                self._state, self._asked = message.content, False
            elif message.kind == "failed":
                self._failure = message.content
            else:
                self._kept.append(message)

    def _wait(self) -> None:
        try:
            self._link.wait(_REPORT_SECONDS)
        except (EOFError, OSError):
            if not self._link.pending:
                self._note_end()

    def _note_end(self) -> None:
        if self._failure is None:
            self._process.join(_CLOSE_SECONDS)
            self._failure = CollectorLost(f"the collector's process ended, exit status {self._process.exitcode}")


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


def _collect(
    config: TrainConfig,
    folder: Path,
    shared: Shared,
    ends: tuple[Connection, socket],
    resume: dict[str, Any] | None,
    tie: bool,
) -> None:
    """The collector's process: ends when it is told to, or with its parent."""
    follow_parent(tie)
    torch.set_num_threads(1)
    link = Link(*ends, shared, TO_COLLECTOR)
    side = None
    try:
        side = _Side(config, folder, shared, link.send, lambda: link.unread, resume)
        with side.open() as collector:
            side.instances.watch(link.fileobj)
            _turns(side, collector, link, shared.flags, tracer(config.run, folder, "collector"))
    except Exception as error:  # whatever it was, the learner has to know
        if side is not None:
            link.send("state", content={"manager": side.instances.state()})
        link.send("failed", content=error if isinstance(error, UserError) else CollectorLost(traceback.format_exc()))


def _turns(side: _Side, collector: Collector, link: Link, flags: Array, turned: Callable[[], None]) -> None:
    while True:
        for message in link.receive():
            if message.kind == "stop":
                return
            side.handle(message)
        held = collector.held
        flags[GAMES_HELD] = held
        if held and not collector.held:  # an update came before the flag stood
            flags[GAMES_HELD] = 0
        collector.turn(_REPORT_SECONDS)
        if flags[LEARNER_WAITS] and any(channel.may_update() for channel in collector.channels.values()):
            link.wake()
        side.report()
        turned()
