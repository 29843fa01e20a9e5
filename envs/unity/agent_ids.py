"""The agents of one behavior over all instances: dense numbers for them, and who waits for what.

Shapes: N agents, A numbers given out so far; C continuous actions, B discrete branches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from envs.spec import Array, BehaviorSpec, Decisions, StepResults
from envs.unity.protocol.bounds import MOST_AGENTS, PlayerFault
from envs.unity.protocol.decoding import MOST_BYTES, Agents, agent_bytes


class Said(NamedTuple):
    """Results and decisions of the agents of one message."""

    results: StepResults
    decisions: Decisions
    answered: Array
    """(N,) int64: the agents in the order in which the player expects its answers; -1 = any action will do."""


class AgentIds:
    """Numbers the agents of a behavior, 0 upwards: an agent keeps its number for life, and then another gets it."""

    def __init__(self, spec: BehaviorSpec) -> None:
        self.spec = spec
        self.instance: Array = np.zeros(_FIRST, np.int32)
        """(A,) where each agent lives."""
        self.continuous: Array = np.zeros((_FIRST, spec.continuous_size), np.float32)
        """(A, C) the last actions of each; so too `discrete`."""
        self.discrete: Array = np.zeros((_FIRST, len(spec.branches)), np.int32)
        """(A, B)."""
        self._numbers: dict[int, dict[int, int]] = {}
        """By instance: the player's ids -> numbers."""
        self._most = min(MOST_AGENTS, MOST_BYTES // agent_bytes(spec))
        """Agents of one instance: their last decisions are kept."""
        self._free = list(range(_FIRST - 1, -1, -1))
        self._waiting: Array = np.zeros(_FIRST, bool)
        """(A,) asked for a decision and has none yet."""
        self._acting: set[int] = set()
        """Numbers of agents with an action whose outcome is not known yet."""

    def check_room(self, instance: int, agents: Agents) -> None:
        """Raises PlayerFault if too many agents of `instance` would be alive, as some have gone without an end."""
        known: Mapping[int, int] = self._numbers.get(instance, {})
        if len(known) + len(agents.id) > self._most:
            alive = len((known.keys() | set(agents.id.tolist())) - set(agents.id[agents.done].tolist()))
            if alive > self._most:
                raise PlayerFault(
                    f"behavior {self.spec.name!r}: {alive:,} of its agents are alive, not at most {self._most:,}; "
                    "each has to end its episode (`done`) before it goes"
                )

    def take(self, instance: int, agents: Agents, team: int = 0) -> Said:
        """Sorts a message of a team of `instance` into results of what agents did, and decisions that they ask for."""
        numbers = self._numbers.setdefault(instance, {})
        keys, ends = agents.id.tolist(), agents.done.tolist()
        gone = _gone(agents, keys, ends) if len(set(keys)) < len(keys) else ()
        closed, closed_numbers, asking, asking_numbers, answered = [], [], [], [], []
        for row, (key, done) in enumerate(zip(keys, ends)):
            if key in gone and not done:
                answered.append(-1)
                continue
            number = numbers.get(key)
            if number is None:
                if done:  # it never asked, so nothing of it is known
                    continue
                number = numbers[key] = self._allot(instance)
            if number in self._acting:
                closed.append(row)
                closed_numbers.append(number)
                self._acting.remove(number)
            if done:
                del numbers[key]
                self._free.append(number)
            else:
                asking.append(row)
                asking_numbers.append(number)
                answered.append(number)
        results = self._results(instance, agents, closed, np.array(closed_numbers, np.int64))
        decisions = self._decisions(instance, agents, asking, np.array(asking_numbers, np.int64), team)
        return Said(results, decisions, np.array(answered, np.int64) if gone else decisions.agent)

    def nobody(self) -> Said:
        """Returns empty results and decisions."""
        none, flags = np.zeros(0, np.int64), np.zeros(0, bool)
        instance, reward = none.astype(np.int32), none.astype(np.float32)
        observations = tuple(np.zeros((0, *o.shape), o.dtype) for o in self.spec.observations)
        mask = np.zeros((0, self.spec.mask_size), bool)
        results = StepResults(instance, none, reward, flags, flags, observations, mask, reward)
        return Said(results, Decisions(instance, none, observations, mask, instance, none), none)

    def act(self, agents: Array, continuous: Array, discrete: Array) -> None:
        """Notes actions of any agents (N,) that wait, continuous ones clipped to [-1, 1]; ValueError if some do not."""
        if not self._waiting[agents].all():
            raise ValueError(f"agents {agents[~self._waiting[agents]].tolist()} do not wait for an action")
        self._waiting[agents] = False
        self._acting.update(agents.tolist())
        self.continuous[agents] = continuous.clip(-1, 1)
        self.discrete[agents] = discrete

    def lose(self, instance: int) -> list[int]:
        """Forgets all agents of an instance that has failed; their numbers."""
        lost = list(self._numbers.pop(instance, {}).values())
        self._acting.difference_update(lost)
        self._waiting[lost] = False
        self._free += lost
        return lost

    def _allot(self, instance: int) -> int:
        if not self._free:
            known = len(self.instance)
            more = max(16, known)
            self.instance, self._waiting = _grown(self.instance, more), _grown(self._waiting, more)
            self.continuous, self.discrete = _grown(self.continuous, more), _grown(self.discrete, more)
            self._free = list(range(known + more - 1, known - 1, -1))
        number = self._free.pop()
        self.instance[number] = instance
        return number

    def _results(self, instance: int, agents: Agents, rows: list[int], numbers: Array) -> StepResults:
        truncated = agents.truncated[rows]
        cut = np.array(rows, np.int64)[truncated]
        return StepResults(
            np.full(len(rows), instance, np.int32),
            numbers,
            agents.reward[rows],
            agents.done[rows] & ~truncated,
            truncated,
            tuple(observation[cut] for observation in agents.observations),
            agents.mask[cut],
            agents.group_reward[rows],
        )

    def _decisions(self, instance: int, agents: Agents, rows: list[int], numbers: Array, team: int) -> Decisions:
        self._waiting[numbers] = True
        whole = len(rows) == len(agents.id)
        group = agents.group[rows].astype(np.int64)
        return Decisions(
            np.full(len(rows), instance, np.int32),
            numbers,
            agents.observations if whole else tuple(observation[rows] for observation in agents.observations),
            agents.mask if whole else agents.mask[rows],
            np.full(len(rows), team, np.int32),
            np.where(group, group + (instance << 32), 0),
        )


_FIRST = 16


def _grown(array: Array, more: int) -> Array:
    """Returns the array with so many more rows of zeros."""
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])


def _gone(agents: Agents, keys: list[int], ends: list[bool]) -> set[int]:
    """Ids that ask and, later in the same message, end: their rewards are added up, and the question is void."""
    asked = {key: row for row, (key, done) in enumerate(zip(keys, ends)) if not done}
    gone = {key: row for row, (key, done) in enumerate(zip(keys, ends)) if done and asked.get(key, row) < row}
    for key, row in gone.items():
        agents.reward[row] += agents.reward[asked[key]]
        agents.group_reward[row] += agents.group_reward[asked[key]]
    return set(gone)
