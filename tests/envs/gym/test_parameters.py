"""Environment parameters of Gymnasium games: what episodes get, and in which lessons they are played."""

import itertools
import json

import numpy as np
import pytest

from envs.gym.adapter import GymEnv
from envs.gym.factory import FactoryEnv
from envs.gym.probe import probe
from envs.spec import Lessons, UserError
from tests.envs.making import gym_manager

WIND = {"sampler": "uniform", "min": -1, "max": 1}
LEVELS = {"lessons": [{"value": 1, "until": {"above": 0}}, {"value": 2, "until": {"above": 0}}, {"value": 4}]}
BOTH = {"level": LEVELS, "wind": WIND}


def manager(env_id="Graded-v0", parameters=BOTH, **more):
    env = GymEnv(f"tests.toys:{env_id}", time_scale=0)
    made = gym_manager(env, 2, 7, workers=1, parameters=parameters, **more)
    made.lockstep = True
    made.start()
    return made


def turn(manager):
    """What is said, and actions for all that ask."""
    (ready,) = manager.recv(60).values()
    agents = ready.decisions.agent
    manager.send(next(iter(manager.specs)), agents, np.zeros((len(agents), 0)), np.zeros((len(agents), 1), np.int32))
    return ready


def seen(ready):
    """By instance, the level and the wind that it shows."""
    return np.round(ready.decisions.observations[0], 4).tolist()


@pytest.mark.parametrize("env_id", ["Graded-v0", "Told-v0"])
def test_episodes_get_parameters_by_reset_or_by_a_method_each_instance_and_episode_its_own(env_id):
    with manager(env_id, lessons=Lessons(0, (0,))) as played:
        shown = [seen(turn(played)) for _ in range(6)]
    assert shown[0] == shown[1] != shown[2] == shown[3]  # an episode has two steps
    winds = {wind for said in shown for _, wind in said}
    assert len(winds) == 6
    assert {level for said in shown for level, _ in said} == {1}


def test_new_lessons_reach_the_next_episodes_and_restart_no_other_sampler():
    with manager(lessons=Lessons(0, (0,))) as plain, manager(lessons=Lessons(0, (0,))) as taught:
        first = turn(taught)
        taught.set_lessons(Lessons(1, (1,)))
        said = [first, *(turn(taught) for _ in range(6))]
        without = [turn(plain) for _ in range(7)]
    assert [seen(ready)[0][0] for ready in said] == [1, 1, 2, 2, 2, 2, 2]
    assert [[wind for _, wind in seen(ready)] for ready in said] == [[w for _, w in seen(ready)] for ready in without]
    assert [dict(ready.lessons) for ready in said[:5]] == [
        {},
        {},
        dict.fromkeys((0, 1), Lessons(0, (0,))),  # they ended in the lesson in which they began
        {},
        dict.fromkeys((0, 1), Lessons(1, (1,))),
    ]


def test_without_being_told_the_last_lessons_are_played():
    with manager() as played:
        assert {level for level, _ in seen(turn(played))} == {4}


def test_an_episode_says_in_which_earlier_lesson_it_was_played():
    levels = {"lessons": [{"value": 1, "until": {"above": 0}}, {"value": 2, "earlier": 0.5}]}
    with manager(parameters={"level": levels}, lessons=Lessons(3, (1,))) as played:
        said = [turn(played) for _ in range(41)]
    pairs = [
        (seen(before)[agent][0], lessons)
        for before, ready in itertools.pairwise(said)
        for agent, lessons in ready.lessons.items()
    ]
    assert len(pairs) == 40
    assert {(1.0, Lessons(3, (0,))), (2.0, Lessons(3, (1,)))} == set(pairs)


def test_open_episodes_are_resumed_with_the_parameters_that_they_had_in_an_edited_curriculum_too():
    with manager(record_actions=True, lessons=Lessons(0, (0,))) as before:
        turn(before)
        turn(before)
        (here,) = before.recv(60).values()
        state = json.loads(json.dumps(before.state()))
    edited = {"level": {"lessons": [{"value": 9, "until": {"above": 0}}, {"value": 4}]}, "wind": 0}
    with manager(parameters=edited, record_actions=True, resume=state, lessons=Lessons(1, (1,))) as after:
        said = [turn(after) for _ in range(4)]
        assert after.state()["actions"][0].begun.values == {"level": 4, "wind": 0}
    assert seen(said[0]) == seen(here)
    assert [seen(ready)[0][0] for ready in said] == [1, 1, 4, 4]
    assert said[2].lessons[0] == Lessons(0, (0,))


def test_a_lesson_that_a_game_does_not_have_is_found_at_the_first_look():
    levels = {"lessons": [{"value": 1, "until": {"above": 0}}, {"value": 51}]}
    with pytest.raises(UserError, match=r"fails in a reset with the parameters {'level': 51}: .*there is no level 51"):
        probe(GymEnv("tests.toys:Graded-v0", parameters={"level": levels}), 1, 60.0)


def test_a_game_that_takes_no_parameters_is_refused_with_what_would_be_right():
    assert probe(FactoryEnv("tests.toys:Deaf"), 1, 60.0).spec.name
    with pytest.raises(UserError, match=r"Deaf.reset takes no options, and env.parameters come as .*set_parameters"):
        probe(FactoryEnv("tests.toys:Deaf", parameters={"level": 2}), 1, 60.0)


@pytest.mark.parametrize(
    ("env_id", "seen"), [("tests.toys:Graded-v0", True), ("tests.toys:Told-v0", True), ("CartPole-v1", False)]
)
def test_a_game_that_does_not_look_at_its_parameters_is_noticed(env_id, seen):
    assert probe(GymEnv(env_id, parameters={"level": 2}), 1, 60.0).parameters_seen is seen


def test_parameters_that_nothing_has_looked_at_are_reported():
    with gym_manager(GymEnv("CartPole-v1"), 1, 7, parameters={"gravity": 2}) as manager:
        manager.start()
        assert "has not looked at options['parameters']" in manager.events[0].text
