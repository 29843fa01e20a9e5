"""What a manager is: it drives the instances of a run. Each kind of environment has one, derived from `Manager`.

Shapes: I instances, N agents; C continuous actions, B discrete branches.
"""

from __future__ import annotations

import contextlib
import math
import selectors
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.process.lockstep import Round
from envs.process.messages import dispatch
from envs.process.restarts import Budget, InstanceEvent, InstanceFailed
from envs.spec import Array, BehaviorSpec, Lessons, Ready, Statistic

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["InstanceEvent", "InstanceFailed", "Manager", "Setup", "begun_counts"]


@dataclass(frozen=True)
class Setup:
    """What a run asks of a manager, beside the settings of its environment."""

    seed: int
    """Of the episodes."""
    logs: Path
    """Folder for what instances log."""
    min_instances: int | None = None
    """An instance that fails for good is retired while so many others live; None = all have to."""
    begun: Array | None = None
    """(I,) int64, how many episodes each instance has begun so far: counted on in this very array. None = zeros."""
    record_actions: bool = False
    """Whether `state` has to hold what open episodes go on from: inline mode."""
    resume: Any = None
    """What the manager's `state` returned in the run that goes on."""
    lessons: Lessons | None = None
    """In which lessons of `env.parameters` episodes begin; None = the last ones."""


class Manager(ABC):
    """Drives instances: `recv` yields what those say that are ready, `send` lets agents act. None waits for another.

    A kind of environment writes `poll` and `send`; the rest may stay as it is. A context manager: leaving it ends the
    instances.

    Args:
        instances: how many.
        setup: what the run asks for.
        restarts: failures of one instance that are forgiven; one more every ten minutes.
    """

    lockstep = False
    """Whether `recv` waits for all instances and returns them in their order; to be set before `start`."""
    admit: Callable[[BehaviorSpec], object] = staticmethod(lambda spec: None)
    """Called with the spec of a behavior that has appeared, before its agents are heard: UserError refuses it."""
    picture: Path | None = None
    """File of the moving picture that `request_picture` asked for, once it is there."""

    def __init__(self, instances: int, setup: Setup, restarts: int = 10) -> None:
        self.instances, self.seed = instances, setup.seed
        self.specs: dict[str, BehaviorSpec] = {}
        """By behavior. Known after `start`, or grown as behaviors appear."""
        self.spread = f"{instances} instance{'s' * (instances > 1)}"
        """Words for how instances are spread: `16 instances in 2 workers`."""
        self.samples: Array = np.zeros(instances, np.int64)
        """(I,) int64: results delivered, by instance."""
        self.busy_seconds: Array = np.zeros(instances)
        """(I,) float64: how long steps and resets have taken since the start."""
        self.begun: Array = np.zeros(instances, np.int64) if setup.begun is None else setup.begun
        """(I,) int64: episodes that each instance has begun, or its starts where episodes are the game's own affair."""
        least = instances if setup.min_instances is None else setup.min_instances
        self.budget = Budget(restarts, instances, least)
        self.events = self.budget.events
        """What to report to the user, the oldest first; empty it now and then."""
        self.retired = self.budget.retired
        """(I,) bool: instances that have failed for good."""
        self.selector = selectors.DefaultSelector()
        """Sockets that `poll` waits for; the data of every key is a function to call when it is readable."""
        self._round = Round(instances)
        self._watched = False
        if setup.resume:
            known = begun_counts(setup.resume)[:instances]
            self.begun[: len(known)] = known

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def layout(self) -> str:
        """How instances are spread, and whether in lock-step, in words."""
        return f"{self.spread}, in lock-step" if self.lockstep else self.spread

    def start(self) -> dict[str, BehaviorSpec]:
        """Starts the instances without waiting for them; returns the specs known by then. UserError if they cannot."""
        return self.specs

    @abstractmethod
    def poll(self, until: float) -> dict[str, Ready]:
        """Waits, once, until something happens or `time.monotonic` says `until`; returns what came of it, by behavior.

        Counts `samples`, `begun` and `busy_seconds`.
        """

    @abstractmethod
    def send(self, behavior: str, agents: Array, continuous: Array, discrete: Array) -> None:
        """Actions for any agents that wait: `agents` (N,), `continuous` (N, C) float32, `discrete` (N, B) int32."""

    def recv(self, timeout: float | None = None) -> dict[str, Ready]:
        """Returns results and decisions of instances, by behavior: one item or more, or `{}` if `timeout` seconds pass.

        Also `{}` once what `watch` was given becomes readable. In lock-step all instances answer at once, in their
        order; one that fails is waited for until it has been restarted, unless it is retired.

        Raises:
            InstanceFailed: an instance failed once more than its budget allows, and too few others live.
            UserError: something else that the user can mend.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        self._watched = False
        while True:
            ready = self.poll(until)
            if self.lockstep:
                ready = self._round.add(ready, self.retired)
            if ready:
                return ready
            if self._watched or time.monotonic() >= until:
                return {}

    def wait(self, until: float) -> None:
        """Waits until a socket is readable, until `until`, or for a second: for a `poll` without events."""
        dispatch(self.selector, min(1.0, until - time.monotonic()))

    def watch(self, fileobj: Any) -> None:
        """Lets `recv` return early when this socket is readable; what can be read is thrown away."""
        fileobj.setblocking(False)
        self.selector.register(fileobj, selectors.EVENT_READ, lambda: self._wake(fileobj))

    def state(self) -> dict[str, Any]:
        """Returns what `Setup.resume` takes, JSON-ready; new episodes begin. Call it while every agent waits."""
        return {"begun": self.begun.tolist()}

    def close(self) -> None:
        """Ends all instances. Calling it again does nothing."""
        self.selector.close()

    def request_picture(self, file: Path) -> None:  # noqa: B027 - optional
        """Asks for a moving picture of play as the GIF `file`; none comes where the environment cannot draw."""

    def take_statistics(self) -> Sequence[Statistic]:
        """Returns numbers that games reported since the last call, at any time."""
        return ()

    def set_lessons(self, lessons: Lessons) -> None:  # noqa: B027 - where games take no parameters
        """Lets episodes that begin from now on begin in these lessons; those under way end as they began."""

    def _wake(self, fileobj: Any) -> None:
        self._watched = True
        with contextlib.suppress(BlockingIOError):
            if not fileobj.recv(65536):
                self.selector.unregister(fileobj)  # the other side has gone


def begun_counts(state: Mapping[str, Any]) -> list[int]:
    """Returns how many episodes each instance had begun, by a manager's state; the version before had other names."""
    if "episodes" in state:
        return [number + 1 for number in state["episodes"]]
    counts: list[int] = state["launches"] if "launches" in state else state["begun"]
    return counts
