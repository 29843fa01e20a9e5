"""Environment parameters: numbers, samplers, and lessons, in which a game gets harder as its agents learn.

A parameter is a number; a sampler, `{sampler: uniform, min, max}`, `{sampler: gaussian, mean, deviation}` or
`{sampler: multi_range, intervals: [[a, b], …]}`; or `{lessons: [{value, until, …}, …]}`, whose values are either.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from envs.spec import Lessons, UserError

Value = float | Mapping[str, Any]
"""A number or a sampler."""


@dataclass(frozen=True)
class Condition:
    """What ends a lesson (`until`) or leads back to the one before (`back`)."""

    key: str
    """Where it stands in the configuration."""
    measure: str
    """`reward`, `length`, `progress`, or a number that the game reports."""
    behavior: str | None
    """Whose episodes count; None = those of all."""
    bound: float
    """What the measure has to lie above (`until.above`) or below (`back.below`)."""
    episodes: int
    """The measure is the mean over so many of the lesson's latest episodes, and not known before."""
    smoothing: float
    """The share of the value before in each new one, once an episode; 0 = none."""


@dataclass(frozen=True)
class Lesson:
    """One of a parameter's lessons."""

    value: Value
    name: str | None
    until: Condition | None
    """None in the last lesson alone."""
    back: Condition | None
    earlier: float
    """The share of its episodes that is played in an earlier lesson."""


class Episode(NamedTuple):
    """What one episode gets."""

    lessons: Lessons
    """Those in which it is played."""
    values: Mapping[str, float]
    """By parameter."""

    @classmethod
    def of(cls, saved: Any) -> Episode | None:
        """Returns one that went through JSON; None of null."""
        return None if saved is None else cls(Lessons(saved[0][0], tuple(saved[0][1])), saved[1])


class Parameters:
    """The environment parameters of a run, read and checked; UserError names the first that is wrong.

    Args:
        given: `env.parameters`.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._values: dict[str, Value] = {}
        self.lessons: dict[str, tuple[Lesson, ...]] = {}
        """By parameter, of those that have lessons. `Lessons.at` goes by this order."""
        for name, value in given.items():
            where = f"env.parameters.{name}"
            if isinstance(value, Mapping) and "lessons" in value:
                self.lessons[str(name)] = _lessons(where, value)
            else:
                self._values[str(name)] = _value(where, value)

    def __bool__(self) -> bool:
        return bool(self._values or self.lessons)

    @property
    def first(self) -> Lessons:
        """The first lesson of each."""
        return Lessons(0, (0,) * len(self.lessons))

    @property
    def last(self) -> Lessons:
        """The last lesson of each."""
        return Lessons(0, tuple(len(each) - 1 for each in self.lessons.values()))

    def in_force(self, lessons: Lessons) -> dict[str, Value]:
        """Returns the number or the sampler of each parameter in these lessons."""
        return {**self._values, **{name: each[at].value for (name, each), at in zip(self.lessons.items(), lessons.at)}}

    def played(self, lessons: Lessons, *seed: int) -> Lessons:
        """Returns in which lessons an episode is played that begins in `lessons`: some go back to an earlier one."""
        at = list(lessons.at)
        for place, (name, each) in enumerate(self.lessons.items()):
            if at[place] and (share := each[at[place]].earlier):
                draw = _generator(f"lesson of {name}", seed)
                if draw.random() < share:
                    at[place] = int(draw.integers(at[place]))
        return Lessons(lessons.change, tuple(at))

    def episode(self, lessons: Lessons, *seed: int) -> Episode:
        """Draws what an episode gets that begins in `lessons`: the same for the same seed, whatever was drawn before.

        `seed` is the run's, the instance and the episode.
        """
        return self.of(self.played(lessons, *seed), *seed)

    def of(self, played: Lessons, *seed: int) -> Episode:
        """Draws what an episode gets that is played in these lessons."""
        in_force = self.in_force(played).items()
        values = {n: _drawn(v, _generator(n, seed)) if isinstance(v, Mapping) else v for n, v in in_force}
        return Episode(played, values)


def common(lessons: Sequence[Lessons]) -> Lessons:
    """Returns the lessons that all have in common, -1 where they differ, since the earliest of their changes."""
    at = (each[0] if len(set(each)) == 1 else -1 for each in zip(*(one.at for one in lessons)))
    return Lessons(min(one.change for one in lessons), tuple(at))


def _generator(name: str, seed: Sequence[int]) -> np.random.Generator:
    own = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")  # no two parameters draw alike
    return np.random.default_rng((own, *seed))


def _drawn(sampler: Mapping[str, Any], draw: np.random.Generator) -> float:
    if sampler["sampler"] == "uniform":
        return float(draw.uniform(sampler["min"], sampler["max"]))
    if sampler["sampler"] == "gaussian":
        return float(draw.normal(sampler["mean"], sampler["deviation"]))
    intervals = np.asarray(sampler["intervals"], float)
    widths = intervals[:, 1] - intervals[:, 0]
    shares = widths / widths.sum() if widths.sum() else None
    low, high = intervals[draw.choice(len(intervals), p=shares)]
    return float(draw.uniform(low, high))


_SAMPLERS = {"uniform": ("min", "max"), "gaussian": ("mean", "deviation"), "multi_range": ("intervals",)}
_LESSON = ("value", "name", "until", "back", "earlier")
_CONDITION = ("measure", "behavior", "episodes", "smoothing")
_EPISODES = 100
_OF_NOW = ("progress", "rating")
"""Measures that are no mean over episodes."""
_MOST_EPISODES = 100_000


def _lessons(where: str, given: Mapping[str, Any]) -> tuple[Lesson, ...]:
    _check_keys(where, given, ("lessons",))
    each = given["lessons"]
    where = f"{where}.lessons"
    if not _is_list(each) or not each:
        raise UserError(
            f"{where}={each} must be a list of lessons: [{{value: 1, until: {{above: 0.8}}}}, {{value: 2}}]"
        )
    return tuple(_lesson(f"{where}[{at}]", one, at, len(each)) for at, one in enumerate(each))


def _lesson(where: str, given: Any, at: int, count: int) -> Lesson:
    if not isinstance(given, Mapping):
        raise UserError(f"{where}={given} must be a lesson: {{value: 1, until: {{above: 0.8}}}}")
    _check_keys(where, given, _LESSON)
    if "value" not in given:
        raise UserError(f"{where}.value is missing: a lesson needs a number or a sampler")
    until, back, earlier = given.get("until"), given.get("back"), given.get("earlier", 0)
    last = at == count - 1
    if until is None and not last:
        raise UserError(
            f"{where}.until is missing, so this lesson would never end: say when the next begins, such as "
            "until: {measure: reward, above: 0.8}. Only the last lesson has no end"
        )
    if until is not None and last:
        raise UserError(
            f"{where}.until={dict(until) if isinstance(until, Mapping) else until}: the last lesson ends "
            "with the run: leave until out, or add another lesson"
        )
    if at == 0 and (back is not None or earlier):
        raise UserError(f"{where}.{'earlier' if back is None else 'back'}: there is no lesson before the first")
    if not _is_number(earlier) or not 0 <= earlier < 1:
        raise UserError(f"{where}.earlier={earlier} must be a share of episodes, at least 0 and below 1")
    name = given.get("name")
    return Lesson(
        _value(f"{where}.value", given["value"]),
        None if name is None else str(name),
        None if until is None else _condition(f"{where}.until", until, "above"),
        None if back is None else _condition(f"{where}.back", back, "below"),
        float(earlier),
    )


def _condition(where: str, given: Any, bound: str) -> Condition:
    if not isinstance(given, Mapping):
        raise UserError(f"{where}={given} must say when: {{measure: reward, {bound}: 0.8, episodes: 100}}")
    _check_keys(where, given, (bound, *_CONDITION))
    measure, threshold = given.get("measure", "reward"), given.get(bound)
    if not isinstance(measure, str) or not measure:
        raise UserError(
            f"{where}.measure={measure} must be reward, length, progress, rating, or a number that the game reports"
        )
    if not _is_number(threshold):
        seen = "is missing" if threshold is None else f"={threshold} must be a number"
        raise UserError(f"{where}.{bound} {seen}: what {measure} has to lie {bound}".replace(" =", "="))
    if measure == "progress" and not 0 <= threshold <= 1:
        raise UserError(
            f"{where}.{bound}={threshold} must lie between 0 and 1: progress is the share of stop.samples that is done"
        )
    episodes = given.get("episodes", 1 if measure in _OF_NOW else _EPISODES)
    if isinstance(episodes, bool) or not isinstance(episodes, int) or not 1 <= episodes <= _MOST_EPISODES:
        raise UserError(f"{where}.episodes={episodes} must be a whole number from 1 to {_MOST_EPISODES:,}")
    smoothing = given.get("smoothing", 0)
    if not _is_number(smoothing) or not 0 <= smoothing < 1:
        raise UserError(f"{where}.smoothing={smoothing} must be at least 0 (none) and below 1")
    if measure in _OF_NOW and smoothing:
        raise UserError(f"{where}.smoothing={smoothing}: {measure} is not noisy, leave smoothing out")
    behavior = given.get("behavior")
    if behavior is not None and not isinstance(behavior, str):
        raise UserError(f"{where}.behavior={behavior} must be the name of a behavior")
    return Condition(where, measure, behavior, float(threshold), episodes, float(smoothing))


def _check_keys(where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(known)}"
            raise UserError(f"unknown key {where}.{key}; {hint}")


def _value(where: str, value: Any) -> Value:
    if isinstance(value, Mapping):
        _check_sampler(where, value)
    elif not _is_number(value):
        raise UserError(
            f"{where}={value} must be a number, or a sampler: {{{_forms()}}}, or {{lessons: …}} (docs/curricula.md)"
        )
    checked: Value = value
    return checked


def _check_sampler(where: str, value: Mapping[str, Any]) -> None:
    kind = value.get("sampler")
    if not isinstance(kind, str) or kind not in _SAMPLERS or value.keys() != {"sampler", *_SAMPLERS[kind]}:
        raise UserError(f"{where}={dict(value)} is no sampler: {{{_forms()}}}")
    if kind == "multi_range":
        intervals = value["intervals"]
        if not _is_list(intervals) or not intervals or not all(_is_list(i) and len(i) == 2 for i in intervals):
            raise UserError(f"{where}.intervals={intervals} must be a list of pairs: [[0, 1], [5, 6.5]]")
    else:
        intervals = [[value[name] for name in _SAMPLERS[kind]]]
    for interval in intervals:
        if not all(map(_is_number, interval)):
            raise UserError(f"{where}: {list(interval)} must be numbers that fit float32")
        if kind == "gaussian":
            if interval[1] < 0:
                raise UserError(f"{where}.deviation={interval[1]} must not be negative")
        elif interval[0] > interval[1]:
            raise UserError(f"{where}: {list(interval)} has its least value above its greatest")


def _forms() -> str:
    return "} or {".join(
        f"sampler: {kind}, {', '.join(f'{name}: …' for name in names)}" for kind, names in _SAMPLERS.items()
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number(value: Any) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= float(np.finfo(np.float32).max)
