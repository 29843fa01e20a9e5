"""The asynchronous manager: many instances of one env, none of which waits for another.

Shapes: I instances, N decisions, M results, K of them truncated; C continuous actions, B discrete branches.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import selectors
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict

import numpy as np

from envs.gym.adapter import GymEnv
from envs.gym.probe import INSTANCES_PER_WORKER, choose_workers, probe
from envs.gym.replay_gif import MAX_FRAMES, Filming
from envs.gym.slots import METRICS, STEPPED, TERMINATED, TRUNCATED, Slots, allocate
from envs.gym.worker import Actions, Plan
from envs.gym.worker_pool import START_SECONDS, Fleet, InstanceEvent, InstanceFailed
from envs.seeding import episode_seed
from envs.spec import Array, BehaviorSpec, Decisions, Ready, StepResults, UserError

__all__ = ["EnvManager", "InstanceEvent", "InstanceFailed", "ManagerState"]


class ManagerState(TypedDict):
    """What a resumed run needs of the instances; JSON-ready."""

    episodes: list[int]
    """(I) number of the open episode of each instance."""
    actions: list[Actions] | None
    """(I) what was done in the open episodes, with `record_actions`."""


class EnvManager:
    """Instances of one Gymnasium env in worker processes: `recv` gets decisions and results, `send` gives actions.

    An agent's number is its instance's: there is one agent in each. A context manager: leaving it ends the workers.

    Args:
        env: how to make an env.
        instances: how many.
        seed: the run's; resets are seeded from (seed, instance, episode).
        workers: processes to drive them; None chooses by what a first look at the env finds.
        step_timeout: seconds after which an instance that does not answer counts as failed.
        restarts: failures of one instance that are forgiven; one more every ten minutes.
        min_instances: one that fails more often is left out while so many others live; None = all have to.
        begun: (I,) int64, how many episodes each instance has begun: counted on in this very array. None = zeros.
        record_actions: keep the actions of open episodes, so that `state` can resume them.
        resume: what `state` returned: episodes go on from there.
    """

    def __init__(
        self,
        env: GymEnv,
        instances: int,
        seed: int,
        *,
        workers: int | None = None,
        step_timeout: float = 60.0,
        restarts: int = 10,
        min_instances: int | None = None,
        begun: Array | None = None,
        record_actions: bool = False,
        resume: ManagerState | None = None,
    ) -> None:
        if instances < 1:
            raise UserError(f"env.instances is {instances}; at least 1 is needed.")
        if workers is not None and not -(-instances // INSTANCES_PER_WORKER) <= workers <= instances:
            raise UserError(
                f"env.workers is {workers}; {instances} instances need 1 to {instances} workers, "
                f"of at most {INSTANCES_PER_WORKER} instances each."
            )
        self.env, self.instances, self.seed = env, instances, seed
        self.specs: dict[str, BehaviorSpec] = {}
        self.layout = ""
        """Words for how instances are spread: `16 instances in 2 workers`."""
        self.samples: Array = np.zeros(instances, np.int64)
        """(I,) int64: results delivered, by instance."""
        self.events: deque[InstanceEvent] = deque(maxlen=_KEPT_EVENTS)
        """What the user should hear of, the oldest first; empty it now and then."""
        self.picture: Path | None = None
        """File of the moving picture that `request_picture` asked for, once it is there."""
        self._workers, self._step_timeout, self._restarts = workers, step_timeout, restarts
        self._min_instances = instances if min_instances is None else min_instances
        self._record_actions = record_actions
        self._resume = resume
        self._begun: Array = np.zeros(instances, np.int64) if begun is None else begun
        self._alive: Array = np.zeros(instances, bool)
        self._waiting: Array = np.zeros(instances, bool)
        self._recorded: dict[int, Actions] = {}
        self._film_wanted: Path | None = None
        self._filming: Filming | None = None
        self._can_film = False
        self._watched = False
        self._selector = selectors.DefaultSelector()
        self._fleet: Fleet | None = None

    def __enter__(self) -> EnvManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> dict[str, BehaviorSpec]:
        """Starts the workers, and returns the specs by behavior without waiting for the instances to be ready.

        Raises:
            UserError: the env cannot be made or reset (with its traceback), or has a space that cannot be served.
        """
        found = probe(self.env, self.seed, self._step_timeout + START_SECONDS)
        workers = self._workers or choose_workers(self.instances, found.pace)
        self.layout = f"{self.instances} instances in {workers} workers"
        self._spec = found.spec
        self._can_film = found.pictures
        self.specs = {found.spec.name: found.spec}
        block = allocate(found.spec, self.instances)
        self._slots = Slots(found.spec, self.instances, block)
        self._no_finals = tuple(field[:0].copy() for field in self._slots.final_observations)
        replay = self._take_up(self._resume) if self._resume else {}
        self._slots.episode[:] = self._begun - 1
        for instance in replay:  # its open episode is begun again
            self._slots.episode[instance] -= 1
            self._alive[instance] = True  # should that fail, what it came from is lost
        bounds = np.linspace(0, self.instances, workers + 1).astype(int).tolist()
        plans = []
        for first, stop in itertools.pairwise(bounds):
            mine = {instance: replay[instance] for instance in range(first, stop) if instance in replay}
            plans.append(Plan(self.env, found.spec, self.instances, first, stop - first, self.seed, mine))
        if self._record_actions:
            self._recorded = {i: replay.get(i, Actions([], [])) for i in range(self.instances)}
        self._fleet = Fleet(
            plans,
            block,
            self._selector,
            step_timeout=self._step_timeout,
            restarts=self._restarts,
            min_instances=self._min_instances,
            events=self.events,
        )
        return self.specs

    def recv(self, timeout: float | None = None) -> dict[str, Ready]:
        """What the instances have to say, by behavior: at least one item, unless `timeout` seconds pass (then `{}`).

        Also `{}` once what `watch` was given becomes readable.

        Raises:
            InstanceFailed: an instance failed once more than its budget allows, and too few others live.
        """
        fleet = self._started()
        until = math.inf if timeout is None else time.monotonic() + timeout
        self._watched = False
        while True:
            index = fleet.poll(until)
            if index is not None:
                return {self._spec.name: self._ready(fleet, index)}
            if fleet.failed:
                return {self._spec.name: self._ready(fleet, _NOBODY)}
            if self._watched or time.monotonic() >= until:
                return {}

    def send(self, behavior: str, agents: Array, continuous: Array, discrete: Array) -> None:
        """Actions for any agents that wait: `agents` (N,), `continuous` (N, C) float32, `discrete` (N, B) int32."""
        if len(agents):
            if np.count_nonzero(self._waiting[agents]) < len(agents):
                raise ValueError(f"agents {agents[~self._waiting[agents]].tolist()} do not wait for an action")
            self._waiting[agents] = False
            self._slots.continuous[agents] = continuous
            self._slots.discrete[agents] = discrete
            if self._recorded:
                self._record(agents, continuous, discrete)
            self._started().command(agents)

    def watch(self, fileobj: Any) -> None:
        """Lets `recv` return early when this socket is readable; what can be read is thrown away."""
        fileobj.setblocking(False)
        self._selector.register(fileobj, selectors.EVENT_READ, lambda: self._wake(fileobj))

    def request_picture(self, file: Path) -> None:
        """Asks for the next whole episode of instance 0 as the GIF `file`; none comes where the env cannot render."""
        if self._can_film and self._filming is None:
            self.picture = None
            self._film_wanted = file

    @property
    def retired(self) -> Array:
        """(I,) bool: instances that have failed for good."""
        return self._started().budget.retired

    @property
    def busy_seconds(self) -> Array:
        """(I,) float64: how long steps and resets have taken since the start, as the workers measured or waited."""
        busy: Array = self._slots.busy.copy()
        return busy

    def state(self) -> ManagerState:
        """What `resume` takes. Call it while every agent waits: a step under way would be driven through unseen."""
        actions = None
        if self._record_actions:
            recorded = [self._recorded[instance] for instance in range(self.instances)]
            actions = [Actions(list(kept.continuous), list(kept.discrete)) for kept in recorded]
        return {"episodes": np.maximum(self._begun - 1, 0).tolist(), "actions": actions}

    def close(self) -> None:
        """Ends all processes. Calling it again does nothing."""
        if self._fleet is not None:
            self._fleet.close()
            self._fleet = None
        if self._filming is not None:
            self._filming.close()
            self._filming = None
        self._selector.close()

    def _started(self) -> Fleet:
        if self._fleet is None:
            raise RuntimeError("start() comes first, and nothing after close()")
        return self._fleet

    def _take_up(self, resume: ManagerState) -> dict[int, Actions]:
        """Sets the counts of episodes to where they were; returns the actions to be driven through, by instance."""
        known = min(self.instances, len(resume["episodes"]))
        self._begun[:known] = np.add(resume["episodes"][:known], 1)
        if resume["actions"] is None:
            return {}
        return {i: Actions(*resume["actions"][i]) for i in range(known)}

    def _ready(self, fleet: Fleet, index: Array) -> Ready:
        slots = self._slots
        lost = self._take_lost(fleet) if fleet.failed else _NOBODY
        flags = slots.flags.take(index)
        metrics: dict[int, dict[str, float]] = {}
        if flags.tobytes().count(STEPPED) == len(flags):  # the usual case: nothing begins or ends
            closed, cut = index, _NOBODY
            terminated, truncated = np.zeros(len(index), bool), np.zeros(len(index), bool)
        else:
            self._alive[index] = True
            self._begun[index] = slots.episode.take(index) + 1
            closing = (flags & STEPPED) != 0
            closed, flags = index[closing], flags[closing]
            terminated, truncated = (flags & TERMINATED) != 0, (flags & TRUNCATED) != 0
            cut = closed[truncated]
            metrics = {i: fleet.take_metrics(i) for i in closed[(flags & METRICS) != 0].tolist()}
            if self._recorded or self._film_wanted:
                self._keep_recording(closed[terminated | truncated])
        self.samples[closed] += 1
        self._waiting[index] = True
        instance = index.astype(np.int32)
        results = StepResults(
            instance if closed is index else closed.astype(np.int32),
            closed,
            slots.reward.take(closed),
            terminated,
            truncated,
            tuple(field.take(cut, axis=0) for field in slots.final_observations) if len(cut) else self._no_finals,
            slots.final_mask.take(cut, axis=0),
        )
        observations = tuple(field.take(index, axis=0) for field in slots.observations)
        decisions = Decisions(instance, index, observations, slots.mask.take(index, axis=0))
        return Ready(results, decisions, lost, metrics)

    def _take_lost(self, fleet: Fleet) -> Array:
        failed = np.unique(fleet.failed)  # an instance can fail, and then its worker
        fleet.failed = []
        lost: Array = failed[self._alive[failed]]
        self._alive[failed] = self._waiting[failed] = False
        for instance in self._recorded.keys() & failed.tolist():
            self._begin_recording(instance)
        return lost

    def _record(self, agents: Array, continuous: Array, discrete: Array) -> None:
        for row, agent in enumerate(agents.tolist()):
            if agent in self._recorded:
                actions = self._recorded[agent]
                actions.continuous.append(continuous[row].tolist())
                actions.discrete.append(discrete[row].tolist())

    def _keep_recording(self, ended: Array) -> None:
        """Episodes of the instances `ended` are over, and new ones begin."""
        for instance in ended.tolist():
            if instance == 0 and self._film_wanted and 0 in self._recorded:
                self._film(self._recorded[0], self._film_wanted)
                self._film_wanted = None
            self._begin_recording(instance)

    def _begin_recording(self, instance: int) -> None:
        if self._record_actions or (instance == 0 and self._film_wanted):
            self._recorded[instance] = Actions([], [])
        else:
            self._recorded.pop(instance, None)

    def _film(self, actions: Actions, file: Path) -> None:
        episode = int(self._begun[0]) - 2
        shown = Actions(actions.continuous[:MAX_FRAMES], actions.discrete[:MAX_FRAMES])
        self._filming = Filming(self.env, self._spec, episode_seed(self.seed, 0, episode), shown, file)
        self._selector.register(self._filming.inbox.socket, selectors.EVENT_READ, self._take_picture)

    def _take_picture(self) -> None:
        filming = self._filming
        if filming is None or not filming.take():
            return
        self._selector.unregister(filming.inbox.socket)
        filming.close()
        self._filming = None
        if filming.error is None:
            self.picture = filming.file
        else:
            self._can_film = False
            self.events.append(InstanceEvent("fault", 0, f"No pictures of play, as rendering failed:\n{filming.error}"))

    def _wake(self, fileobj: Any) -> None:
        self._watched = True
        with contextlib.suppress(BlockingIOError):
            if not fileobj.recv(65536):
                self._selector.unregister(fileobj)  # the other side has gone


_KEPT_EVENTS = 1000
_NOBODY: Array = np.zeros(0, np.int64)
