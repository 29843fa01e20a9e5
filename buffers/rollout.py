"""Rollouts for on-policy algorithms: every sampleable row once, oldest first, grouped by agent.

Shapes: N rows of a rollout, S segments, R numbers of the recurrent state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from buffers.rows import Rows, observation_names
from buffers.teammates import Teammates, find_teammates
from envs.spec import Array


class Sequences(NamedTuple):
    """The rows of a rollout as B sequences of L rows, in their order, padded where a segment has no more."""

    rows: Array
    """(B, L) int64: places of rows in the rollout; that of the sequence's first where padded."""
    loss_mask: Array
    """(B, L) bool: False where padded, or where steps only lead up to others."""


def cut(ends: Array, length: int, lead: int = 0) -> Sequences:
    """Segments that lie one after another, whose last rows are at `ends` (S,), in sequences.

    These begin every `length` rows of a segment. They are longer by `lead` rows, and begin with as many that do not
    count, but for a segment's first: so each row counts in exactly one sequence.
    """
    firsts = np.concatenate(([0], ends[:-1] + 1))
    counts = (ends - firsts) // length + 1
    segments = np.repeat(np.arange(len(counts)), counts)
    order = np.arange(len(segments)) - (np.cumsum(counts) - counts)[segments]
    rows = (firsts[segments] + order * length)[:, None] + np.arange(length + lead)
    valid = rows <= ends[segments, None]
    loss_mask = valid.copy()
    loss_mask[order > 0, :lead] = False
    return Sequences(np.where(valid, rows, rows[:, :1]), loss_mask)


@dataclass
class Rollout:
    """A rollout of N rows: one segment after another, each a stretch of linked rows of one agent in order of time."""

    numbers: Array
    """(N,) int64."""
    observations: tuple[Array, ...]
    """For each observation (N, *shape)."""
    mask: Array
    """(N, A) bool."""
    continuous: Array
    """(N, C) float32."""
    discrete: Array
    """(N, D) int32."""
    log_prob: Array
    """(N,) float32, of the policy that acted."""
    versions: Array
    """(N,) int64, of the policy that acted."""
    rewards: Array
    """(N,) float32."""
    terminated: Array
    """(N,) bool."""
    recurrent_state: Array
    """(N, R) float32: the actor's recurrent state before each step; R is 0 without."""
    ends: Array
    """(S,) int64: place of each segment's last row; every other row is followed by the agent's next."""
    bootstrapped: Array
    """(S,) bool: False where a segment ends with its episode terminated."""
    bootstrap_observations: tuple[Array, ...]
    """For each observation (S, *shape): what the agent saw after the segment's last row; zeros if terminated."""
    bootstrap_state: Array
    """(S, R) float32: before the step that followed the segment; zeros if terminated."""
    following: Array
    """(S,) int64: number of the row with which the agent's episode goes on, 0 where it ended."""
    overwritten: int
    """Rows up to this number were overwritten, or about to be, when these were taken."""
    teammates: Teammates | None = None
    """Of rows that name teammates."""

    @property
    def firsts(self) -> Array:
        """(S,) int64: place of each segment's first row."""
        return np.concatenate(([0], self.ends[:-1] + 1))


class RolloutReader:
    """Takes rollouts of `size` rows from `rows` while a writer goes on. Waits for no particular instance.

    A row that is not linked yet stays behind, and is the first of its agent's next segment.
    """

    def __init__(self, rows: Rows, size: int) -> None:
        self.rows = rows
        self.size = size
        self.dropped = 0
        """Sampleable rows that were never delivered: too old, or overwritten before they were taken."""
        self._cursor = 0  # every row up to this number is settled, but for the pending
        self._pending = np.zeros(0, np.int64)  # numbers up to the cursor that are open, or left over
        self._carried = np.zeros(0, np.bool_)  # which of them were there when the last rollout was taken
        self._settled = 0  # sampleable rows delivered or dropped
        self._seen = observation_names(rows.layout.spec)
        inputs = (*self._seen, "memory") if rows.layout.state_size else self._seen
        self._names = ("version", "log_prob", "reward", "terminated", "mask", "continuous", "discrete", *inputs)
        self._bootstrap = ("final", *inputs)

    @property
    def waiting(self) -> int:
        """Sampleable rows not yet taken. More than are found where a rollout has yet to count overwritten ones."""
        return self.rows.sampleable - self._settled

    def take(self, version: int, max_lag: int) -> Rollout | None:
        """Take the oldest `size` sampleable rows that are fresh enough, or return None if there are fewer.

        Rows whose policy is more than `max_lag` versions older than `version` are dropped and counted. A row that was
        there at the last rollout, open or left over, may be one version older still: with `max_lag` 0 no game moves
        during an update, yet each agent's last row is complete only with the agent's next decision.
        """
        return self._take(version - max_lag, self.size)

    def take_any(self) -> Rollout | None:
        """Take the oldest sampleable rows, however old their policies: up to `size`, or None if there are none."""
        return self._take(0, 1)

    def _take(self, oldest: int, least: int) -> Rollout | None:
        """Take up to `size` rows, not fewer than `least`, of policies from version `oldest` on."""
        while True:
            survey = self._survey()
            stale = survey.sampleable & (oldest - survey.version > survey.carried)
            fresh = np.flatnonzero(survey.sampleable & ~stale)
            left = survey.sampleable & ~stale | survey.open
            dropped = survey.lost + int(np.count_nonzero(stale))
            if fresh.size < least:
                self._settle(survey, left, survey.carried, dropped, 0)
                return None
            taken = fresh[: self.size]
            left[taken] = False
            rollout = self._collect(survey.numbers[taken], survey.next[taken])
            if survey.numbers[taken[0]] > self.rows.overwritten:
                self._settle(survey, left, np.ones_like(left), dropped, len(taken))
                return rollout

    def state(self) -> dict[str, Array]:
        """What `load_state` needs to go on."""
        return {
            "cursor": np.array(self._cursor, np.int64),
            "dropped": np.array(self.dropped, np.int64),
            "pending": self._pending.copy(),
            "carried": self._carried.copy(),
        }

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on where the rollout that gave `state` stood, with restored rows, be they of a moment earlier or later."""
        head = self.rows.head
        self._cursor = min(int(state["cursor"]), head)
        self.dropped = int(state["dropped"])
        pending: Array = np.array(state["pending"], np.int64)
        held = pending <= head
        self._pending, self._carried = pending[held], np.array(state["carried"], np.bool_)[held]
        self._settled = 0
        self._settled = self._survey().lost

    def _survey(self) -> _Survey:
        """Look at all rows that are not settled."""
        rows = self.rows
        sampleable = rows.sampleable  # before `head`, so that every row that it counts is found or lost
        head = rows.head
        recent = np.arange(max(self._cursor, rows.overwritten) + 1, head + 1, dtype=np.int64)
        carried: Array = np.concatenate((self._carried, np.zeros(len(recent), np.bool_)))
        numbers: Array = np.concatenate((self._pending, recent))
        links, final, version = rows.gather(numbers, ("next", "final", "version"))
        held = numbers > rows.overwritten
        if not held.all():
            arrays = numbers, carried, links, final, version
            numbers, carried, links, final, version = (array[held] for array in arrays)
        found = links >= 0
        lost = max(0, sampleable - self._settled - int(np.count_nonzero(found)))
        return _Survey(head, numbers, links, version, found, ~(found | final), carried, lost)

    def _settle(self, survey: _Survey, left: Array, carried: Array, dropped: int, taken: int) -> None:
        self._cursor = survey.head
        self._pending, self._carried = survey.numbers[left], carried[left]
        self.dropped += dropped
        self._settled += dropped + taken

    def _collect(self, numbers: Array, links: Array) -> Rollout:
        """Group rows, given in order of number, by agent."""
        rows = self.rows
        (agent,) = rows.gather(numbers, ("agent",))
        order = np.argsort(agent, kind="stable")
        numbers, links = numbers[order], links[order]
        gathered = dict(zip(self._names, rows.gather(numbers, self._names)))
        ends = np.flatnonzero(np.append(links[:-1] != numbers[1:], True))
        bootstrap = links[ends]
        following = dict(zip(self._bootstrap, rows.gather(bootstrap, self._bootstrap)))
        return Rollout(
            numbers=numbers,
            observations=tuple(gathered[name] for name in self._seen),
            mask=gathered["mask"],
            continuous=gathered["continuous"],
            discrete=gathered["discrete"],
            log_prob=gathered["log_prob"],
            versions=gathered["version"],
            rewards=gathered["reward"],
            terminated=gathered["terminated"],
            recurrent_state=gathered.get("memory", np.zeros((len(numbers), 0), np.float32)),
            ends=ends,
            bootstrapped=bootstrap > 0,
            bootstrap_observations=tuple(following[name] for name in self._seen),
            bootstrap_state=following.get("memory", np.zeros((len(bootstrap), 0), np.float32)),
            following=np.where(following["final"], 0, bootstrap),
            overwritten=rows.overwritten,
            teammates=find_teammates(rows, numbers, bootstrap) if rows.layout.mates else None,
        )


@dataclass
class _Survey:
    """Rows that are not settled, in order of number."""

    head: int
    numbers: Array
    next: Array
    version: Array
    sampleable: Array
    open: Array
    carried: Array
    lost: int
    """Sampleable rows that were overwritten since the last survey."""
