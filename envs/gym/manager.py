"""The asynchronous manager: many instances of one env, none of which waits for another.

Shapes: I instances, N decisions, M results, K of them truncated; C continuous actions, B discrete branches.
"""

from __future__ import annotations

import itertools
import selectors
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from envs.api import InstanceEvent, Manager, Setup
from envs.gym.config import GymConfig
from envs.gym.probe import choose_workers
from envs.gym.replay_gif import MAX_FRAMES, Filming
from envs.gym.slots import METRICS, STEPPED, TERMINATED, TRUNCATED, Slots, allocate
from envs.gym.worker import Actions, Plan
from envs.gym.worker_pool import WorkerPool
from envs.parameters import Episode, Parameters
from envs.seeding import episode_seed
from envs.spec import Array, BehaviorSpec, Decisions, Lessons, Ready, StepResults


class EnvManager(Manager):
    """Instances of one Gymnasium env in worker processes.

    An agent's number is its instance's: there is one agent in each.
    """

    def __init__(self, config: GymConfig, setup: Setup) -> None:
        super().__init__(config.instances, setup, config.restarts)
        self.env, self._probed = config.gym_env(), partial(config.probed, setup.seed)
        self._workers, self._step_timeout = config.workers, config.step_timeout
        self._record_actions = setup.record_actions
        self._parameters = Parameters(config.parameters)
        self._lessons = setup.lessons or self._parameters.last
        # The actions that resumed episodes are driven through, by instance; an episode that never began has none.
        kept = (setup.resume or {}).get("actions") or []
        saved = (Actions(*actions) for actions in kept[: self.instances])
        self._replay = {
            i: actions._replace(begun=Episode.of(actions.begun)) for i, actions in enumerate(saved) if self.begun[i]
        }
        self._alive: Array = np.zeros(self.instances, bool)
        self._waiting: Array = np.zeros(self.instances, bool)
        self._recorded: dict[int, Actions] = {}
        self._film_wanted: Path | None = None
        self._filming: Filming | None = None
        self._can_film = False
        self._pool: WorkerPool | None = None

    def start(self) -> dict[str, BehaviorSpec]:
        """Starts the workers, and returns the specs by behavior without waiting for the instances to be ready.

        Raises:
            UserError: the env cannot be made or reset (with its traceback), or has a space that cannot be served.
        """
        found = self._probed()
        workers = self._workers or choose_workers(self.instances, found.pace)
        self.spread = f"{self.instances} instances in {workers} workers"
        self._spec = found.spec
        self._can_film = found.pictures
        if self.env.time_scale and found.pace.longest_duration > _LONG_SECONDS * self.env.time_scale:
            waited = found.pace.longest_duration / self.env.time_scale
            text = (
                f"info['duration'] is {found.pace.longest_duration:g}: so many seconds a step lasts, and a game waits "
                f"{waited:g} s for it at env.time_scale={self.env.time_scale:g}. If it means something else, give it "
                "another name, or set env.time_scale=0."
            )
            self.events.append(InstanceEvent("note", 0, text))
        if not found.parameters_seen:
            text = (
                f"{self.env.id} has not looked at options['parameters'] in its first reset: env.parameters may have no "
                "effect. A game takes them there, or by a method set_parameters(parameters)."
            )
            self.events.append(InstanceEvent("fault", 0, text))
        self.specs[found.spec.name] = found.spec
        lessons = len(self._parameters.lessons)
        block = allocate(found.spec, self.instances, lessons)
        self._slots = Slots(found.spec, self.instances, block, lessons)
        self._slots.lessons[:] = self._lessons.row
        self._played = self._slots.played.copy()
        self._no_finals = tuple(field[:0].copy() for field in self._slots.final_observations)
        self.busy_seconds = self._slots.busy
        self._slots.episode[:] = self.begun - 1
        replay, self._replay = self._replay, {}
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
        self._pool = WorkerPool(plans, block, self.selector, step_timeout=self._step_timeout, budget=self.budget)
        return self.specs

    def poll(self, until: float) -> dict[str, Ready]:  # noqa: D102
        pool = self._started()
        index = pool.poll(until)
        if index is None and not pool.failed:
            return {}
        return {self._spec.name: self._ready(pool, _NOBODY if index is None else index)}

    def send(self, behavior: str, agents: Array, continuous: Array, discrete: Array) -> None:  # noqa: D102
        if len(agents):
            if np.count_nonzero(self._waiting[agents]) < len(agents):
                raise ValueError(f"agents {agents[~self._waiting[agents]].tolist()} do not wait for an action")
            self._waiting[agents] = False
            self._slots.continuous[agents] = continuous
            self._slots.discrete[agents] = discrete
            if self._recorded:
                self._record(agents, continuous, discrete)
            self._started().command(agents)

    def set_lessons(self, lessons: Lessons) -> None:  # noqa: D102
        self._lessons = lessons
        if self._pool is not None:
            self._slots.lessons[:] = lessons.row

    def request_picture(self, file: Path) -> None:
        """Asks for the next whole episode of instance 0."""
        if self._can_film and self._filming is None:
            self.picture = None
            self._film_wanted = file.absolute()  # an env may change the folder

    def state(self) -> dict[str, Any]:
        """Returns, with `record_actions`, also what was done in open episodes, a step under way included."""
        actions = None
        if self._record_actions:
            recorded = [self._recorded[instance] for instance in range(self.instances)]
            actions = [Actions(list(kept.continuous), list(kept.discrete), kept.begun) for kept in recorded]
        return {**super().state(), "actions": actions}

    def close(self) -> None:  # noqa: D102
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._filming is not None:
            self._filming.close()
            self._filming = None
        super().close()

    def _started(self) -> WorkerPool:
        if self._pool is None:
            raise RuntimeError("start() comes first, and nothing after close()")
        return self._pool

    def _ready(self, pool: WorkerPool, index: Array) -> Ready:
        slots = self._slots
        lost = self._take_lost(pool) if pool.failed else _NOBODY
        flags = slots.flags.take(index)
        metrics: dict[int, dict[str, float]] = {}
        played: dict[int, Lessons] = {}
        if flags.tobytes().count(STEPPED) == len(flags):  # the usual case: nothing begins or ends
            closed, cut = index, _NOBODY
            terminated, truncated = np.zeros(len(index), bool), np.zeros(len(index), bool)
        else:
            self._alive[index] = True
            self.begun[index] = slots.episode.take(index) + 1
            begun = index[flags != STEPPED]
            closing = (flags & STEPPED) != 0
            closed, flags = index[closing], flags[closing]
            terminated, truncated = (flags & TERMINATED) != 0, (flags & TRUNCATED) != 0
            cut = closed[truncated]
            metrics = {i: pool.take_metrics(i) for i in closed[(flags & METRICS) != 0].tolist()}
            ended = closed[terminated | truncated]
            if self._parameters.lessons:
                played = {agent: Lessons.of(self._played[agent]) for agent in ended.tolist()}
                self._played[begun] = slots.played[begun]
            if self._recorded or self._film_wanted:
                self._keep_recording(ended)
            if self._recorded and self._parameters:
                self._note_parameters(begun)
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
        return Ready(results, decisions, lost, metrics, played)

    def _take_lost(self, pool: WorkerPool) -> Array:
        failed = np.unique(pool.failed)  # an instance can fail, and then its worker
        pool.failed = []
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

    def _note_parameters(self, begun: Array) -> None:
        """Records with which environment parameters the instances `begun` play; resumed episodes have theirs."""
        for instance in begun.tolist():
            actions = self._recorded.get(instance)
            if actions is not None and actions.begun is None:
                played, episode = Lessons.of(self._slots.played[instance]), int(self.begun[instance]) - 1
                drawn = self._parameters.of(played, self.seed, instance, episode)
                self._recorded[instance] = actions._replace(begun=drawn)

    def _film(self, actions: Actions, file: Path) -> None:
        episode = int(self.begun[0]) - 2
        shown = Actions(actions.continuous[:MAX_FRAMES], actions.discrete[:MAX_FRAMES], actions.begun)
        self._filming = Filming(self.env, self._spec, episode_seed(self.seed, 0, episode), shown, file)
        self.selector.register(self._filming.inbox.socket, selectors.EVENT_READ, self._take_picture)

    def _take_picture(self) -> None:
        filming = self._filming
        if filming is None or not filming.take():
            return
        self.selector.unregister(filming.inbox.socket)
        filming.close()
        self._filming = None
        if filming.error is None:
            self.picture = filming.file
        else:
            self._can_film = False
            self.events.append(InstanceEvent("fault", 0, f"No pictures of play, as rendering failed: {filming.error}"))


_LONG_SECONDS = 5.0
"""A step that games wait longer for is rarely meant."""
_NOBODY: Array = np.zeros(0, np.int64)
