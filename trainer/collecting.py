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
from envs.supervision import START_SECONDS, Budget
from trainer.behavior import divide_arena, make_policy
from trainer.collector import Channel, Collector, Statistics
from trainer.config import Mode, Stepping, TrainConfig, settings_of
from trainer.instances import begun_before, make_manager, saved_state
from trainer.shared import GAMES_HELD, LEARNER_WAITS, SPAWN, TO_COLLECTOR, TURNS, Link, Message, Shared, link_pair
from trainer.weights import WeightsReader

PLAYERS = "players"
"""Where, in a run's folder, Unity players log."""
RESTARTS = 10
"""Collectors that may be lost at once; one more every ten minutes, as for instances."""
UNHEARD_RESTARTS = 2
"""The same while no instance has delivered anything: then it will hardly get better."""
SILENT_SECONDS = 30.0
"""A collector that has not made a turn for so long is replaced. It makes one every half second, if it can."""
_REPORT_SECONDS = 0.5
_AWAKE_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_EXIT_SECONDS = 1.0
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
        """What there is to tell: `spec`, `episodes`, `statistics`, `game`, `news`, `picture`, or its end: `lost`."""

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
            min_instances=config.env.min_instances,
            begun=shared.begun,
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
        elif message.kind == "report":
            self.report(at_once=True)
            self._send("reported")

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
        """All that the next turn depends on."""
        channels = {name: channel.state() for name, channel in self.collector.channels.items()}
        return {"manager": self.collector.manager.state(), "channels": channels}

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
        args = (self._config, self._folder, self._shared, ends, tie)
        self._process = SPAWN.Process(target=_collect, args=args, name="collector")
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
            time.sleep(max(0.0, min(_REPORT_SECONDS, self._launch_at - time.monotonic())))
            return
        try:
            self._link.wait(_REPORT_SECONDS)
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


def _collect(
    config: TrainConfig,
    folder: Path,
    shared: Shared,
    ends: tuple[Connection, socket],
    tie: bool,
) -> None:
    """The collector's process: ends when it is told to, or with its parent."""
    follow_parent(tie)
    torch.set_num_threads(1)
    link = Link(*ends, shared, TO_COLLECTOR)
    try:
        side = _Side(config, folder, shared, link.send, lambda: link.unread, None)
        with side.open() as collector:
            side.instances.watch(link.fileobj)
            _turns(side, collector, link, shared.flags)
    except Exception as error:  # whatever it was, the learner has to know
        link.send("failed", content=error if isinstance(error, UserError) else traceback.format_exc())


def _turns(side: _Side, collector: Collector, link: Link, flags: Array) -> None:
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
        collector.turn(_REPORT_SECONDS)
        if flags[LEARNER_WAITS] and any(channel.may_update() for channel in collector.channels.values()):
            link.wake()
        side.report()
