import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.games.basic import Basic
from envs.spec import UserError

ID = "envs.games:Basic-v0"
STAY, LEFT, RIGHT = 0, 1, 2


def run(*actions: int) -> list[tuple]:
    """(position, reward, terminated, truncated) of each step."""
    env = Basic()
    env.reset()
    return [(int(o.argmax()), reward, *ends) for o, reward, *ends, _ in map(env.step, actions)]


@pytest.mark.filterwarnings("error")
def test_gymnasium_finds_no_fault():
    check_env(gymnasium.make(ID, render_mode="rgb_array").unwrapped)


def test_seven_steps_right_reach_the_large_goal_for_the_best_possible_return():
    steps = run(*[RIGHT] * 7)
    assert [position for position, *_ in steps] == [11, 12, 13, 14, 15, 16, 17]
    assert [reward for _, reward, *_ in steps] == pytest.approx([-0.01] * 6 + [0.99])
    assert sum(reward for _, reward, *_ in steps) == pytest.approx(0.93)
    assert [ends for *_, ends, _ in steps] == [False] * 6 + [True]


def test_three_steps_left_reach_the_small_goal():
    steps = run(*[LEFT] * 3)
    assert steps[-1][0] == 7
    assert sum(reward for _, reward, *_ in steps) == pytest.approx(0.07)
    assert steps[-1][2:] == (True, False)


def test_staying_costs_a_step_and_is_truncated_after_100():
    steps = run(*[STAY] * 100)
    assert {step[0] for step in steps} == {10}
    assert sum(reward for _, reward, *_ in steps) == pytest.approx(-1.0)
    assert [step[2:] for step in steps] == [(False, False)] * 99 + [(False, True)]


def test_reaching_a_goal_on_step_100_terminates_and_does_not_truncate():
    assert run(*[STAY] * 93, *[RIGHT] * 7)[-1][2:] == (True, False)


def test_make_adds_no_time_limit_of_its_own():
    assert isinstance(gymnasium.make(ID).env, Basic)


def test_observation_is_one_hot():
    observation, _ = Basic().reset()
    assert observation.dtype == np.float32
    assert observation.tolist() == [float(i == 10) for i in range(20)]


def test_an_unknown_action_is_refused():
    with pytest.raises(UserError, match="action 3 is not"):
        run(3)


def test_pictures_show_where_the_agent_is():
    env = gymnasium.make(ID, render_mode="rgb_array")
    env.reset()
    start = env.render()
    env.step(np.int64(RIGHT))
    assert start.shape == (176, 640, 3)
    assert start.dtype == np.uint8
    assert (start != env.render()).any()
