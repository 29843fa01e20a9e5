"""Curricula in an ML-Agents trainer YAML."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from envs.spec import UserError
from trainer.convert import keys
from trainer.convert.keys import OTHER, Left, read

_SMOOTHING = 0.25
"""ML-Agents' weight of the measure before, where `signal_smoothing` asks for it."""


def convert_lessons(
    data: object, where: str, left: list[Left], parameter: Callable[[Any, str, list[Left]], Any]
) -> list[dict[str, Any]]:
    """Returns the `lessons` of an environment parameter from its `curriculum`; `parameter` converts a lesson's value.

    Raises UserError if it is no list of lessons, or one but the last has no end.
    """
    if not isinstance(data, list) or not data:
        raise UserError(f"{where}: expected a list of lessons, each with name, value and completion_criteria")
    lessons = []
    for number, given in enumerate(data):
        place, last = f"{where}[{number}]", number == len(data) - 1
        lesson = read(given, place, keys.LESSON, left)
        if "value" not in lesson:
            raise UserError(f"{place}.value is missing: give a number or a sampler")
        value = parameter(lesson["value"], f"{place}.value", left)
        converted: dict[str, Any] = {"value": value, **({"name": lesson["name"]} if "name" in lesson else {})}
        criteria = lesson.get("completion_criteria")
        if last and criteria is not None:
            remedy = "the last lesson ends with the run, in ML-Agents too"
            left.append(Left(f"{place}.completion_criteria", criteria, remedy, keys.NOTHING))
        elif not last:
            if criteria is None:
                raise UserError(f"{place}.completion_criteria is missing: only the last lesson has no end")
            converted["until"] = _until(criteria, f"{place}.completion_criteria", left)
        lessons.append(converted)
    remedy = "episodes count for the lesson in which they began, and a measure is smoothed once an episode"
    left.append(Left(where, f"{len(data)} lessons", remedy, OTHER))
    return lessons


def _until(data: Any, where: str, left: list[Left]) -> dict[str, Any]:
    values = {**keys.defaults(keys.CRITERIA), **read(data, where, keys.CRITERIA, left)}
    if "behavior" not in values:
        raise UserError(f"{where}.behavior is missing: whose episodes are measured")
    progress = values["measure"] == "progress"
    if progress and not 0 <= values["threshold"] <= 1:
        raise UserError(f"{where}.threshold={values['threshold']:g} must lie between 0 and 1: progress is a share")
    # A lesson's least number of episodes is also how many the mean is taken over.
    episodes = max(1, values["min_lesson_length"])
    smoothing = 0.0 if progress or not values["signal_smoothing"] else _SMOOTHING
    return {
        "measure": values["measure"],
        "behavior": values["behavior"],
        "above": values["threshold"],
        "episodes": episodes,
        "smoothing": smoothing,
    }
