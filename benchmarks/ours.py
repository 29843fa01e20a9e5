"""Ours without a learner: the collector that a run uses, in this process, with random actions and a real buffer.

Supply: an instance's drawn durations are the manager's `busy_seconds`, which the worker advances when a step's duration
has passed and before it says so, and which stand still until the instance gets its next action. Read with the closing
they are therefore exact. Times are those at which a closing arrives here, so that a late wake-up counts against us.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.actions import RandomActions
from benchmarks.supply import Completions
from benchmarks.tasks import Round, Task
from buffers.rows import Layout, Rows, Writer
from envs.api import Setup
from envs.gym.config import GymConfig
from envs.gym.manager import EnvManager
from envs.spec import Array, BehaviorSpec, Ready
from trainer.runtime.collector import Channel, Collector
from trainer.runtime.ipc import COUNTERS, SPAWN
from trainer.runtime.rate_limiter import RateLimiter

_CAPACITY = 100_000  # rows
_EPISODES_KEPT = 1000
_NO_LEARNER = RateLimiter(updates_per_sample=1.0, start_samples=2**62, tolerance=1.0)  # never holds games back


class Ours:
    """An `EnvManager`, asynchronous or in lock-step."""

    def __init__(self, task: Task, lockstep: bool) -> None:
        self._task, self._lockstep = task, lockstep

    def start(self) -> None:
        """Starts the workers and opens the one behavior's channel."""
        task = self._task
        self._watched = Watched(task)
        self._watched.lockstep = self._lockstep
        with ExitStack() as stack:
            stack.enter_context(self._watched)
            specs = self._watched.start()
            self._collector = Collector(self._watched, self._open_channel)
            (name,) = specs
            self._channel = self._collector.channel(name)
            self._stack = stack.pop_all()

    def round(self, seconds: float) -> Round:
        """Collects for `seconds`."""
        self._gather()
        self._channel.rate_limiter = _NO_LEARNER
        self._watched.begin_round()
        before, start = self._rows.samples, time.perf_counter()
        while (left := start + seconds - time.perf_counter()) > 0:
            self._collector.turn(left)
            if len(self._channel.episodes) > _EPISODES_KEPT:
                self._channel.episodes.clear()
        elapsed = time.perf_counter() - start
        spans = [each.span() for each in self._watched.completions]
        return Round(self._rows.samples - before, elapsed, spans if self._task.waits else [])

    def layout(self) -> str:
        """Instances and workers, in words."""
        return self._watched.layout

    def close(self) -> None:
        """Ends the workers."""
        self._stack.close()

    def _gather(self) -> None:
        """Lets all instances come to wait for an action, as they do at the start, so that every round begins alike."""
        self._channel.rate_limiter = None
        while self._watched.waiting_count < self._task.instances:
            self._collector.turn(None)

    def _open_channel(self, spec: BehaviorSpec) -> Channel:
        layout = Layout(spec)
        self._rows = Rows(layout, SPAWN.RawArray("B", layout.memory_bytes(_CAPACITY)), _CAPACITY)
        actor = RandomActor(spec, self._watched, RandomActions(spec.branches, self._task.instances, self._task.seed))
        return Channel(spec, actor, Writer(self._rows), np.zeros(COUNTERS, np.int64))


class Watched(EnvManager):
    """A manager with a record of who completed a step when, and of the instances whose decisions wait."""

    def __init__(self, task: Task) -> None:
        env = task.env
        config = GymConfig(task.instances, env.time_scale, id=env.id, kwargs={**env.kwargs}, wrappers=[*env.wrappers])
        super().__init__(config, Setup(task.seed, Path()))
        self.completions = [Completions() for _ in range(task.instances)]
        """By instance, of this round; empty where steps do not wait."""
        self.waiting_count = 0
        self._waits = task.waits
        self._asking: list[Array] = []

    def begin_round(self) -> None:
        """Forgets the completions so far."""
        self.completions = [Completions() for _ in self.completions]

    def take_waiting(self) -> Array:
        """The instances (N,) of all decisions received since the last call, in order."""
        instances = self._asking[0] if len(self._asking) == 1 else np.concatenate(self._asking)
        self._asking.clear()
        self.waiting_count = 0
        return instances

    def recv(self, timeout: float | None = None) -> dict[str, Ready]:
        """What the manager receives."""
        received = super().recv(timeout)
        now = time.perf_counter()
        for ready in received.values():
            if len(ready.lost):
                raise RuntimeError("an instance failed during the benchmark, which makes its figures worthless")
            if self._waits and len(ready.results.instance):
                instances = ready.results.instance
                for instance, busy in zip(instances.tolist(), self.busy_seconds[instances].tolist()):
                    self.completions[instance].record(now, busy)
            if count := len(ready.decisions.instance):
                self._asking.append(ready.decisions.instance)
                self.waiting_count += count
        return received


class RandomActor:
    """Random actions by instance; the order of decisions is the one in which `watched` received them."""

    version = 0

    def __init__(self, spec: BehaviorSpec, watched: Watched, actions: RandomActions) -> None:
        self._watched, self._actions = watched, actions
        self._log_prob = -float(np.log(spec.branches).sum())

    def refresh(self) -> None:
        """Nothing to take."""

    def act(self, observations: tuple[Array, ...], mask: Array, state: Array) -> tuple[Array, Array, Array, Array]:
        """Continuous (N, 0), discrete (N, B), log-probabilities (N,), and nothing remembered."""
        discrete = self._actions.take(self._watched.take_waiting())
        count = len(discrete)
        return np.empty((count, 0), np.float32), discrete, np.full(count, self._log_prob, np.float32), state

    def state(self) -> Any:
        """Nothing: benchmarks do not resume."""
        return None
