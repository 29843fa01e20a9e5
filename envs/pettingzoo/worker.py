"""What a worker does with a game of several agents: one instance is one game, in one command all whom it asks act.

Shapes: I instances, P seats of a behavior; C continuous actions, B discrete branches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.gym.replay_gif import picture
from envs.gym.slots import (
    METRICS,
    STEPPED,
    TERMINATED,
    TRUNCATED,
    AgentSlots,
    Field,
    InstanceSlots,
    agent_fields,
    instance_fields,
    views_of,
)
from envs.gym.values import duration_seconds, finite_reward
from envs.gym.worker import Actions, Driver, Report, WorkPlan
from envs.parameters import Episode, Parameters
from envs.pettingzoo.cast import Cast
from envs.pettingzoo.environment import GameEnv
from envs.pettingzoo.game import Heard
from envs.pettingzoo.players import Players, write_mask
from envs.spec import Array

ASKS = 16
"""A further bit of `flags`: the agent asks for an action."""


class GameSlots(InstanceSlots):
    """Views on one block of shared memory: a row for each instance, and for each seat of a behavior in it."""

    def __init__(self, cast: Cast, instances: int, block: Any, lessons: int = 0) -> None:
        """`lessons`: how many environment parameters have lessons."""
        views = views_of(block, game_fields(cast, instances, lessons))
        super().__init__(views)
        self.of = [
            AgentSlots(spec, {name.partition("/")[2]: view for name, view in views.items() if name.startswith(f"{b}/")})
            for b, spec in enumerate(cast.specs)
        ]
        """For each behavior of the cast: row `instance * P + place`."""
        self.group_reward = [views[f"{b}/group_reward"] for b in range(len(cast.specs))]
        """For each behavior (I * P,) float32."""


def game_fields(cast: Cast, instances: int, lessons: int = 0) -> list[Field]:
    """Returns what `GameSlots` need."""
    fields = instance_fields(instances, lessons)
    for b, (spec, seats) in enumerate(zip(cast.specs, cast.of)):
        rows = instances * len(seats)
        own: list[Field] = [*agent_fields(spec, rows), ("group_reward", "float32", (rows,))]
        fields += [(f"{b}/{name}", dtype, shape) for name, dtype, shape in own]
    return fields


@dataclass(frozen=True)
class GamePlan(WorkPlan[GameEnv, Cast]):
    """What a worker is to do with games."""

    def drivers(self, block: Any, report: Callable[[Report], object]) -> tuple[Array, list[Driver]]:  # noqa: D102
        parameters = Parameters(self.env.parameters)
        slots = GameSlots(self.spec, self.instances, block, len(parameters.lessons))
        mine = range(self.first, self.first + self.count)
        return slots.busy[mine.start : mine.stop], [GameDriver(self, slots, i, report, parameters) for i in mine]


class GameDriver(Driver):
    """One instance: a game, and its rows of the slots."""

    def __init__(
        self,
        plan: GamePlan,
        slots: GameSlots,
        instance: int,
        report: Callable[[Report], object],
        parameters: Parameters,
    ) -> None:
        super().__init__(plan, slots, instance, report, parameters)
        cast = plan.spec
        self._plan, self._cast, self._slots = plan, cast, slots
        self._replay: Actions | None = plan.replay.get(instance)
        self._rows = [(b, instance * len(cast.of[b]) + place) for b, place in cast.places]
        """By seat: its behavior, and its row in the slots of that."""
        self._actions = {
            seat: (slots.of[b].continuous[row], slots.of[b].discrete[row]) for seat, (b, row) in enumerate(self._rows)
        }
        self._flags = [
            own.flags[instance * len(seats) : (instance + 1) * len(seats)] for own, seats in zip(slots.of, cast.of)
        ]
        self._asked: list[int] = []
        """Seats whose actions the next command brings."""
        self._acted: set[int] = set()
        """Seats that have acted, and have not heard of it yet."""

    def go(self) -> float | None:  # noqa: D102
        if self._env is None:
            return self._begin()
        duration = self._note(self._step())
        if not self._asked:
            more = self._note(self._reset(), fresh=False)
            duration = more if duration is None else duration + (more or 0.0)
        return self._scaled(duration)

    def _begin(self) -> float | None:
        replay, self._replay = self._replay, None
        self._env = Players(self._plan.env.make(), self._cast)
        duration = self._note(self._reset(replay.begun if replay else None))
        if replay is not None:
            self._drive(replay)
            duration = None  # the resumed run has waited these out before
        return self._scaled(duration)

    def _reset(self, begun: Episode | None = None) -> list[Heard]:
        self._asked, self._acted = [], set()
        heard: list[Heard] = self._env.begin(*self._next_episode(begun))
        return heard

    def _step(self) -> list[Heard]:
        asked, self._asked = self._asked, []
        self._acted.update(asked)
        heard: list[Heard] = self._env.act(asked, self._actions)
        return heard

    def _note(self, heard: Sequence[Heard], fresh: bool = True, report: bool = True) -> float | None:
        """Puts what agents learn into their rows; returns the seconds that it lasts, None if they have passed.

        `fresh`: whether it is the first since the last command, `report`: whether metrics are sent.
        """
        if fresh:
            for every in self._flags:
                every[:] = 0
        longest: float | None = None
        metrics: dict[str, dict[int, dict[str, float]]] = {}
        for one in heard:
            seat = one.seat
            b, row = self._rows[seat]
            slots, adapter, flags = self._slots.of[b], self._env.adapters[seat], 0
            if seat in self._acted:
                self._acted.discard(seat)
                flags = STEPPED
                slots.reward[row] = finite_reward(one.reward)
                self._slots.group_reward[b][row] = one.group_reward
                if one.over:
                    flags |= TERMINATED if one.terminated else TRUNCATED
                    if not one.terminated:
                        adapter.observe(one.observation, tuple(field[row] for field in slots.final_observations))
                        write_mask(adapter, one, slots.final_mask[row])
                    if report and (numbers := one.metrics):
                        flags |= METRICS
                        metrics.setdefault(self._cast.specs[b].name, {})[row] = numbers
            if not one.over:
                adapter.observe(one.observation, tuple(field[row] for field in slots.observations))
                write_mask(adapter, one, slots.mask[row])
                flags |= ASKS
                self._asked.append(seat)
            slots.flags[row] |= flags
            if (duration := one.info.get("duration")) is not None:
                longest = max(longest or 0.0, duration_seconds(duration))
        if metrics:
            self._report(Report("metrics", self.instance, metrics))
        return longest

    def _drive(self, replay: Actions) -> None:
        """Takes a resumed episode to where it was: what agents had heard by then, they do not hear again."""
        taken = 0
        while taken + len(self._asked) <= len(replay.discrete):
            for seat, continuous, discrete in step_rows(replay, taken, len(self._asked)):
                own = self._actions[seat]
                own[0][:], own[1][:] = continuous, discrete
            taken += len(self._asked)
            self._note(self._step(), report=False)
            if not self._asked:
                raise RuntimeError(
                    f"the resumed episode ended after {taken} actions: with the same seed and the same actions this "
                    "env does not do the same again, so its episode cannot be resumed"
                )
        for flags in self._flags:
            flags &= np.uint8(ASKS)


def step_rows(actions: Actions, first: int, count: int) -> Iterator[tuple[int, list[float], list[int]]]:
    """Yields seat, continuous and discrete actions of recorded ones, whose discrete rows begin with the seat."""
    for at in range(first, first + count):
        seat, *discrete = actions.discrete[at]
        yield seat, actions.continuous[at], discrete


@dataclass(frozen=True)
class GamePlay:
    """A recorded episode, to be drawn."""

    env: GameEnv
    cast: Cast
    seed: int
    actions: Actions

    def frames(self) -> Iterator[Array]:
        """Plays it and yields its pictures."""
        with closing(Players(self.env.make(render=True), self.cast)) as players:
            actions, taken = self.actions, 0
            heard = players.begin(self.seed, actions.begun.values if actions.begun else {})
            while True:
                yield picture(players.game.env.render())
                asked = [one.seat for one in heard if not one.over]
                if not asked or taken + len(asked) > len(actions.discrete):
                    break
                rows = {
                    seat: (np.asarray(continuous, np.float32), np.asarray(discrete, np.int32))
                    for seat, continuous, discrete in step_rows(actions, taken, len(asked))
                }
                taken += len(asked)
                heard = players.act(asked, rows)
