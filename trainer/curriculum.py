"""The curriculum of a run: in which lesson each environment parameter is, and when the next one begins.

Its state lives in the learner's process. Episodes say in which lessons they were played: for a lesson only those count
that began in it since it was reached. A measure is looked at once an episode.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envs.parameters import Condition, Lesson, Parameters
from envs.spec import Lessons, Statistic, UserError
from trainer.config.schema import DEFAULT_BEHAVIOR, TrainConfig, behavior_config
from trainer.telemetry.goal import PATIENCE
from trainer.telemetry.statistics import Episode

PROGRESS, RATING = "progress", "rating"
_OF_EPISODES = ("reward", "length", "group_reward")
"""Measures of episodes themselves; the last one of those with which a group ends."""


class Measured:
    """What one condition has seen of the lesson under way."""

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.missed = 0
        """Episodes without the measure so far."""
        self._values: deque[float] = deque(maxlen=condition.episodes)
        self._smoothed: float | None = None

    @property
    def value(self) -> float | None:
        """The measure; None before enough episodes have ended."""
        return self._smoothed

    @property
    def seen(self) -> bool:
        """Whether any episode had it."""
        return bool(self._values)

    def add(self, value: float) -> float | None:
        """Adds an episode, and returns the measure; None before enough of them have ended."""
        condition = self.condition
        self._values.append(value)
        if len(self._values) == condition.episodes:
            mean = value if condition.measure in (PROGRESS, RATING) else math.fsum(self._values) / len(self._values)
            before = mean if self._smoothed is None else self._smoothed
            self._smoothed = condition.smoothing * before + (1 - condition.smoothing) * mean
        return self._smoothed

    def state(self) -> dict[str, Any]:
        """Returns what `load_state` takes, as JSON can hold it."""
        values = list(self._values)
        return {"measure": self.condition.measure, "values": values, "smoothed": self._smoothed, "missed": self.missed}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned, unless the curriculum was edited to measure something else."""
        if state["measure"] == self.condition.measure:
            self._values.extend(state["values"])
            self._smoothed, self.missed = state["smoothed"], state["missed"]


@dataclass
class Course:
    """One parameter's way through its lessons."""

    name: str
    lessons: Sequence[Lesson]
    at: int = 0
    since: int = 0
    """The change by which the lesson was reached: episodes from before it do not count."""
    until: Measured | None = field(init=False)
    back: Measured | None = field(init=False)

    def __post_init__(self) -> None:
        self.go_to(self.at, self.since)

    def go_to(self, lesson: int, change: int) -> None:
        """Begins a lesson, by the change of this number."""
        self.at, self.since = lesson, change
        until, back = self.lessons[lesson].until, self.lessons[lesson].back
        self.until, self.back = (None if each is None else Measured(each) for each in (until, back))

    @property
    def described(self) -> str:
        """The lesson, in words: `2 of 5 (far)`."""
        name = self.lessons[self.at].name
        return f"{self.at + 1} of {len(self.lessons)}" + (f" ({name})" if name else "")


class Curriculum:
    """The courses of all parameters that have lessons; without any, it does nothing.

    Args:
        parameters: `env.parameters`, read.
        saved: what `state` returned in the run that goes on.
        tells_all: whether an episode's end brings all numbers of the game: then a measure that `PATIENCE` episodes lack
            is a mistake.

    Raises:
        UserError: the run that goes on is in a lesson that is not there any more.
    """

    def __init__(self, parameters: Parameters, saved: Mapping[str, Any] | None = None, tells_all: bool = True) -> None:
        self._tells_all = tells_all
        self._courses = [Course(name, lessons) for name, lessons in parameters.lessons.items()]
        self._change: int = (saved or {}).get("change", 0)
        for course in self._courses:
            if (before := (saved or {}).get("courses", {}).get(course.name)) is not None:
                _restore(course, before)

    @property
    def lessons(self) -> Lessons:
        """Those in which episodes begin."""
        return Lessons(self._change, tuple(course.at for course in self._courses))

    @property
    def finished(self) -> bool:
        """Whether all courses are in their last lessons."""
        return all(course.at == len(course.lessons) - 1 for course in self._courses)

    @property
    def rank(self) -> int:
        """How many lessons were passed, of all courses together."""
        return sum(course.at for course in self._courses)

    def counts(self, lessons: Lessons | None) -> bool:
        """Returns whether what was played in `lessons` began in those of now."""
        return lessons is None or (
            lessons.at == self.lessons.at and all(lessons.change >= course.since for course in self._courses)
        )

    def described(self) -> dict[str, str]:
        """Returns by parameter the lesson, in words."""
        return {course.name: course.described for course in self._courses}

    def scalars(self) -> dict[str, float]:
        """Returns metrics: `lesson/<parameter>`, from 1 on."""
        return {f"lesson/{course.name}": float(course.at + 1) for course in self._courses}

    def add_episode(self, behavior: str, episode: Episode, progress: float, rating: float | None = None) -> list[str]:
        """Adds a finished episode, and returns what to say: of lessons that have begun.

        `progress` is the share of the behavior's training that is done, `rating` that of self-play if it has one, NaN
        while it is not known.
        """
        values = {} if rating is None else {RATING: rating}
        values |= {**episode.metrics, "reward": episode.reward, "length": float(episode.length), PROGRESS: progress}
        return self._add(episode.lessons, behavior, values.get, values)

    def add_statistic(self, sent: Statistic) -> list[str]:
        """Adds a number that a game reported at any time, as `add_episode` does."""
        return self._add(sent.lessons, None, {sent.key: sent.value}.get, None)

    def missing(self, behaviors: Collection[str]) -> list[str]:
        """Returns the keys of conditions that watch a behavior which is not among these."""
        return [
            f"{condition.key}.behavior={condition.behavior}"
            for condition in conditions(self._courses)
            if condition.behavior is not None and condition.behavior not in behaviors
        ]

    def state(self) -> dict[str, Any]:
        """Returns what a resumed run continues from, as JSON can hold it."""
        courses = {
            course.name: {
                "lesson": course.at,
                "since": course.since,
                "until": course.until.state() if course.until else None,
                "back": course.back.state() if course.back else None,
            }
            for course in self._courses
        }
        return {"change": self._change, "courses": courses}

    def _add(
        self,
        lessons: Lessons | None,
        behavior: str | None,
        get: Callable[[str], float | None],
        known: Collection[str] | None,
    ) -> list[str]:
        """Gives values to the conditions that they count for; `known` are all names of an episode, else None."""
        said = []
        for place, course in enumerate(self._courses):
            if lessons is None or lessons.at[place] != course.at or lessons.change < course.since:
                continue
            step = 0
            for measured, by in ((course.back, -1), (course.until, 1)):
                if measured is None or measured.condition.behavior not in (None, behavior):
                    continue
                value = get(measured.condition.measure)
                if value is None:
                    said += [] if known is None else self._miss(measured, known)
                elif math.isfinite(value) and _passes(measured, measured.add(value)):
                    step = by
            if step:
                said.append(self._move(course, step))
        return said

    def _move(self, course: Course, step: int) -> str:
        """Leads a course one lesson on or back, and returns what to say of it."""
        measured = course.until if step > 0 else course.back
        assert measured is not None  # noqa: S101
        condition, value = measured.condition, measured.value
        why = f"{condition.measure} {value:.4g}"
        if condition.measure not in (PROGRESS, RATING) and condition.episodes > 1:
            why += f" over the last {condition.episodes} episodes"
        self._change += 1
        course.go_to(course.at + step, self._change)
        side = f"above {condition.bound:g}" if step > 0 else f"below {condition.bound:g}, one lesson back"
        return f"Lesson {course.described} of {course.name} begins: {why} is {side}."

    def _miss(self, measured: Measured, known: Collection[str]) -> list[str]:
        """Counts an episode without the measure; returns what to say, or raises UserError, if all the first lack it."""
        measured.missed += 1
        if measured.missed != PATIENCE or measured.seen:
            return []
        what = f"{measured.condition.key}.measure={measured.condition.measure}"
        if self._tells_all:
            raise UserError(
                f"{what} is not among the numbers that episodes end with, so this lesson would never end; there is "
                f"{', '.join(sorted(known))}"
            )
        return [f"{what} has not been seen in the first {PATIENCE} episodes of this lesson: does the game report it?"]


def conditions(courses: Collection[Course]) -> list[Condition]:
    """Returns what ends all lessons, and what leads back."""
    found = [condition for course in courses for each in course.lessons for condition in (each.until, each.back)]
    return [condition for condition in found if condition is not None]


def check_curriculum(config: TrainConfig, saved: Mapping[str, Any] | None) -> None:
    """Refuses lessons that could never end as they should: a UserError names the first.

    `saved` is the state of the curriculum in the run that goes on.
    """
    parameters = config.env.read_parameters()
    courses = [Course(name, lessons) for name, lessons in parameters.lessons.items()]
    known = config.env.behavior_names
    if not known and config.behaviors and DEFAULT_BEHAVIOR not in config.behaviors:
        known = list(config.behaviors)
    for condition in conditions(courses):
        name = condition.behavior
        if name is not None and known and name not in known:
            raise UserError(
                f"{condition.key}.behavior={name}: there is no such behavior; the game has {', '.join(known)}"
            )
        stops = [config.stop, *(each.stop for each in config.behaviors.values())]
        if condition.measure == RATING:
            names = [name] if name is not None else list(config.behaviors) or [DEFAULT_BEHAVIOR]
            if not any(behavior_config(config, each).self_play.enabled for each in names):
                raise UserError(f"{condition.key}.measure=rating is that of self-play: give self_play.save_samples")
        if condition.measure == PROGRESS and all(stop.samples is None for stop in stops):
            raise UserError(
                f"{condition.key}.measure=progress is the share of stop.samples that is done: give stop.samples, or "
                "that of a behavior, behaviors.<name>.stop.samples"
            )
        if (
            name is not None
            and config.env.sends_statistics
            and condition.measure not in (*_OF_EPISODES, PROGRESS, RATING)
        ):
            raise UserError(
                f"{condition.key}.behavior={name}: {condition.measure} is a number that the game reports, and "
                "belongs to no behavior: leave behavior out"
            )
    Curriculum(parameters, saved)


def _passes(measured: Measured, value: float | None) -> bool:
    condition = measured.condition
    if value is None:
        return False
    return value > condition.bound if condition.key.endswith("until") else value < condition.bound


def _restore(course: Course, saved: Mapping[str, Any]) -> None:
    at: int = saved["lesson"]
    if at >= len(course.lessons):
        raise UserError(
            f"env.parameters.{course.name}.lessons has {len(course.lessons)} lessons, and the run that goes on is in "
            f"lesson {at + 1}: keep at least so many, or start a new run from its weights with init="
        )
    course.go_to(at, saved["since"])
    for measured, before in ((course.until, saved["until"]), (course.back, saved["back"])):
        if measured is not None and before is not None:
            measured.load_state(before)
