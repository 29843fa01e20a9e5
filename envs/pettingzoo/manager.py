"""The manager of PettingZoo games: an instance is one game, and goes on once all whom it asks have an action.

Shapes: I instances, P seats of a behavior, N decisions, M results; C continuous actions, B discrete branches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.api import Setup
from envs.gym.manager import decisions, step_results
from envs.gym.pooled import PooledManager
from envs.gym.slots import METRICS, STEPPED, TERMINATED, TRUNCATED, allocate_fields
from envs.gym.worker import Actions
from envs.pettingzoo.cast import Cast
from envs.pettingzoo.config import PettingZooConfig
from envs.pettingzoo.worker import ASKS, GamePlan, GamePlay, GameSlots, game_fields
from envs.spec import Array, BehaviorSpec, Decisions, Lessons, Ready, StepResults


class GameManager(PooledManager):
    """Instances of one PettingZoo environment in worker processes.

    An agent's number is its seat's, `instance * P + place` among those of its behavior.
    """

    def __init__(self, config: PettingZooConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self._missing: Array = np.zeros(self.instances, np.int64)
        """(I,) agents that each instance has asked and that have no action yet."""
        self._episode: Array = np.full(self.instances, -1)
        """(I,) number of the episode that was last heard of; -1 = of none since the instance has started."""
        self._behaviors: dict[str, _Behavior] = {}

    def start(self) -> dict[str, BehaviorSpec]:
        """Starts the workers, and returns the specs by behavior without waiting for the instances to be ready.

        Raises:
            UserError: the env cannot be made or reset (with its traceback), has spaces that cannot be served, or agents
                that do not fit the settings.
        """
        found = self._probed()
        workers = self._note(found)
        self._cast: Cast = found.cast
        self.agents_an_instance = len(self._cast.seats)
        lessons = len(self._parameters.lessons)
        block = allocate_fields(game_fields(self._cast, self.instances, lessons), self.instances)
        self._slots: GameSlots = GameSlots(self._cast, self.instances, block, lessons)
        for b, spec in enumerate(self._cast.specs):
            self.specs[spec.name] = spec
            self._behaviors[spec.name] = _Behavior(self._cast, b, self._slots, self.instances)
        for instance in self._launch(workers, block):  # should it fail, what it came from is lost
            for behavior in self._behaviors.values():
                behavior.alive[behavior.rows(np.array([instance]))] = True
        return self.specs

    def poll(self, until: float) -> dict[str, Ready]:  # noqa: D102
        pool = self._started()
        index = pool.poll(until)
        if index is None and not pool.failed:
            return {}
        failed = self._take_failed(pool) if pool.failed else _NOBODY
        index = _NOBODY if index is None else index
        self._missing[failed] = self._missing[index] = 0
        self._episode[failed] = -1
        heard = {name: behavior.hear(index, failed) for name, behavior in self._behaviors.items()}
        reporting = [
            behavior.instance[each.reporting] for behavior, each in zip(self._behaviors.values(), heard.values())
        ]
        metrics = {instance: pool.take_metrics(instance) for instance in set(np.concatenate(reporting).tolist())}
        ready = {}
        for name, each in heard.items():
            results, asked = each.results, each.decisions
            np.add.at(self.samples, results.instance, 1)
            np.add.at(self._missing, asked.instance, 1)
            if len(results.agent) or len(asked.agent) or len(each.lost):
                own = {agent: numbers for of in metrics.values() for agent, numbers in of.get(name, {}).items()}
                ready[name] = Ready(results, asked, each.lost, own, self._lessons_of(results))
        self._count_episodes(index)
        return ready

    def send(self, behavior: str, agents: Array, continuous: Array, discrete: Array) -> None:  # noqa: D102
        if not len(agents):
            return
        own = self._behaviors[behavior]
        if not own.waiting[agents].all():
            raise ValueError(f"agents {agents[~own.waiting[agents]].tolist()} do not wait for an action")
        own.waiting[agents] = False
        own.slots.continuous[agents] = continuous
        own.slots.discrete[agents] = discrete
        instance = own.instance[agents]
        if self._recorded:
            self._record(instance, continuous, np.column_stack([own.seat[agents], discrete]))
        served = np.bincount(instance, minlength=self.instances)
        self._missing -= served
        if len(complete := np.flatnonzero((served > 0) & (self._missing == 0))):
            self._started().command(complete)

    def _plan(self, first: int, count: int, replay: dict[int, Actions]) -> GamePlan:
        return GamePlan(self.env, self._cast, self.instances, first, count, self.seed, replay)

    def _play(self, seed: int, actions: Actions) -> GamePlay:
        return GamePlay(self.env, self._cast, seed, actions)

    def _lessons_of(self, results: StepResults) -> dict[int, Lessons]:
        """Returns by agent the lessons in which the episodes were played that have ended."""
        if not self._parameters.lessons:
            return {}
        over = results.terminated | results.truncated
        return {
            agent: Lessons.of(self._played[instance])
            for agent, instance in zip(results.agent[over].tolist(), results.instance[over].tolist())
        }

    def _count_episodes(self, index: Array) -> None:
        """Notes the episodes that have ended and begun in the instances `index`."""
        now, before = self._slots.episode.take(index), self._episode.take(index)
        if not np.count_nonzero(fresh := now != before):
            return
        begun = index[fresh]
        self._episode[begun] = now[fresh]
        self.begun[begun] = now[fresh] + 1
        self._note_episodes(index[fresh & (before >= 0)], begun)


class _Heard(NamedTuple):
    """What the agents of one behavior have said."""

    results: StepResults
    decisions: Decisions
    lost: Array
    reporting: Array
    """Agents (any number) whose last info holds numbers."""


class _Behavior:
    """The agents of one behavior in all instances: rows (I * P) of its slots."""

    def __init__(self, cast: Cast, b: int, slots: GameSlots, instances: int) -> None:
        seats = cast.of[b]
        self.slots = slots.of[b]
        self.instance = np.repeat(np.arange(instances, dtype=np.int32), len(seats))
        self.seat = np.tile(seats, instances)
        self.waiting = np.zeros(instances * len(seats), bool)
        """Agents that have been asked and have no action yet."""
        self.alive = np.zeros(instances * len(seats), bool)
        """Agents whose episode has begun and not ended."""
        self._places = np.arange(len(seats))
        self._group_reward = slots.group_reward[b] if cast.groups else None
        teams = np.array([cast.seats[seat].team for seat in seats], np.int32)
        self._team = np.tile(teams, instances) if cast.teams else None
        groups = np.array([cast.seats[seat].group for seat in seats], np.int64)
        apart = groups + (self.instance.reshape(instances, -1).astype(np.int64) << 32)
        self._group = np.where(groups, apart, 0).ravel() if cast.groups else None

    def rows(self, instances: Array) -> Array:
        """Returns the rows of all agents in these instances (N,)."""
        found: Array = np.add.outer(instances * len(self._places), self._places).ravel()
        return found

    def hear(self, index: Array, failed: Array) -> _Heard:
        """Takes what agents have said in the instances `index`, and forgets those in the instances that have failed."""
        gone = self.rows(failed)
        lost = gone[self.alive[gone]]
        self.alive[gone] = self.waiting[gone] = False
        rows = self.rows(index)
        flags = self.slots.flags.take(rows)
        stepped, asking = (flags & STEPPED) != 0, rows[(flags & ASKS) != 0]
        closed, flags = rows[stepped], flags[stepped]
        terminated, truncated = (flags & TERMINATED) != 0, (flags & TRUNCATED) != 0
        self.alive[closed[terminated | truncated]] = False
        self.alive[asking] = self.waiting[asking] = True
        results = step_results(self.slots, self.instance[closed], closed, terminated, truncated)
        asked = decisions(self.slots, self.instance[asking], asking)
        if self._group_reward is not None and self._group is not None:
            results = results._replace(group_reward=self._group_reward[closed])
            asked = asked._replace(group=self._group[asking])
        if self._team is not None:
            asked = asked._replace(team=self._team[asking])
        return _Heard(results, asked, lost, closed[(flags & METRICS) != 0])


_NOBODY: Array = np.zeros(0, np.int64)
