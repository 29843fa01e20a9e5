"""An agent of our player: one copy of the environment, and what a message says of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from envs.gym.adapter import Env, GymAdapter, GymEnv, begin, behavior_spec
from envs.gym.spaces import scalar_metrics
from envs.seeding import episode_seed
from envs.spec import Array, BehaviorSpec, UserError
from envs.unity.python_player.channels import Settings
from envs.unity.python_player.encoding import Encoder


class Line(NamedTuple):
    """What a message says of one agent."""

    behavior_id: str
    spec: BehaviorSpec
    info: Any
    """AgentInfoProto."""
    asks: bool
    """Whether it asks for an action, or is gone."""


class Unit(Protocol):
    """What a player schedules: an agent of its own, or a game with all its agents."""

    index: int
    """Among the player's units; goes into the seeds of its episodes."""
    duration: float | None
    """Seconds that the last reset or `act` lasts at time scale 1, None if they have passed."""
    lines: list[Line]
    """What is to be said of it."""
    metrics: list[dict[str, float]]
    """What the env reported of the episodes that the last `act` has ended."""

    def act(self, actions: Mapping[int, Any]) -> None:
        """Takes AgentActionProtos for its lines that ask, by their place in `lines`."""

    def restart(self) -> None:
        """Begins its episode again because the trainer resets all."""


@dataclass(frozen=True)
class World:
    """What all agents of one player share."""

    env: Any
    """A `GymEnv` or a `GameEnv`: how to make one."""
    seed: int
    """The trainer's, from the initialization."""
    settings: Settings
    layout: str
    mapping: bool
    """`layout` and `mapping` are as for `Encoder`."""
    goal: str | None = None
    """The observation that is a goal signal."""
    variable: bool = True
    """Whether the trainer takes observations of variable length."""
    ids: Iterator[int] = field(default_factory=itertools.count)
    """Numbers for episodes."""


class Agent:
    """One env, driven by the protocol's actions.

    Args:
        world: what it shares with the player's other agents.
        behavior_id: of its behavior, with the team.
        index: among the player's agents; goes into the seeds of its episodes.
    """

    def __init__(self, world: World, behavior_id: str, index: int) -> None:
        self.behavior_id = behavior_id
        self.index = index
        self.metrics: list[dict[str, float]] = []
        self.lines: list[Line] = []
        self._world = world
        self._env = _made(world.env)
        self._episode = 0
        observation, info = self._reset()
        self.spec: BehaviorSpec = _with_goal(
            behavior_spec(self._env, behavior_id, "action_mask" in info, max_entities=world.env.max_entities), world
        )
        self._adapter = GymAdapter(self._env, self.spec)
        self._rows = tuple(np.zeros(o.shape, o.dtype) for o in self.spec.observations)
        self._mask = np.ones(self.spec.mask_size, bool)
        self._encoder = Encoder(self.spec, world.layout, world.mapping)
        self._id = next(world.ids)
        self.duration: float | None = info.get("duration")
        self._ask(observation, info, 0.0)

    def restart(self) -> None:
        """Begins its episode again because the trainer resets all. As in Unity, its id stays and nothing is closed."""
        self.lines, self.metrics = [], []
        observation, info = self._reset()
        self.duration = info.get("duration")
        self._ask(observation, info, 0.0)

    def act(self, actions: Mapping[int, Any]) -> None:
        """Takes one step, and the next reset if the episode ends.

        Raises:
            UserError: an action of another size than the spec's, or outside its branches.
        """
        (action,) = actions.values()
        self.lines, self.metrics = [], []
        decoded = self._adapter.action(*action_rows(action, self.spec, self.behavior_id))
        observation, reward, terminated, truncated, info = self._env.step(decoded)
        self.duration = info.get("duration")
        if terminated or truncated:
            self._close(observation, info, float(reward), not terminated)
            observation, info = self._reset()
            if "duration" in info:
                self.duration = info["duration"] + (self.duration or 0.0)
            self._id = next(self._world.ids)
            reward = 0.0
        self._ask(observation, info, float(reward))

    def _reset(self) -> tuple[Any, dict[str, Any]]:
        self._episode += 1
        seed = episode_seed(self._world.seed & 0xFFFFFFFF, self.index, self._episode)
        begun: tuple[Any, dict[str, Any]] = begin(self._env, seed, self._world.settings.parameters())
        return begun

    def _ask(self, observation: Any, info: dict[str, Any], reward: float) -> None:
        self._adapter.observe(observation, self._rows)
        asking = self._encoder.info(self._rows)
        asking.id, asking.reward = self._id, reward
        if self.spec.masked:
            self._write_mask(asking, info)
        self.lines.append(Line(self.behavior_id, self.spec, asking, asks=True))

    def _close(self, observation: Any, info: dict[str, Any], reward: float, truncated: bool) -> None:
        if metrics := finite(scalar_metrics(info)):
            self.metrics.append(metrics)
        self._adapter.observe(observation, self._rows)
        closing = self._encoder.info(self._rows)
        closing.id, closing.reward, closing.done = self._id, reward, True
        closing.max_step_reached = truncated
        if truncated and self.spec.masked:
            self._write_mask(closing, info)
        self.lines.append(Line(self.behavior_id, self.spec, closing, asks=False))

    def _write_mask(self, proto: Any, info: dict[str, Any]) -> None:
        self._adapter.mask(info, self._mask)
        proto.action_mask[:] = (~self._mask).tolist()


def action_rows(action: Any, spec: BehaviorSpec, behavior_id: str) -> tuple[Array, Array]:
    """Returns the rows of an AgentActionProto: continuous (C,) and discrete (B,).

    Raises:
        UserError: an action of another size than the spec's, or outside its branches.
    """
    # A slice is a list, which numpy reads in a third of the time that a repeated field takes.
    continuous, discrete = action.continuous_actions[:], action.discrete_actions[:]
    if len(continuous) != spec.continuous_size or len(discrete) != len(spec.branches):
        raise UserError(
            f"Behavior {behavior_id!r}: an action of {len(continuous)} continuous and {len(discrete)} "
            f"discrete numbers came; it has {spec.continuous_size} and {len(spec.branches)}."
        )
    for choice, size in zip(discrete, spec.branches):
        if not 0 <= choice < size:
            raise UserError(
                f"Behavior {behavior_id!r}: the discrete action {discrete} came; its branches have "
                f"{list(spec.branches)} choices."
            )
    return np.array(continuous, np.float32), np.array(discrete, np.int32)


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the numbers that can be sent."""
    return {key: value for key, value in metrics.items() if math.isfinite(value)}


def _with_goal(spec: BehaviorSpec, world: World) -> BehaviorSpec:
    """Returns the spec with its goal signal. UserError if there is none, or the trainer takes no sets, as in Unity."""
    if not world.variable and (sets := [o.name for o in spec.observations if o.entities]):
        raise UserError(f"Observation {sets[0]!r} is of variable length, and the trainer cannot take such.")
    if world.goal is None:
        return spec
    if world.goal not in (names := [o.name for o in spec.observations]):
        raise UserError(f"goal={world.goal}: there are the observations {', '.join(names)}.")
    return replace(spec, observations=tuple(replace(o, goal=o.name == world.goal) for o in spec.observations))


def _made(env: GymEnv) -> Env:
    try:
        return env.make()
    except TypeError as error:
        if not env.kwargs:
            raise
        given = ", ".join(f"{name}={value!r}" for name, value in env.kwargs.items())
        raise UserError(f"Environment {env.id!r} cannot be made with {given}: {error}.") from error
