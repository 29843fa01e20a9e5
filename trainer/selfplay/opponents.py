"""The opponents of one behavior that act in a collector: few at a time, each with one pass for all of its agents.

Shapes: N agents, A numbers of agents given out so far; C continuous actions, B discrete branches, R numbers of the
recurrent state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from envs.spec import Array, BehaviorSpec, Decisions
from trainer.runtime.collector import Actor
from trainer.selfplay.matches import FIXED, LATEST
from trainer.selfplay.settings import SelfPlayConfig
from trainer.selfplay.snapshots import Snapshots

Act = Callable[[Decisions, Array], tuple[Array, Array]]
"""Chooses actions (N, C) and (N, B) for decisions, some of which begin an episode (N,)."""


class ResumableActor(Actor, Protocol):
    """An actor that goes on with the same noise."""

    def load_state(self, state: Any) -> None:
        """Goes on from what `state` returned."""


class Pinned:
    """Weights that an actor takes from a snapshot: a `PolicyReader` of one that stays."""

    version = 0

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._wanted = 0

    def want(self, number: int) -> None:
        """Lets the next `refresh` take this snapshot."""
        self._wanted = number

    def refresh(self, flat: Array) -> bool:
        """Copies the snapshot that is wanted into `flat` (size,); returns whether it did, and not before."""
        if self._wanted == self.version or not self._snapshots.copy_to(flat, self._wanted):
            return False
        self.version = self._wanted
        return True


class Opponents:
    """Draws opponents from the pool, and acts for the agents that play as one of them.

    Args:
        spec: of the behavior.
        settings: its self-play.
        snapshots: of its policy.
        make_actor: makes an actor that acts with what a `Pinned` wants, with noise of this seed.
        state_size: R.
        fixed: what acts for the fixed opponents, in their order.
        seed: of the draws.
    """

    def __init__(
        self,
        spec: BehaviorSpec,
        settings: SelfPlayConfig,
        snapshots: Snapshots,
        make_actor: Callable[[Pinned, int], ResumableActor],
        state_size: int,
        fixed: Sequence[Act],
        seed: int,
    ) -> None:
        self._spec, self._settings, self._snapshots = spec, settings, snapshots
        self._make_actor, self._fixed, self._seed = make_actor, fixed, seed
        self._rng = np.random.default_rng(seed)
        self._actors: list[tuple[Pinned, ResumableActor]] = []
        """Made when they are first needed, `opponents` of them at most."""
        self._acting: dict[int, int] = {}
        """By number, the oldest first: how many agents play as it."""
        self._places: dict[int, int] = {}
        """By number of a snapshot that acts, the place of its actor."""
        self._state: Array = np.zeros((16, state_size), np.float32)
        """(A, R) the recurrent state of each agent that plays as a snapshot."""
        snapshots.held[:] = 0

    def draw(self, pool: Mapping[int, float]) -> int:
        """Returns with what a team that does not learn acts until its episode ends.

        `pool` says by number how likely each opponent is to be drawn, in proportion to the others. If what is drawn
        finds no room, another takes its place that acts already; the oldest of them gets no new matches then, until
        nobody plays as it and its room is free.
        """
        if not pool or self._rng.random() < self._settings.latest_ratio:
            return LATEST
        wanted = self._drawn(pool)
        if wanted not in self._acting and len(self._acting) == self._settings.opponents:
            idle = next((number for number, agents in self._acting.items() if not agents), None)
            if idle is not None:
                self._unload(idle)
        full = len(self._acting) == self._settings.opponents
        oldest = next(iter(self._acting), None)
        if full and (wanted not in self._acting or (wanted == oldest and pool.keys() - self._acting.keys())):
            others = {number: pool.get(number, 0.0) for number in list(self._acting)[1:]}
            if not any(others.values()):
                others = dict.fromkeys(others, 1.0)
            return self._drawn(others)
        return wanted if wanted in self._acting or self._load(wanted) else LATEST

    def join(self, number: int, agent: int) -> None:
        """Counts an agent whose episode begins as one that plays as an opponent."""
        self._acting[number] += 1
        if number > LATEST:
            if agent >= len(self._state):
                grown = np.zeros((2 * agent + 1, self._state.shape[1]), np.float32)
                grown[: len(self._state)] = self._state
                self._state = grown
            self._state[agent] = 0

    def leave(self, number: int) -> None:
        """Counts an agent as one whose episode has ended."""
        self._acting[number] -= 1

    def act(self, number: int, decisions: Decisions, begun: Array) -> tuple[Array, Array]:
        """Returns actions (N, C) and (N, B) of one opponent, for all agents that play as it and ask."""
        if number <= FIXED:
            return self._fixed[FIXED - number](decisions, begun)
        actor, agents = self._actors[self._places[number]][1], decisions.agent
        continuous, discrete, _, after = actor.act(decisions.observations, decisions.mask, self._state[agents])
        self._state[agents] = after
        return continuous, discrete

    def state(self) -> dict[str, Any]:
        """Returns what `load_state` takes, as JSON can hold it."""
        return {
            "seed": self._seed,
            "acting": [[number, agents, self._places.get(number)] for number, agents in self._acting.items()],
            "memories": self._state.tolist(),
            "draws": dict(self._rng.bit_generator.state),
            "actors": [actor.state() for _, actor in self._actors],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` returned; the snapshots that acted have to be there."""
        self._seed = state["seed"]
        self._rng.bit_generator.state = state["draws"]
        for saved in state["actors"]:
            self._actor(len(self._actors))[1].load_state(saved)
        for number, agents, place in state["acting"]:
            self._acting[number] = agents
            if place is not None and not self._pin(number, place):
                raise ValueError(f"snapshot {number}, which acts, is missing")
        memories = state["memories"]
        self._state = np.array(memories, np.float32).reshape(len(memories), self._state.shape[1])

    def _drawn(self, weights: Mapping[int, float]) -> int:
        numbers = list(weights)
        chances = np.array([weights[number] for number in numbers])
        return numbers[int(self._rng.choice(len(numbers), p=chances / chances.sum()))]

    def _load(self, number: int) -> bool:
        """Lets an opponent act; False if its snapshot is there no more."""
        if number > LATEST:
            place = next(i for i in range(self._settings.opponents) if i not in self._places.values())
            if not self._pin(number, place):
                return False
        self._acting[number] = 0
        return True

    def _pin(self, number: int, place: int) -> bool:
        weights, actor = self._actor(place)
        self._snapshots.held[place] = number
        weights.want(number)
        actor.refresh()
        if weights.version != number:
            self._snapshots.held[place] = 0
            return False
        self._places[number] = place
        return True

    def _unload(self, number: int) -> None:
        del self._acting[number]
        if number in self._places:
            self._snapshots.held[self._places.pop(number)] = 0

    def _actor(self, place: int) -> tuple[Pinned, ResumableActor]:
        while place >= len(self._actors):
            weights = Pinned(self._snapshots)
            self._actors.append((weights, self._make_actor(weights, self._seed + 1 + len(self._actors))))
        return self._actors[place]
