import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.games.corridor import BACK, LIMIT, Corridor
from envs.spec import UserError

ID = "envs.games:Corridor-v0"


def walk(env, actions):
    """(cell, reward, terminated, truncated) of each step."""
    env.reset()
    return [(int(o.argmax()), reward, *ends) for o, reward, *ends, _ in map(env.step, actions)]


def chance_of_random_play(length):
    """Of reaching the right end within an episode: exact, as the doors do not matter to who picks by chance."""
    chances = np.eye(length)[0]
    for _ in range(LIMIT * length):
        following = np.zeros(length)
        following[-1] = chances[-1]
        for cell, chance in enumerate(chances[:-1]):
            following[cell + 1] += chance / 2
            following[max(cell - BACK, 0)] += chance / 2
        chances = following
    return chances[-1]


@pytest.mark.filterwarnings("error")
def test_gymnasium_finds_no_fault_in_the_corridor():
    check_env(gymnasium.make(ID).unwrapped)


def test_the_right_actions_lead_to_the_reward_and_end_the_episode():
    env = Corridor()
    steps = walk(env, env.doors)
    assert [cell for cell, *_ in steps] == list(range(1, 40))
    assert [step[1:] for step in steps] == [(0, False, False)] * 38 + [(1, True, False)]


def test_a_wrong_action_throws_back_by_two_cells_and_never_beyond_the_start():
    env = Corridor()
    right, wrong = env.doors, [1 - door for door in env.doors]
    assert [cell for cell, *_ in walk(env, [*right[:5], wrong[5], wrong[3], wrong[1]])] == [1, 2, 3, 4, 5, 3, 1, 0]
    assert [cell for cell, *_ in walk(env, [wrong[0], right[0], wrong[1]])] == [0, 1, 0]


def test_an_episode_is_cut_off_after_three_steps_for_each_cell():
    env = Corridor(5)
    steps = walk(env, [1 - env.doors[0]] * 15)
    assert [step[1:] for step in steps] == [(0, False, False)] * 14 + [(0, False, True)]


def test_reaching_the_end_with_the_last_step_terminates_and_does_not_truncate():
    env = Corridor(5)
    assert walk(env, [1 - env.doors[0]] * 11 + list(env.doors))[-1] == (4, 1, True, False)


def test_doors_are_the_same_in_every_instance_and_open_to_no_simple_rule():
    doors = Corridor().doors
    assert doors == Corridor().doors
    assert Corridor(20).doors == doors[:19]
    for rule in ([0] * 39, [1] * 39, [0, 1] * 20, [1, 0] * 20):
        assert max(cell for cell, *_ in walk(Corridor(), rule)) <= 4


def test_random_play_reaches_the_end_less_than_once_in_a_million_episodes():
    assert 0 < chance_of_random_play(40) < 1e-6
    assert chance_of_random_play(10) > 0.04  # a short one is crossed by chance


def test_thousands_of_random_episodes_earn_nothing():
    env, rng = Corridor(), np.random.default_rng(0)
    rewards = [sum(reward for _, reward, *_ in walk(env, rng.integers(2, size=120))) for _ in range(2000)]
    assert rewards == [0] * 2000


@pytest.mark.parametrize("length", [1, 2.5])
def test_lengths_that_make_no_corridor_are_refused(length):
    with pytest.raises(UserError, match=f"length={length} .* 2 or more"):
        gymnasium.make(ID, length=length)


def test_an_action_beside_the_two_is_refused():
    with pytest.raises(UserError, match="action 2 is not 0 or 1"):
        walk(Corridor(), [2])


def test_the_parameter_goal_brings_the_reward_nearer():
    env = Corridor()
    env.reset(options={"parameters": {"goal": 2.6}})  # of a sampler
    assert [env.step(door)[1:4] for door in env.doors[:3]] == [(0, False, False)] * 2 + [(1, True, False)]
    env.reset(options={"parameters": {"goal": 1}})
    assert [env.step(1 - env.doors[0])[3] for _ in range(2 * LIMIT)] == [False] * 5 + [True]
    env.reset()
    assert env.goal == 39
    with pytest.raises(UserError, match="the parameter goal=40 must be one of the cells 1 to 39"):
        env.reset(options={"parameters": {"goal": 40}})
