import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.games.gather import LIMIT, Gather
from envs.spec import UserError

ID = "envs.games:Gather-v0"


def play(env, rule, episodes):
    rewards = []
    for seed in range(episodes):
        seen, _ = env.reset(seed=seed)
        earned, over = 0.0, False
        while not over:
            seen, reward, terminated, truncated, _ = env.step(rule(seen))
            earned, over = earned + reward, terminated or truncated
        rewards.append(earned)
    return rewards


def nearest_food(seen):
    things = np.array(seen["things"])
    food = things[things[:, 3] > 0]
    way = food[np.abs(food[:, 1:3]).sum(1).argmin(), 1:3]
    axis = int(np.abs(way).argmax())
    return 1 + 2 * axis + int(way[axis] < 0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("flat", [False, True])
def test_gymnasium_finds_no_fault_in_it(flat):
    check_env(gymnasium.make(ID, flat=flat).unwrapped)


def test_food_is_worth_going_to_and_chance_earns_nothing():
    env, rng = Gather(), np.random.default_rng(0)
    assert np.mean(play(env, nearest_food, 50)) > 0.5  # though it walks through poison
    assert abs(np.mean(play(env, lambda seen: rng.integers(5), 50))) < 0.2


def test_a_thing_is_taken_by_coming_near_and_the_last_food_ends_the_episode():
    env = Gather()
    env.reset(seed=0)
    env.kind, env.place, env.worth = np.float32([1, -1, 1]), np.float32([[0.2, 0], [-0.2, 0], [0.4, 0.1]]), 0.5
    assert env.step(1)[1:4] == (0.5, False, False)
    assert [thing[3] for thing in env.step(0)[0]["things"]] in ([-1, 1], [1, -1])
    assert env.step(1)[1:4] == (0.5, True, False)
    env.reset(seed=0)
    env.kind, env.place, env.worth = np.float32([1, -1]), np.float32([[9, 9], [-0.2, 0]]), 1.0
    assert env.step(2)[1] == -1
    assert [env.step(0)[3] for _ in range(LIMIT - 1)] == [False] * (LIMIT - 2) + [True]


def test_flat_it_is_the_same_padded_with_zeros():
    sets, flat = (Gather(flat=each).reset(seed=3)[0] for each in (False, True))
    count = len(sets["things"])
    assert 4 <= count < 20
    assert flat["things"].shape == (80,)
    assert (flat["things"][: 4 * count] == np.ravel(sets["things"])).all()
    assert not flat["things"][4 * count :].any()


@pytest.mark.parametrize("most", [3, 4.5])
def test_too_few_things_are_refused(most):
    with pytest.raises(UserError, match=f"most={most} .* 4 or more"):
        Gather(most)
