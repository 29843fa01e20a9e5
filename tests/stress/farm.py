"""A run with relays of this machine in place of a cluster's hosts: who is who, and what is done to whom."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from tests.stress.audit import Host
from tests.stress.trial import Trial, send
from tests.stress.witness import Life

KINDS = {
    "game": "a worker or a player is killed",
    "collector": "the collector's process of a host is killed",
    "relay": "the relay of a host is killed",
    "host": "all processes of a host are killed at once",
    "cut": "the connection to a host is cut",
    "silence": "a host says nothing any more, though its connection stands",
    "ingest": "the process that takes rows in is killed",
}
"""Kinds of faults."""


class Chain(NamedTuple):
    """The processes above a game, by their numbers; all of one relay are one host."""

    collector: int
    relay: int
    ingest: int


class Farm(Trial):
    """A trial on hosts, each with `instances` games, started in this machine's processes.

    Args:
        kind: `gym` or `unity`.
        folder: as of a trial.
        overrides: the trainer's.
        hosts: how many.
        instances: of each host.
    """

    def __init__(self, kind: str, folder: Path, overrides: Sequence[str], hosts: int, instances: int) -> None:
        words = [f"cluster.collectors={hosts}", f"cluster.min_collectors={hosts}", *overrides]
        super().__init__(kind, folder, words, instances, module="tests.trainer.cluster.run_here")
        self.hosts = hosts
        self._chains: dict[int, Chain] = {}
        self._above: dict[int, Chain] = {}
        """By the process that started a game."""

    def look(self) -> None:
        """Remembers whose the games are that have come since the last look."""
        for number, life in self.lives().items():
            if number in self._chains:
                continue
            chain = self._above.get(life.parent) or self._chain(life)
            if chain is not None:
                self._chains[number] = self._above[life.parent] = chain

    def _chain(self, life: Life) -> Chain | None:
        with contextlib.suppress(psutil.Error, ValueError):
            above = [each.pid for each in psutil.Process(life.pid).parents()]
            learner = above.index(self.process.pid)
            if learner >= 3:
                return Chain(*above[learner - 3 : learner])
        return None

    def delivering(self) -> dict[Chain, list[Life]]:
        """The hosts of which all games are played, with these."""
        found: dict[Chain, list[Life]] = {}
        for life in self.playing():
            if life.steps and life.number in self._chains:
                found.setdefault(self._chains[life.number], []).append(life)
        return {chain: lives for chain, lives in found.items() if len(lives) == self.instances}

    def audited_hosts(self, window: int) -> list[Host]:
        """All hosts that there ever were, each with its lives."""
        lives: dict[int, set[int]] = {}
        for number, chain in self._chains.items():
            lives.setdefault(chain.relay, set()).add(number)
        return [Host(frozenset(numbers), window) for numbers in lives.values()]

    def of_processes(self, pids: set[int]) -> set[int]:
        """The lives that one of these processes, or one above them, has played."""
        return {
            number
            for number, life in self.lives().items()
            if pids & {life.pid, life.parent, *self._chains.get(number, ())}
        }


class Wreck:
    """Does faults of all kinds to a farm, equally many of each, in an order drawn by a seed."""

    def __init__(self, farm: Farm, kills: int, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.pids: set[int] = set()
        """Processes that were made to fail."""
        self._farm, self._rng = farm, np.random.default_rng(seed)
        kinds = list(KINDS)
        rounds = [kinds[place] for _ in range(0, kills, len(kinds)) for place in self._rng.permutation(len(kinds))]
        self._left = rounds[:kills]

    @property
    def over(self) -> bool:
        """Whether all have happened."""
        return not self._left

    def strike(self) -> bool:
        """Does the next fault; returns whether there was somebody to whom it could happen."""
        hosts = {chain: lives for chain, lives in self._farm.delivering().items() if chain.relay not in self.pids}
        kind = self._left[0]
        if not hosts or (kind == "ingest" and len(hosts) < self._farm.hosts):
            return False
        chain = list(hosts)[self._rng.integers(len(hosts))]
        games = hosts[chain]
        game = games[self._rng.integers(len(games))].pid
        numbers = {"cut": signal.SIGUSR1, "silence": signal.SIGSTOP}
        whom = {"game": [game], "collector": [chain.collector], "ingest": [chain.ingest]}.get(kind, [chain.relay])
        if kind == "host":
            with contextlib.suppress(psutil.Error):
                whom += [each.pid for each in psutil.Process(chain.relay).children(recursive=True)]
        for pid in whom:
            send(pid, numbers.get(kind, signal.SIGKILL))
        self.pids.update(whom)
        self.done[kind] += 1
        self._left.pop(0)
        return True
