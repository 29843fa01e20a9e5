"""What a behavior observes and does, and what passes between environments and a trainer: plain data.

Shapes: N decisions, M results, K of them truncated; C continuous actions, B discrete branches, A mask entries; T steps
of a demonstration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import index
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class UserError(Exception):
    """Something that the user can mend. The message names what is wrong, the value seen and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Returns a text with its control characters escaped, but for line breaks and tabs.

    Terminals obey some of them, and much of what messages name comes from environments, files and players.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Those of C0, DEL, C1, and those that change the direction of writing."""


@dataclass(frozen=True)
class ObservationSpec:
    """One named observation."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """`float32` or `uint8`."""
    scale: float = 1.0
    """Networks multiply raw values by this: 1/255 for an image, 1 for planes of zeros and ones."""
    entities: bool = False
    """Whether it is a set: up to K entities of D numbers each, (K, D) float32, in no order. An entity is absent exactly
    if all its numbers are 0 (see `present`)."""
    goal: bool = False
    """Whether it is a goal signal, which says what the agent is to do: never a set."""

    @property
    def channels_first(self) -> bool:
        """Whether an image is (C, H, W), else (H, W, C): see `channels_first`."""
        return channels_first(self.shape)


@dataclass(frozen=True)
class BehaviorSpec:
    """What agents of one behavior observe and do. Continuous actions lie in [-1, 1]."""

    name: str
    observations: tuple[ObservationSpec, ...]
    continuous_size: int = 0
    branches: tuple[int, ...] = ()
    """Number of choices of each discrete branch."""
    masked: bool = False
    """Whether decisions carry a mask over the discrete choices."""

    @property
    def mask_size(self) -> int:
        """Entries of a mask row: one for each choice of each branch, branches one after another; 0 if unmasked."""
        return sum(self.branches) if self.masked else 0

    @property
    def max_entities(self) -> int | None:
        """K of the sets that a Gymnasium environment observes, which all have one; None without any."""
        return next((o.shape[0] for o in self.observations if o.entities), None)

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready form, read back by `from_dict`."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> BehaviorSpec:
        """Returns the spec that `to_dict` wrote; KeyError, TypeError, ValueError or OverflowError if it is none."""
        observations = tuple(
            ObservationSpec(
                str(o["name"]),
                tuple(map(index, o["shape"])),
                str(o["dtype"]),
                float(o["scale"]),
                bool(o.get("entities", False)),  # which earlier versions did not know
                bool(o.get("goal", False)),
            )
            for o in data["observations"]
        )
        if wrong := [o for o in observations if o.entities and (len(o.shape) != 2 or o.dtype != "float32" or o.goal)]:
            raise ValueError(f"{wrong[0]} cannot be a set of entities")
        branches = tuple(map(index, data["branches"]))
        return BehaviorSpec(
            str(data["name"]), observations, index(data["continuous_size"]), branches, bool(data["masked"])
        )

    def difference(self, other: BehaviorSpec) -> str | None:
        """Returns what differs between this spec and `other`, in words (ours, then theirs), or None if they agree.

        Which observations are goals makes no difference: specs of earlier versions do not say.
        """
        mine, theirs = self.observations, other.observations
        if len(mine) != len(theirs):
            return f"{len(mine)} observations, not {len(theirs)}"
        for ours, seen in zip(mine, theirs):
            if ours != replace(seen, goal=ours.goal):
                theirs_name = f"{seen.name!r}, " if seen.name != ours.name else ""
                return f"observation {ours.name!r} is {_words(ours, seen)}, not {theirs_name}{_words(seen, ours)}"
        if self.continuous_size != other.continuous_size:
            return f"{self.continuous_size} continuous actions, not {other.continuous_size}"
        if self.branches != other.branches:
            return f"discrete branches {list(self.branches)}, not {list(other.branches)}"
        if self.masked != other.masked:
            return f"{'an' if self.masked else 'no'} action mask, the other {'none' if self.masked else 'one'}"
        return None


def _words(one: ObservationSpec, other: ObservationSpec) -> str:
    """Returns an observation's kind, with its scale if that differs from the other's."""
    scale = f" scaled by {one.scale:.4g}" if one.scale != other.scale else ""
    kind = " of entities" if one.entities else ""
    return f"{one.dtype}{list(one.shape)}{kind}{scale}"


def channels_first(shape: Sequence[int]) -> bool:
    """Returns whether an image of three axes is (C, H, W), else (H, W, C).

    Where two neighbours among the axes are equal, they are its sides; else the channels are the shorter one of the
    first and the last axis.
    """
    first, middle, last = shape
    if (first == middle) != (middle == last):
        return middle == last
    return first < last


def present(entities: Array) -> Array:
    """Returns which of the entities (..., K, D) are there, (..., K) bool: those with a number other than 0."""
    there: Array = (entities != 0).any(-1)
    return there


_NONE: Array = np.zeros(0, np.int64)


class Decisions(NamedTuple):
    """Agents of one behavior that ask for an action. The arrays belong to the receiver."""

    instance: Array
    """(N,) int32: the instance each agent lives in."""
    agent: Array
    """(N,) int64: dense numbers, small and reused once an agent is gone; an agent keeps its number for life."""
    observations: tuple[Array, ...]
    """For each observation of the spec (N, *shape)."""
    mask: Array
    """(N, A) bool, True = allowed; A is 0 where the spec is unmasked."""
    team: Array = _NONE
    """(N,) int32: the side that each agent plays on; empty where the environment knows no teams."""
    group: Array = _NONE
    """(N,) int64: agents that are paid together have one number, unlike that of all others in any instance; 0 = none.
    Empty where the environment knows no groups."""

    def take(self, rows: Array) -> Decisions:
        """Returns the decisions in `rows`: indices in any order, or bool (N,)."""
        observations = tuple(each[rows] for each in self.observations)
        team = self.team[rows] if len(self.team) else self.team
        group = self.group[rows] if len(self.group) else self.group
        return Decisions(self.instance[rows], self.agent[rows], observations, self.mask[rows], team, group)


class StepResults(NamedTuple):
    """Agent steps of one behavior that completed: each closes one open row and counts as one sample."""

    instance: Array
    """(M,) int32."""
    agent: Array
    """(M,) int64."""
    reward: Array
    """(M,) float32: what the step earned."""
    terminated: Array
    """(M,) bool: the episode ended by its own rules; no bootstrap."""
    truncated: Array
    """(M,) bool: the episode was cut off; never true together with `terminated`."""
    final_observations: tuple[Array, ...]
    """For each observation (K, *shape): the last observations of the truncated, in their order."""
    final_mask: Array
    """(K, A) bool."""
    group_reward: Array = _NONE
    """(M,) float32: what part of `reward` the agent's group earned; empty where the environment knows no groups."""


Part = TypeVar("Part", bound=tuple[Any, ...])


def joined(parts: Sequence[Part]) -> Part:
    """Joins one or more named tuples of arrays, or of tuples of arrays, such as the decisions of a behavior."""
    if len(parts) == 1:
        return parts[0]
    fields: list[Any] = [
        tuple(np.concatenate(arrays) for arrays in zip(*field))
        if isinstance(field[0], tuple)
        else np.concatenate(field)
        for field in zip(*parts)
    ]
    return type(parts[0])(*fields)


class Demonstration(NamedTuple):
    """An episode that somebody played, or what was recorded of it: T steps of one agent."""

    observations: tuple[Array, ...]
    """For each observation of the spec (T, *shape): what the agent acted on."""
    mask: Array
    """(T, A) bool."""
    continuous: Array
    """(T, C) float32."""
    discrete: Array
    """(T, B) int32."""
    rewards: Array
    """(T,) float32: what each step earned."""
    terminated: bool
    """The episode ended by its own rules; else it was cut off behind the last step."""
    final_observations: tuple[Array, ...]
    """For each observation (1, *shape), the last one of an episode that was cut off; (0, *shape) if terminated."""
    final_mask: Array
    """(1, A) or (0, A) bool."""


class Lessons(NamedTuple):
    """The lessons that episodes begin in at one time, or in which one was played (`envs.parameters`)."""

    change: int
    """How many changes of any lesson there had been in the run."""
    at: tuple[int, ...]
    """The lesson of each parameter that has lessons, from 0 on; -1 where what it is said of was played in several."""

    @classmethod
    def of(cls, row: Array) -> Lessons:
        """Returns those of a row of integers: `change`, and `at` behind it; a row of none is that of no lessons."""
        change, *at = row.tolist() or [0]
        return cls(change, tuple(at))

    @property
    def row(self) -> tuple[int, ...]:
        """What `of` takes."""
        return (self.change, *self.at) if self.at else ()


class Statistic(NamedTuple):
    """One number that a game reported, at any time."""

    key: str
    value: float
    aggregation: str
    """How numbers of one key make one: `average`, `most_recent`, `sum` or `histogram`."""
    lessons: Lessons | None = None
    """Those in which it was played; None where there are none."""


class Ready(NamedTuple):
    """Results and decisions of one behavior's agents. StepResults come before decisions: handle them in that order."""

    results: StepResults
    decisions: Decisions
    lost: Array
    """(L,) int64: agents that went without a closing (their instance failed): drop their open rows first."""
    metrics: dict[int, dict[str, float]]
    """By agent, the numbers that its environment reported in `info` at the end of an episode that closed here."""
    lessons: Mapping[int, Lessons] = MappingProxyType({})
    """By agent, the lessons in which an episode that closed here was played; empty where there are none."""
