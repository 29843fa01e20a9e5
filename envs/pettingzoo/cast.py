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


def cast_of(
    env: Any,
    masked: Sequence[bool],
    patterns: tuple[Mapping[str, str], Mapping[str, int], Mapping[str, int]],
    prepare_images: bool,
) -> Cast:
    """Returns who plays.

    Args:
        env: a PettingZoo environment of either kind.
        masked: by seat, whether its agent has an action mask.
        patterns: of agents, for behaviors, teams and groups; see `PettingZooConfig`.
        prepare_images: whether images are made ready for a CNN.

    Raises:
        UserError: a pattern fits no agent, an agent fits no pattern, teammates have other spaces, or a space cannot be
            served.
    """
    agents = [str(agent) for agent in env.possible_agents]
    behaviors = _matched("behaviors", patterns[0], agents) or [_kind(agent) for agent in agents]
    teams, groups = (_matched(key, by, agents, 0) for key, by in zip(("teams", "groups"), patterns[1:]))
    specs: dict[str, tuple[str, BehaviorSpec]] = {}
    for agent, one, behavior, mask in zip(agents, env.possible_agents, behaviors, masked):
        try:
            spec = behavior_spec(agent_spaces(env, one), behavior, mask, prepare_images)
        except UserError as error:
            raise UserError(f"agent {agent!r}: {error}") from None
        first, known = specs.setdefault(behavior, (agent, spec))
        if difference := known.difference(spec):
            raise UserError(
                f"agents {first!r} and {agent!r} have one behavior, {behavior!r}, and other spaces: {difference}. "
                "Agents of one behavior must have the same: give them others, such as "
                f"env.behaviors={{{first}: {first}, {agent}: {agent}}}"
            )
    nobody = [0] * len(agents)
    seats = map(Seat, agents, behaviors, teams or nobody, groups or nobody)
    return Cast(tuple(seats), tuple(spec for _, spec in specs.values()), bool(teams), bool(groups))


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
