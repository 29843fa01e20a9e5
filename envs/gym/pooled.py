"""What managers of worker processes share, whatever their instances are: workers, what is noted, recorded and filmed.

Shapes: I instances, N agents; C continuous actions, B discrete branches.
"""

from __future__ import annotations

import itertools
import selectors
from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.api import InstanceEvent, Manager, Setup
from envs.gym.probe import Probe, choose_workers
from envs.gym.replay_gif import MAX_FRAMES, Filming, Play
from envs.gym.slots import InstanceSlots
from envs.gym.worker import Actions, WorkPlan
from envs.gym.worker_pool import WorkerPool
from envs.parameters import Episode, Parameters
from envs.seeding import episode_seed
from envs.spec import Array, Lessons

if TYPE_CHECKING:
    from envs.gym.config import PooledConfig


class PooledManager(Manager):
    """Instances in worker processes.

    A kind writes `start`, which ends with `_launch`, `poll`, `send` and `_play`.
    """

    agents_an_instance = 1
    """Actions that an instance may take in one step."""
    _slots: InstanceSlots

    def __init__(self, config: PooledConfig, setup: Setup) -> None:
        super().__init__(config.instances, setup, config.restarts)
        self.env, self._probed = config.made(), partial(config.probed, setup.seed)
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
        self._recorded: dict[int, Actions] = {}
        self._film_wanted: Path | None = None
        self._filming: Filming | None = None
        self._can_film = False
        self._pool: WorkerPool | None = None

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

    @abstractmethod
    def _plan(self, first: int, count: int, replay: dict[int, Actions]) -> WorkPlan[Any, Any]:
        """Returns what the worker of `count` instances from `first` on is to do."""

    @abstractmethod
    def _play(self, seed: int, actions: Actions) -> Play:
        """Returns what plays an episode again, to be drawn."""

    def _started(self) -> WorkerPool:
        if self._pool is None:
            raise RuntimeError("start() comes first, and nothing after close()")
        return self._pool

    def _note(self, found: Probe) -> int:
        """Notes what the first look has found; returns how many workers there are to be."""
        workers = self._workers or choose_workers(self.instances, found.pace)
        self.spread = f"{self.instances} instances in {workers} workers"
        self._can_film = found.pictures
        scale, longest = self.env.time_scale, found.pace.longest_duration
        if scale and longest > _LONG_SECONDS * scale:
            text = (
                f"info['duration'] is {longest:g}: so many seconds a step lasts, and a game waits {longest / scale:g} "
                f"s for it at env.time_scale={scale:g}. If it means something else, give it another name, or set "
                "env.time_scale=0."
            )
            self.events.append(InstanceEvent("note", 0, text))
        if not found.parameters_seen:
            text = (
                f"{self.env.id} has not looked at options['parameters'] in its first reset: env.parameters may have no "
                "effect. A game takes them there, or by a method set_parameters(parameters)."
            )
            self.events.append(InstanceEvent("fault", 0, text))
        return workers

    def _launch(self, workers: int, block: Any) -> list[int]:
        """Starts workers on slots in `block`; returns the instances whose resumed episodes are begun again."""
        slots = self._slots
        slots.lessons[:] = self._lessons.row
        self._played = slots.played.copy()
        self.busy_seconds = slots.busy
        slots.episode[:] = self.begun - 1
        replay, self._replay = self._replay, {}
        resumed = list(replay)
        slots.episode[resumed] -= 1
        bounds = np.linspace(0, self.instances, workers + 1).astype(int).tolist()
        plans = []
        for first, stop in itertools.pairwise(bounds):
            mine = {instance: replay[instance] for instance in range(first, stop) if instance in replay}
            plans.append(self._plan(first, stop - first, mine))
        if self._record_actions:
            self._recorded = {i: replay.get(i, Actions([], [])) for i in range(self.instances)}
        self._pool = WorkerPool(plans, block, self.selector, step_timeout=self._step_timeout, budget=self.budget)
        return resumed

    def _take_failed(self, pool: WorkerPool) -> Array:
        """Returns the instances that have failed since the last call; what was recorded of them is void."""
        failed = np.unique(pool.failed)  # an instance can fail, and then its worker
        pool.failed = []
        for instance in self._recorded.keys() & failed.tolist():
            self._begin_recording(instance)
        return failed

    def _record(self, instances: Array, continuous: Array, discrete: Array) -> None:
        """Notes actions (N, C) and (N, B) that were taken in `instances` (N,)."""
        for row, instance in enumerate(instances.tolist()):
            if instance in self._recorded:
                actions = self._recorded[instance]
                actions.continuous.append(continuous[row].tolist())
                actions.discrete.append(discrete[row].tolist())

    def _note_episodes(self, ended: Array, begun: Array) -> None:
        """Episodes of the instances `ended` are over, and those of `begun` have begun."""
        if self._parameters.lessons:
            self._played[begun] = self._slots.played[begun]
        if self._recorded or self._film_wanted:
            self._keep_recording(ended)
        if self._recorded and self._parameters:
            self._note_parameters(begun)

    def _keep_recording(self, ended: Array) -> None:
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
        episode, most = int(self.begun[0]) - 2, MAX_FRAMES * self.agents_an_instance
        shown = Actions(actions.continuous[:most], actions.discrete[:most], actions.begun)
        self._filming = Filming(self._play(episode_seed(self.seed, 0, episode), shown), file)
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
