"""Who plays in a game: which agents it has, and of which behavior, team and group each of them is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from gymnasium import spaces

from envs.gym.adapter import behavior_spec
from envs.gym.observations import Space
from envs.spec import Array, BehaviorSpec, UserError

MASK = "action_mask"
"""Key of an observation, or of an info, that says which actions are legal."""


class Spaces(NamedTuple):
    """What one agent observes and does, as `envs.gym.adapter` takes it."""

    observation_space: Space
    action_space: Space


class Seat(NamedTuple):
    """One possible agent of a game."""

    agent: str
    behavior: str
    team: int
    group: int


@dataclass(frozen=True)
class Cast:
    """Who plays in each instance. A seat is an index into `seats`: into `possible_agents` of the environment."""

    seats: tuple[Seat, ...]
    specs: tuple[BehaviorSpec, ...]
    """Of the behaviors, in the order of their first seats."""
    teams: bool
    """Whether agents have been given teams; so too `groups`."""
    groups: bool

    @cached_property
    def of(self) -> tuple[Array, ...]:
        """For each of `specs`, its seats (P,)."""
        return tuple(
            np.array([i for i, seat in enumerate(self.seats) if seat.behavior == spec.name], np.int64)
            for spec in self.specs
        )

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """For each seat, which of `specs` is its behavior's, and its place among the seats of that."""
        found = {int(seat): (b, place) for b, seats in enumerate(self.of) for place, seat in enumerate(seats)}
        return tuple(found[seat] for seat in range(len(self.seats)))


def agent_spaces(env: Any, agent: Any) -> Spaces:
    """Returns the spaces of an agent: of its observation without the action mask, if that is a part of it."""
    space = env.observation_space(agent)
    if isinstance(space, spaces.Dict) and MASK in space.spaces:
        space = spaces.Dict({key: part for key, part in space.spaces.items() if key != MASK})
    return Spaces(space, env.action_space(agent))


def arranged(
    agents: Sequence[str],
    behaviors: Mapping[str, str],
    teams: Mapping[str, int],
    groups: Mapping[str, int],
) -> tuple[Seat, ...]:
    """Returns the seats of agents by patterns of their names, as `PettingZooConfig` says.

    Raises:
        UserError: a pattern fits no agent, or an agent no pattern for behaviors.
    """
    nobody = [0] * len(agents)
    return tuple(
        map(
            Seat,
            agents,
            _matched("behaviors", behaviors, agents) or [_kind(agent) for agent in agents],
            _matched("teams", teams, agents, 0) or nobody,
            _matched("groups", groups, agents, 0) or nobody,
        )
    )


def specs_of(
    env: Any, seats: Sequence[Seat], masked: Sequence[bool], prepare_images: bool, max_entities: int | None
) -> tuple[BehaviorSpec, ...]:
    """Returns the specs of the behaviors of an environment, in the order of their first seats.

    Args:
        env: a PettingZoo environment of either kind.
        seats: of its possible agents.
        masked: by seat, whether its agent has an action mask.
        prepare_images: whether images are made ready for a CNN.
        max_entities: how many entities there are at most in a Sequence.

    Raises:
        UserError: agents of one behavior have other spaces, or a space cannot be served.
    """
    specs: dict[str, tuple[str, BehaviorSpec]] = {}
    for (agent, behavior, _, _), one, mask in zip(seats, env.possible_agents, masked):
        try:
            spec = behavior_spec(agent_spaces(env, one), behavior, mask, prepare_images, max_entities)
        except UserError as error:
            raise UserError(f"agent {agent!r}: {error}") from None
        first, known = specs.setdefault(behavior, (agent, spec))
        if difference := known.difference(spec):
            raise UserError(
                f"agents {first!r} and {agent!r} have one behavior, {behavior!r}, and other spaces: {difference}. "
                "Agents of one behavior must have the same: give them others, such as "
                f"env.behaviors={{{first}: {first}, {agent}: {agent}}}"
            )
    return tuple(spec for _, spec in specs.values())


T = TypeVar("T")


def _matched(key: str, patterns: Mapping[str, T], agents: Sequence[str], default: T | None = None) -> list[T]:
    """Returns for each agent what the first pattern says that fits it; nothing without patterns."""
    if not patterns:
        return []
    for pattern in patterns:
        if not any(fnmatchcase(agent, str(pattern)) for agent in agents):
            raise UserError(f"env.{key}: no agent is called {pattern}; there are {', '.join(agents)}")
    found = []
    for agent in agents:
        value = next((value for pattern, value in patterns.items() if fnmatchcase(agent, str(pattern))), default)
        if value is None:
            raise UserError(f"env.{key}: no pattern fits agent {agent}; there is {', '.join(map(str, patterns))}")
        found.append(value)
    return found


def _kind(agent: str) -> str:
    """Returns an agent's name without the number at its end: the behavior of `adversary_0` is `adversary`."""
    return re.sub(r"[_-]?\d+$", "", agent) or "agent"
