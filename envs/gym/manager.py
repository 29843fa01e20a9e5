"""The asynchronous manager: many instances of one env, none of which waits for another.

Shapes: I instances, N decisions, M results, K of them truncated; C continuous actions, B discrete branches.
"""

from __future__ import annotations

import numpy as np

from envs.api import Setup
from envs.gym.config import PooledConfig
from envs.gym.pooled import PooledManager
from envs.gym.replay_gif import GymPlay
from envs.gym.slots import METRICS, STEPPED, TERMINATED, TRUNCATED, AgentSlots, Slots, allocate
from envs.gym.worker import Actions, Plan
from envs.gym.worker_pool import WorkerPool
from envs.spec import Array, BehaviorSpec, Decisions, Lessons, Ready, StepResults


class EnvManager(PooledManager):
    """Instances of one Gymnasium env in worker processes.

    An agent's number is its instance's: there is one agent in each.
    """

    def __init__(self, config: PooledConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self._alive: Array = np.zeros(self.instances, bool)
        self._waiting: Array = np.zeros(self.instances, bool)

    def start(self) -> dict[str, BehaviorSpec]:
        """Starts the workers, and returns the specs by behavior without waiting for the instances to be ready.

        Raises:
            UserError: the env cannot be made or reset (with its traceback), or has a space that cannot be served.
        """
        found = self._probed()
        workers = self._note(found)
        self._spec = found.spec
        self.specs[found.spec.name] = found.spec
        lessons = len(self._parameters.lessons)
        block = allocate(found.spec, self.instances, lessons)
        self._slots: Slots = Slots(found.spec, self.instances, block, lessons)
        resumed = self._launch(workers, block)
        self._alive[resumed] = True  # should they fail, what they came from is lost
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

    def _plan(self, first: int, count: int, replay: dict[int, Actions]) -> Plan:
        return Plan(self.env, self._spec, self.instances, first, count, self.seed, replay)

    def _play(self, seed: int, actions: Actions) -> GymPlay:
        return GymPlay(self.env, self._spec, seed, actions)

    def _ready(self, pool: WorkerPool, index: Array) -> Ready:
        slots = self._slots
        lost = self._take_lost(pool) if pool.failed else _NOBODY
        flags = slots.flags.take(index)
        metrics: dict[int, dict[str, float]] = {}
        played: dict[int, Lessons] = {}
        if flags.tobytes().count(STEPPED) == len(flags):  # the usual case: nothing begins or ends
            closed = index
            terminated, truncated = np.zeros(len(index), bool), np.zeros(len(index), bool)
        else:
            self._alive[index] = True
            self.begun[index] = slots.episode.take(index) + 1
            begun = index[flags != STEPPED]
            closing = (flags & STEPPED) != 0
            closed, flags = index[closing], flags[closing]
            terminated, truncated = (flags & TERMINATED) != 0, (flags & TRUNCATED) != 0
            for i in closed[(flags & METRICS) != 0].tolist():
                metrics |= pool.take_metrics(i)
            ended = closed[terminated | truncated]
            if self._parameters.lessons:
                played = {agent: Lessons.of(self._played[agent]) for agent in ended.tolist()}
            self._note_episodes(ended, begun)
        self.samples[closed] += 1
        self._waiting[index] = True
        instance = index.astype(np.int32)
        closed_instance = instance if closed is index else closed.astype(np.int32)
        results = step_results(slots, closed_instance, closed, terminated, truncated)
        return Ready(results, decisions(slots, instance, index), lost, metrics, played)

    def _take_lost(self, pool: WorkerPool) -> Array:
        failed = self._take_failed(pool)
        lost: Array = failed[self._alive[failed]]
        self._alive[failed] = self._waiting[failed] = False
        return lost


def step_results(slots: AgentSlots, instance: Array, agents: Array, terminated: Array, truncated: Array) -> StepResults:
    """Returns what `agents` (M,) of `instance` (M,) have got, some of whose episodes have ended (M,)."""
    cut = agents[truncated]
    return StepResults(
        instance,
        agents,
        slots.reward.take(agents),
        terminated,
        truncated,
        tuple(field.take(cut, axis=0) for field in slots.final_observations),
        slots.final_mask.take(cut, axis=0),
    )


def decisions(slots: AgentSlots, instance: Array, agents: Array) -> Decisions:
    """Returns what `agents` (N,) of `instance` (N,) ask."""
    observations = tuple(field.take(agents, axis=0) for field in slots.observations)
    return Decisions(instance, agents, observations, slots.mask.take(agents, axis=0))


_NOBODY: Array = np.zeros(0, np.int64)
