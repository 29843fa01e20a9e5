"""Curricula of ML-Agents' trainer configurations, converted."""

from __future__ import annotations

from typing import Any

import pytest

from envs.parameters import Parameters
from envs.spec import UserError
from trainer.convert.keys import Left
from trainer.convert.parameters import convert_parameters


def criteria(**more: Any) -> dict[str, Any]:
    return {"behavior": "Jump", "measure": "reward", "min_lesson_length": 100, "threshold": 0.3, **more}


def converted(*lessons: dict[str, Any], **others: Any) -> tuple[Any, list[Left]]:
    """The parameter `wall` with these lessons, and what is reported."""
    left: list[Left] = []
    parameters = convert_parameters({"wall": {"curriculum": list(lessons)}, **others}, left)
    Parameters(parameters)  # refuses what could not run
    return parameters["wall"], left


SAMPLER = {"sampler_type": "uniform", "sampler_parameters": {"min_value": 1, "max_value": 2}}


def test_lessons_and_what_ends_them_are_converted() -> None:
    progress = {"behavior": "Jump", "measure": "progress", "threshold": 0.1}
    wall, left = converted(
        {"name": "low", "value": 0, "completion_criteria": criteria()},
        {"name": "mid", "value": SAMPLER, "completion_criteria": progress},
        {"name": "high", "value": 8},
    )
    assert wall == {
        "lessons": [
            {
                "name": "low",
                "value": 0.0,
                "until": {"measure": "reward", "behavior": "Jump", "above": 0.3, "episodes": 100},
            },
            {
                "name": "mid",
                "value": {"sampler": "uniform", "min": 1.0, "max": 2.0},
                "until": {"measure": "progress", "behavior": "Jump", "above": 0.1, "episodes": 1},
            },
            {"name": "high", "value": 8.0},
        ]
    }
    assert left == []


@pytest.mark.parametrize(
    ("more", "key", "remedy"),
    [
        ({"signal_smoothing": True}, "signal_smoothing", "soon comes out as the mean itself"),
        ({"require_reset": True}, "require_reset", "begin in the next lesson: nothing to do"),
        ({"min_lesson_length": 20}, "min_lesson_length", "last 20 episodes; ML-Agents takes up to 50"),
    ],
)
def test_what_means_something_else_is_reported(more: dict[str, Any], key: str, remedy: str) -> None:
    other = {"curriculum": [{"value": 1, "completion_criteria": criteria(min_lesson_length=50)}, {"value": 2}]}
    first = criteria(**{"min_lesson_length": 50, **more})
    _, left = converted({"value": 0, "completion_criteria": first}, {"value": 1}, gap=other)
    (found,) = left
    assert found.key == f"environment_parameters.wall.curriculum[0].completion_criteria.{key}"
    assert remedy in found.remedy


def test_an_end_of_the_last_lesson_is_left_out_and_said() -> None:
    wall, left = converted({"value": 0, "completion_criteria": criteria()})
    assert wall == {"lessons": [{"value": 0.0}]}
    assert left[0].remedy == "the last lesson has no end: nothing to do"


def test_a_rating_is_that_of_self_play() -> None:
    first = {"value": 0, "completion_criteria": criteria(measure="Elo", threshold=1300)}
    wall, left = converted(first, {"value": 2})
    assert wall["lessons"][0]["until"]["measure"] == "rating"
    assert wall["lessons"][0]["until"]["above"] == 1300
    assert left == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"curriculum": 3}, "wall.curriculum: expected a list of lessons"),
        ({"curriculum": [{"value": 1}, {"value": 2}]}, r"curriculum\[0\].completion_criteria is missing"),
        ({"curriculum": [{"name": "a"}]}, r"curriculum\[0\].value is missing"),
        ({"curriculum": [{"vlaue": 1}]}, r"unknown key .*vlaue; did you mean .*\[0\].value"),
        ({"curriculum": [{"value": 1}], "curiculum": 2}, "unknown key .*wall.curiculum; did you mean .*curriculum"),
        (
            {"curriculum": [{"value": 1, "completion_criteria": {"threshold": 1}}, {"value": 2}]},
            "completion_criteria.behavior is missing",
        ),
        (
            {"curriculum": [{"value": 1, "completion_criteria": criteria(measure="lenght")}, {"value": 2}]},
            "completion_criteria.measure=lenght: expected one of reward, progress, Elo",
        ),
        (
            {
                "curriculum": [
                    {"value": 1, "completion_criteria": criteria(measure="progress", threshold=3)},
                    {"value": 2},
                ]
            },
            "threshold=3 must lie between 0 and 1",
        ),
    ],
)
def test_curricula_that_cannot_be_are_refused_by_name(given: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        convert_parameters({"wall": given}, [])
