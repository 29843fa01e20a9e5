"""The worker: one process that drives one or more instances, each a state machine of its own.

A command is the local index of an instance: step with the action in its slot; or, where there is no env yet or it has
failed, make one and reset it. The answer is the same byte, once the slot holds the next decision. Where the env returns
its `duration`, the answer waits for its deadline in a heap and the worker goes on.
"""

from __future__ import annotations

import contextlib
import heapq
import select
import socket
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from envs.gym.adapter import Env, GymAdapter, GymEnv, begin
from envs.gym.slots import METRICS, STEPPED, TERMINATED, TRUNCATED, InstanceSlots, Slots
from envs.gym.spaces import scalar_metrics
from envs.gym.values import WrongValue, duration_seconds, ended, finite_reward, reset_result, step_result
from envs.parameters import Episode, Parameters
from envs.process.messages import send_object
from envs.seeding import episode_seed
from envs.spec import Array, BehaviorSpec, Lessons

FLUSH_SECONDS = 2e-4
"""A worker that has stepped for so long signals what is done before it steps the next."""


class Actions(NamedTuple):
    """The actions of one episode so far."""

    continuous: list[list[float]]
    discrete: list[list[int]]
    begun: Episode | None = None
    """What it got of the environment parameters; None before it has begun, or without any."""


Env_ = TypeVar("Env_")
Spec_ = TypeVar("Spec_")


@dataclass(frozen=True)
class WorkPlan(ABC, Generic[Env_, Spec_]):
    """What a worker is to do; picklable."""

    env: Env_
    """How to make an environment."""
    spec: Spec_
    """What agents observe and do."""
    instances: int
    """Of the whole run: the size of the slots."""
    first: int
    """This worker drives instances `first` to `first + count - 1`."""
    count: int
    seed: int
    replay: dict[int, Any] = field(default_factory=dict)
    """By instance: actions to drive its first episode through before its first decision."""

    @abstractmethod
    def drivers(self, block: Any, report: Callable[[Report], object]) -> tuple[Array, list[Driver]]:
        """Returns what drives the instances of this worker, and the seconds that each is busy (count,).

        `block` is the memory of the slots; `report` is called with metrics and faults.
        """

    def worker(self, block: Any, answer: Callable[[bytes], object], report: Callable[[Report], object]) -> AnyWorker:
        """Returns what handles the commands of this worker; arguments as of `Worker`."""
        return Worker(self, block, answer, report)


class AnyWorker(Protocol):
    """What `run_worker` runs: see `Worker`."""

    def pump(self, commands: bytes) -> None:
        """Handles `commands` (local indices), and answers all that is done by now."""

    def wait(self) -> float | None:
        """Seconds until there is something to do without a command; None if only a command can bring events."""

    def close(self) -> None:
        """Closes every env."""


@dataclass(frozen=True)
class Plan(WorkPlan[GymEnv, BehaviorSpec]):
    """What a worker is to do with one Gymnasium environment."""

    def drivers(self, block: Any, report: Callable[[Report], object]) -> tuple[Array, list[Driver]]:  # noqa: D102
        parameters = Parameters(self.env.parameters)
        slots = Slots(self.spec, self.instances, block, len(parameters.lessons))
        mine = range(self.first, self.first + self.count)
        return slots.busy[mine.start : mine.stop], [EnvSlot(self, slots, i, report, parameters) for i in mine]


class Report(NamedTuple):
    """What goes over the control socket."""

    kind: str
    """`metrics` (content: what `Ready.metrics` takes, by agent), `fault` (content: text, what its env did),
    `last words` (content: text, why the worker ends)."""
    instance: int
    content: Any


class Worker:
    """The logic of a worker, without a process: `pump` handles commands and deadlines by the clock that it is given.

    Args:
        plan: which instances, of what.
        block: the memory of the slots.
        answer: called with local indices of instances whose slots hold a new decision.
        report: called with metrics before the answer that they belong to, and with faults in the place of one.
        clock: seconds.
    """

    def __init__(
        self,
        plan: WorkPlan[Any, Any],
        block: Any,
        answer: Callable[[bytes], object],
        report: Callable[[Report], object],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._busy, self._drivers = plan.drivers(block, report)
        self._answer, self._report, self._clock = answer, report, clock
        self._deadlines: list[tuple[float, int, float]] = []

    def pump(self, commands: bytes) -> None:
        """Handles `commands` (local indices), and answers all that is done by now."""
        began = before = self._clock()
        done = bytearray()
        for local in commands:
            try:
                duration = self._drivers[local].go()
            except BaseException as error:  # also sys.exit and Ctrl+C, which only the env itself can raise here
                self._fail(local, error)
                before = self._clock()
                continue
            now = self._clock()
            if duration is None:
                self._busy[local] += now - before
                done.append(local)
            else:
                heapq.heappush(self._deadlines, (began + duration, local, duration))
            before = now
            if done and now - began > FLUSH_SECONDS:
                self._answer(bytes(done))
                done.clear()
        while self._deadlines and self._deadlines[0][0] <= before:
            _, local, duration = heapq.heappop(self._deadlines)
            self._busy[local] += duration
            done.append(local)
        if done:
            self._answer(bytes(done))

    def wait(self) -> float | None:
        """Seconds until the next deadline; None if only a command can bring events."""
        return max(0.0, self._deadlines[0][0] - self._clock()) if self._deadlines else None

    def close(self) -> None:
        """Closes every env."""
        for driver in self._drivers:
            driver.close()

    def _fail(self, local: int, error: BaseException) -> None:
        driver = self._drivers[local]
        frames = error.__traceback__.tb_next if error.__traceback__ else None  # leaves this file's own frame out
        text = "its env raised\n" + "".join(traceback.format_exception(type(error), error, frames))
        if isinstance(error, WrongValue):
            text = str(error)
        driver.close()
        self._report(Report("fault", driver.instance, text))


class Driver(ABC):
    """One instance in a worker: its env, if there is one, and its rows of the slots."""

    def __init__(
        self,
        plan: WorkPlan[Any, Any],
        slots: InstanceSlots,
        instance: int,
        report: Callable[[Report], object],
        parameters: Parameters,
    ) -> None:
        self.instance = instance
        self._instances, self._seed, self._time_scale = slots, plan.seed, plan.env.time_scale
        self._report, self._parameters = report, parameters
        self._env: Any = None

    @abstractmethod
    def go(self) -> float | None:
        """Takes a step, or makes an env and resets it. Returns the seconds that it lasts, None if they have passed."""

    def close(self) -> None:
        """Closes the env; the next `go` makes a new one."""
        if self._env is not None:
            with contextlib.suppress(BaseException):
                self._env.close()
            self._env = None

    def _next_episode(self, begun: Episode | None = None) -> tuple[int, Mapping[str, float]]:
        """Counts the episode that begins; returns its seed and environment parameters.

        One that is resumed was `begun` before, with the same environment parameters.
        """
        slots, instance = self._instances, self.instance
        episode = int(slots.episode[instance]) + 1
        slots.episode[instance] = episode
        values: Mapping[str, float] = {}
        if self._parameters:
            if begun is None:
                lessons = Lessons.of(slots.lessons[instance])
                begun = self._parameters.episode(lessons, self._seed, instance, episode)
            slots.played[instance] = begun.lessons.row
            values = begun.values
        return episode_seed(self._seed, instance, episode), values

    def _scaled(self, duration: Any) -> float | None:
        if duration is None:
            return None
        seconds = duration_seconds(duration)
        return seconds / self._time_scale if self._time_scale else None


class EnvSlot(Driver):
    """One instance of a Gymnasium env."""

    def __init__(
        self, plan: Plan, slots: Slots, instance: int, report: Callable[[Report], object], parameters: Parameters
    ) -> None:
        super().__init__(plan, slots, instance, report, parameters)
        self._plan, self._slots = plan, slots
        self._replay: Actions | None = plan.replay.get(instance)
        self._observations = tuple(field[instance] for field in slots.observations)
        self._finals = tuple(field[instance] for field in slots.final_observations)
        self._mask: Array = slots.mask[instance]
        self._continuous: Array = slots.continuous[instance]
        self._discrete: Array = slots.discrete[instance]
        self._masked = plan.spec.masked

    def go(self) -> float | None:  # noqa: D102
        if self._env is None:
            return self._begin()
        observation, reward, terminated, truncated, info = step_result(
            self._env.step(self._adapter.action(self._continuous, self._discrete))
        )
        slots, instance = self._slots, self.instance
        slots.reward[instance] = finite_reward(reward)
        duration = info.get("duration")
        flags = STEPPED
        if terminated is not False or truncated is not False:
            terminated, truncated = ended(terminated, "terminated"), ended(truncated, "truncated")
        if terminated or truncated:
            if terminated:
                flags |= TERMINATED
            else:
                flags |= TRUNCATED
                self._adapter.observe(observation, self._finals)
                self._adapter.mask(info, slots.final_mask[instance])
            metrics = scalar_metrics(info)
            if metrics:
                flags |= METRICS
                self._report(Report("metrics", instance, {instance: metrics}))
            observation, info = self._reset(self._env)
            if (more := info.get("duration")) is not None:
                duration = duration_seconds(more) + (0.0 if duration is None else duration_seconds(duration))
        self._adapter.observe(observation, self._observations)
        if self._masked:
            self._adapter.mask(info, self._mask)
        slots.flags[instance] = flags
        return self._scaled(duration)

    def _begin(self) -> float | None:
        replay, self._replay = self._replay, None
        env = self._plan.env.make()
        self._env = env  # from here on `close` finds it, whatever fails
        observation, info = self._reset(env, replay.begun if replay else None)
        self._adapter = GymAdapter(env, self._plan.spec)  # some know their spaces only now
        duration = info.get("duration")
        if replay is not None:
            observation, info = self._drive(env, replay, observation, info)
            duration = None  # the resumed run has waited these out before
        self._adapter.observe(observation, self._observations)
        self._adapter.mask(info, self._mask)
        self._slots.flags[self.instance] = 0
        return self._scaled(duration)

    def _reset(self, env: Env, begun: Episode | None = None) -> tuple[Any, Mapping[str, Any]]:
        return reset_result(begin(env, *self._next_episode(begun)))

    def _drive(
        self, env: Env, replay: Actions, observation: Any, info: Mapping[str, Any]
    ) -> tuple[Any, Mapping[str, Any]]:
        """Takes a resumed episode to where it was."""
        for at, (continuous, discrete) in enumerate(zip(replay.continuous, replay.discrete), start=1):
            action = self._adapter.action(np.asarray(continuous, np.float32), np.asarray(discrete, np.int32))
            observation, _, terminated, truncated, info = step_result(env.step(action))
            if terminated or truncated:
                raise RuntimeError(
                    f"the resumed episode ended at step {at} of {len(replay.discrete)}: with the same seed and the "
                    "same actions this env does not do the same again, so its episode cannot be resumed"
                )
        return observation, info


def run_worker(plan: WorkPlan[Any, Any], block: Any, signals: socket.socket, control: socket.socket) -> None:
    """Main function of a worker's process: ends when the manager closes its end of `signals`."""
    worker = plan.worker(block, signals.sendall, lambda report: send_object(control, report))
    with contextlib.suppress(ConnectionError):  # the manager has gone: there is nobody to report to
        while True:
            wait = worker.wait()
            if wait is None or select.select([signals], [], [], wait)[0]:
                commands = signals.recv(256)
                if not commands:
                    break
            else:
                commands = b""
            worker.pump(commands)
    worker.close()
