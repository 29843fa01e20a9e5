"""Agents of one instance that see random numbers, ask in any order, and whose episodes end now and then."""

from __future__ import annotations

import numpy as np

from algorithms.numpy_policy import NumpyActor
from algorithms.policy import Policy
from algorithms.settings import Cell, MemorySettings, NetworkSettings
from buffers.rows import Layout, Rows, Writer
from envs.spec import Array, BehaviorSpec, Decisions, ObservationSpec, Ready, StepResults
from trainer.runtime.collector import Channel
from trainer.runtime.ipc import COUNTERS
from trainer.runtime.rate_limiter import RateLimiter

SPEC = BehaviorSpec("wanderers", (ObservationSpec("seen", (3,), "float32"),), 1, (3,))
AGENTS = 4


def network(cell: str, sequence_length: int = 8, burn_in: int = 3) -> NetworkSettings:
    return NetworkSettings([6], memory=MemorySettings(Cell[cell], 5, sequence_length, burn_in))


class Acting:
    """A policy's copy that acts in numpy."""

    version = 1

    def __init__(self, policy: Policy) -> None:
        self.actor = NumpyActor(policy)
        self.generator = np.random.default_rng(0)

    def refresh(self) -> None: ...

    def act(self, observations: tuple[Array, ...], mask: Array, memory: Array) -> tuple[Array, ...]:
        return self.actor.act(observations, mask, memory, self.generator)

    def state(self) -> None: ...


class Wanderers:
    """Fills `rows` through a channel: each turn those of a random choice of agents that are due act and close."""

    def __init__(self, policy: Policy, capacity: int = 2000, seed: int = 0) -> None:
        layout = Layout(SPEC, policy.state_size)
        self.rows = Rows(layout, bytearray(layout.memory_bytes(capacity)), capacity)
        self.channel = Channel(SPEC, Acting(policy), Writer(self.rows), np.zeros(COUNTERS, np.int64))
        self.channel.rate_limiter = RateLimiter(1.0, 0, 10**9)
        self.rng = np.random.default_rng(seed)
        self.acting = np.zeros(AGENTS, bool)

    def turn(self, *lost: int) -> None:
        rng, lost = self.rng, np.array(lost, np.int64)
        closing = np.flatnonzero(self.acting & (rng.random(AGENTS) < 0.7))
        closing = closing[~np.isin(closing, lost)]
        self.acting[lost] = False
        ends = rng.random(len(closing))
        terminated, truncated = ends < 0.04, ends > 0.96
        asking = rng.permutation(np.flatnonzero(~self.acting | np.isin(np.arange(AGENTS), closing)))
        results = StepResults(
            np.zeros(len(closing), np.int32), closing, rng.normal(size=len(closing)).astype(np.float32),
            terminated, truncated, (self.seen(int(truncated.sum())),), np.zeros((int(truncated.sum()), 0), bool),
        )  # fmt: skip
        decisions = Decisions(
            np.zeros(len(asking), np.int32), asking, (self.seen(len(asking)),), np.zeros((len(asking), 0), bool)
        )
        self.channel.take(Ready(results, decisions, lost, {}))
        self.acting[closing] = False
        if self.channel.pending:
            agents, *_ = self.channel.act()
            self.acting[agents] = True

    def seen(self, count: int) -> Array:
        return self.rng.normal(size=(count, 3)).astype(np.float32)

    def episodes(self) -> list[list[int]]:
        """Numbers of the rows of each episode, in order of time, that of a last observation included."""
        numbers = np.arange(1, self.rows.head + 1)
        links, position, final = self.rows.gather(numbers, ("next", "position", "final"))
        found = []
        for start in numbers[(position == 0) & ~final]:
            walk = [int(start)]
            while (link := int(links[walk[-1] - 1])) > 0:
                walk.append(link)
            found.append(walk)
        return found
