"""`environment_parameters` of an ML-Agents trainer YAML: numbers, samplers and curricula.

Follows `mlagents.trainers.settings` and `environment_parameter_manager` of ML-Agents 1.1.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from envs.spec import UserError
from trainer.convert import keys
from trainer.convert.keys import NOTHING, Left, defaults, mapping, number, read, renamed, unknown


def convert_parameters(data: object, left: list[Left]) -> dict[str, Any]:
    """Returns our `env.parameters`; appends to `left` what does not mean quite the same.

    Raises:
        UserError: what ML-Agents would refuse as well.
    """
    given = mapping(data, "environment_parameters")
    return {name: _parameter(value, f"environment_parameters.{name}", given, left) for name, value in given.items()}


def _parameter(value: Any, where: str, all_given: Mapping[str, Any], left: list[Left]) -> Any:
    if isinstance(value, Mapping) and "curriculum" in value:
        left += [unknown(f"{where}.{key}", each, ["curriculum"]) for key, each in value.items() if key != "curriculum"]
        return _curriculum(value["curriculum"], f"{where}.curriculum", _longest(all_given), left)
    return _value(value, where, left)


def _curriculum(given: Any, where: str, longest: Mapping[str, float], left: list[Left]) -> Any:
    if not isinstance(given, list) or not given:
        raise UserError(f"{where}: expected a list of lessons")
    lessons = []
    for at, each in enumerate(given):
        place = f"{where}[{at}]"
        lesson = read(each, place, keys.LESSON, left)
        if "value" not in lesson:
            raise UserError(f"{place}.value is missing: a lesson needs a number or a sampler")
        ours: dict[str, Any] = {"name": lesson["name"]} if "name" in lesson else {}
        ours["value"] = _value(lesson["value"], f"{place}.value", left)
        lessons.append(ours)
        criteria, last = lesson.get("completion_criteria"), at == len(given) - 1
        if criteria is not None and last:
            left.append(
                Left(f"{place}.completion_criteria", criteria, "the last lesson has no end: nothing to do", NOTHING)
            )
        elif not last:
            if criteria is None:
                raise UserError(f"{place}.completion_criteria is missing: only the last lesson has no end")
            ours["until"] = _until(criteria, f"{place}.completion_criteria", longest, left)
    return {"lessons": lessons}


def _until(criteria: Any, where: str, longest: Mapping[str, float], left: list[Left]) -> dict[str, Any]:
    """Returns what ends a lesson."""
    found = {**defaults(keys.CRITERIA), **read(criteria, where, keys.CRITERIA, left)}
    if "behavior" not in found:
        raise UserError(f"{where}.behavior is missing: whose episodes end the lesson")
    measure, least, threshold = found["measure"], max(1, found["min_lesson_length"]), found["threshold"]
    if measure == "Elo":
        measure = "rating"
    if measure == "progress" and not 0 <= threshold <= 1:
        raise UserError(f"{where}.threshold={threshold:g} must lie between 0 and 1: progress is a share of max_steps")
    if measure == "reward" and (most := longest.get(found["behavior"], 1)) > least:
        left.append(
            Left(
                f"{where}.min_lesson_length",
                found["min_lesson_length"],
                f"the mean is taken over the lesson's last {least} episodes; ML-Agents takes up to {most:g}, the "
                "largest min_lesson_length of all lessons that watch this behavior",
            )
        )
    return {"measure": measure, "behavior": found["behavior"], "above": threshold, "episodes": least}


def _longest(given: Mapping[str, Any]) -> dict[str, float]:
    """Returns by behavior the largest `min_lesson_length` of all lessons that watch it."""
    found: dict[str, float] = {}
    for value in given.values():
        lessons = value.get("curriculum") if isinstance(value, Mapping) else None
        for lesson in lessons if isinstance(lessons, Sequence) and not isinstance(lessons, str) else ():
            criteria = lesson.get("completion_criteria") if isinstance(lesson, Mapping) else None
            if isinstance(criteria, Mapping):
                length, behavior = criteria.get("min_lesson_length"), str(criteria.get("behavior"))
                if isinstance(length, (int, float)):
                    found[behavior] = max(found.get(behavior, 1), length)
    return found


def _value(value: Any, where: str, left: list[Left]) -> Any:
    """Returns a number, or how it is drawn."""
    if not isinstance(value, Mapping):
        return number(value, where)
    sampler = read(value, where, keys.SAMPLER, left)
    for key in keys.SAMPLER:
        if key not in sampler:
            raise UserError(f"{where}.{key} is missing: a sampler needs {' and '.join(keys.SAMPLER)}")
    kind = sampler["sampler_type"].replace("_", "")  # the documentation writes multirange_uniform, too
    if kind not in keys.SAMPLERS:
        raise UserError(f"{where}.sampler_type={sampler['sampler_type']}: expected one of {', '.join(keys.SAMPLERS)}")
    table = keys.SAMPLERS[kind]
    given = read(sampler["sampler_parameters"], f"{where}.sampler_parameters", table, left)
    values = {**defaults(table), **given}
    if kind == "constant":
        return values["value"]
    uniform = [(values["min_value"], values["max_value"])] if kind == "uniform" else []
    for low, high in values.get("intervals", uniform):
        if low > high:
            raise UserError(
                f"{where}.sampler_parameters: {low:g} to {high:g} is not a range: the smaller end comes first"
            )
    return {"sampler": "multi_range" if kind == "multirangeuniform" else kind, **renamed(values, table)}
