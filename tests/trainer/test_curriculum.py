"""When lessons begin, which episodes count for them, and what a resumed run knows of that."""

from __future__ import annotations

import json

import pytest

from envs.parameters import Parameters
from envs.spec import Lessons, Statistic, UserError
from trainer.curriculum import Curriculum
from trainer.telemetry.statistics import Episode


def curriculum(*lessons, saved=None, tells_all=True, **others):
    parameters = {"size": {"lessons": list(lessons)}, **others}
    return Curriculum(Parameters(parameters), saved, tells_all)


def until(above, **more):
    return {"above": above, "episodes": 2, **more}


def play(course, reward, lessons=None, behavior="Walker", progress=0.0, **metrics):
    """Adds an episode that began in `lessons`, by default those of now; returns what is said."""
    return course.add_episode(behavior, Episode(0, 100, reward, 5, metrics, lessons or course.lessons), progress)


ONE, TWO, THREE = {"value": 1, "until": until(0.5)}, {"value": 2, "until": until(0.7)}, {"value": 3, "name": "far"}


def test_a_lesson_ends_once_the_mean_of_its_last_episodes_is_above_the_threshold():
    course = curriculum(ONE, TWO, THREE)
    assert [play(course, reward) for reward in (1.0, 0.0, 1.0)] == [[], [], []]  # a mean of 0.5 is not above 0.5
    (said,) = play(course, 0.2)
    assert said == "Lesson 2 of 3 of size begins: reward 0.6 over the last 2 episodes is above 0.5."
    assert (course.lessons, course.finished, course.rank) == (Lessons(1, (1,)), False, 1)
    play(course, 1.0)
    (said,) = play(course, 1.0)
    assert said.startswith("Lesson 3 of 3 (far) of size begins")
    assert course.finished
    assert [play(course, 9.0) for _ in range(5)] == [[]] * 5
    assert course.scalars() == {"lesson/size": 3.0}


def test_episodes_count_for_the_lesson_in_which_they_began():
    course = curriculum(ONE, TWO, THREE)
    before = course.lessons
    play(course, 1.0)
    play(course, 1.0)
    for _ in range(10):  # they end late
        assert play(course, 1.0, before) == []
    assert course.lessons.at == (1,)
    assert not course.counts(before)
    assert course.counts(course.lessons)


def test_a_change_of_another_parameter_leaves_a_lessons_episodes_as_they_are():
    course = curriculum(ONE, TWO, THREE, wind={"lessons": [{"value": 0, "until": until(4)}, {"value": 1}]})
    first = course.lessons
    play(course, 1.0)
    play(course, 1.0)
    assert course.lessons == Lessons(1, (1, 0))
    assert "of wind" in play(course, 9.0, first)[0]  # it began in the lesson of wind that is under way
    assert course.lessons == Lessons(2, (1, 1))


def test_episodes_of_an_earlier_lesson_that_are_mixed_in_do_not_count():
    course = curriculum(ONE, TWO, THREE)
    play(course, 1.0)
    play(course, 1.0)
    for _ in range(5):
        assert play(course, 1.0, Lessons(1, (0,))) == []


def test_a_lesson_leads_back_where_it_is_too_hard_and_begins_anew_later():
    course = curriculum(ONE, {**TWO, "back": {"below": 0.1, "episodes": 3}}, THREE)
    play(course, 1.0)
    play(course, 1.0)
    second = course.lessons
    assert [play(course, 0.0), play(course, 0.0)] == [[], []]
    (said,) = play(course, 0.0)
    assert said == "Lesson 1 of 3 of size begins: reward 0 over the last 3 episodes is below 0.1, one lesson back."
    assert course.lessons == Lessons(2, (0,))
    play(course, 1.0)
    play(course, 1.0)
    assert course.lessons == Lessons(3, (1,))
    for _ in range(5):
        assert play(course, 0.0, second) == []  # of the first time in this lesson


def test_smoothing_goes_by_episode_and_begins_with_the_first_mean():
    course = curriculum({"value": 1, "until": until(0.8, smoothing=0.5)}, THREE)
    play(course, 0.0)
    assert [bool(play(course, reward)) for reward in (1.0, 1.0, 1.0)] == [False, False, True]  # 0.5, 0.75, 0.875


def test_progress_is_measured_as_well_and_so_is_any_number_of_an_episode():
    course = curriculum({"value": 1, "until": {"measure": "progress", "above": 0.3}}, {"value": 2})
    assert [bool(play(course, 0.0, progress=share)) for share in (0.1, 0.3, 0.31)] == [False, False, True]
    course = curriculum({"value": 1, "until": until(0.8, measure="success")}, {"value": 2})
    assert [bool(play(course, 0.0, success=1.0)) for _ in range(2)] == [False, True]


def test_only_the_behavior_that_is_named_counts():
    course = curriculum({"value": 1, "until": until(0.5, behavior="Walker")}, {"value": 2})
    assert [play(course, 9.0, behavior="Runner") for _ in range(5)] == [[]] * 5
    assert course.missing(["Runner"]) == ["env.parameters.size.lessons[0].until.behavior=Walker"]
    assert course.missing(["Walker"]) == []
    play(course, 1.0)
    assert play(course, 1.0)


def test_numbers_that_a_game_reports_at_any_time_count_for_the_lesson_in_which_they_were_played():
    course = curriculum({"value": 1, "until": until(0.5, measure="Wins")}, {"value": 2}, tells_all=False)
    assert course.add_statistic(Statistic("Wins", 1.0, "average", Lessons(0, (-1,)))) == []
    assert course.add_statistic(Statistic("Wins", 1.0, "average", course.lessons)) == []
    assert course.add_statistic(Statistic("Falls", 1.0, "average", course.lessons)) == []
    assert course.add_statistic(Statistic("Wins", float("nan"), "average", course.lessons)) == []
    assert course.add_statistic(Statistic("Wins", 1.0, "average", course.lessons))


def test_a_measure_that_no_episode_has_is_an_error_or_a_note_where_games_report_at_any_time():
    lessons = {"value": 1, "until": until(0.5, measure="sucess")}, {"value": 2}
    course = curriculum(*lessons)
    for _ in range(19):
        play(course, 0.0, success=1.0)
    with pytest.raises(UserError, match=r"until.measure=sucess is not among .* there is length, progress, reward, su"):
        play(course, 0.0, success=1.0)
    course = curriculum(*lessons, tells_all=False)
    said = [play(course, 0.0) for _ in range(40)]
    assert sum(map(len, said)) == 1
    assert "has not been seen in the first 20 episodes" in said[19][0]


def test_a_resumed_curriculum_goes_on_in_the_middle_of_its_means():
    whole, parts = (curriculum({"value": 1, "until": until(0.6, smoothing=0.3)}, TWO, THREE) for _ in range(2))
    rewards = [0.1, 0.9, 0.4, 0.8, 0.9, 1.0, 0.2, 0.9, 1.0, 0.7]
    for reward in rewards:
        play(whole, reward)
        play(parts, reward)
        saved = json.loads(json.dumps(parts.state()))
        parts = curriculum({"value": 1, "until": until(0.6, smoothing=0.3)}, TWO, THREE, saved=saved)
        assert (parts.lessons, parts.state()) == (whole.lessons, whole.state())
    assert whole.rank == 2


def test_an_edited_curriculum_goes_on_if_it_still_has_the_lesson():
    course = curriculum(ONE, TWO, THREE)
    for _ in range(4):
        play(course, 1.0)
    saved = course.state()
    with pytest.raises(
        UserError, match=r"size.lessons has 2 lessons, and the run that goes on is in lesson 3: keep at"
    ):
        curriculum(ONE, {"value": 2}, saved=saved)
    longer = curriculum(ONE, TWO, {"value": 3, "until": until(1)}, {"value": 4}, saved=saved)
    assert longer.lessons == Lessons(2, (2,))
    assert Curriculum(Parameters({"size": 3}), saved).lessons == Lessons(2, ())
    other = curriculum(ONE, {"value": 2}, saved=curriculum(ONE, TWO, THREE).state() | {"change": 7})
    assert other.lessons == Lessons(7, (0,))


def test_without_lessons_nothing_is_said_and_all_counts():
    course = Curriculum(Parameters({"size": 3}))
    assert play(course, 1.0) == []
    assert (course.finished, course.rank, course.counts(None), course.scalars()) == (True, 0, True, {})
