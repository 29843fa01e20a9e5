import random

import numpy as np
import pytest

pytest.importorskip("pettingzoo")

from pettingzoo.test import parallel_api_test, parallel_seed_test

from envs.games.duel import AGENTS, Duel, make_bot
from envs.spec import UserError


def without_push(env, seed):
    """The observations of a match that begins at rest, so that both sides see the same."""
    env.reset(seed=seed)
    env.speed = [0j, 0j]
    return env._observe()


def played(env, seed, red, blue, pushed=True):
    """The result of a match for red, and its steps."""
    observations = env.reset(seed=seed)[0] if pushed else without_push(env, seed)
    while env.agents:
        actions = {"red": red(observations["red"]), "blue": blue(observations["blue"])}
        observations, rewards, _, _, infos = env.step(actions)
        if env.agents:
            assert set(rewards.values()) == {0}
    assert rewards["red"] == -rewards["blue"]
    assert [infos[agent]["success"] for agent in AGENTS] == [rewards[agent] > 0 for agent in AGENTS]
    return rewards["red"], env.steps


@pytest.mark.filterwarnings("error")
def test_it_passes_pettingzoos_own_tests():
    parallel_api_test(Duel(), num_cycles=200)
    parallel_seed_test(Duel, num_cycles=60)


def test_both_sides_are_alike():
    env, choose = Duel(), random.Random(4)
    observations = without_push(env, 1)
    np.testing.assert_allclose(observations["red"], observations["blue"], atol=1e-6)
    assert observations["red"][:3] == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)
    for action in [choose.randrange(9) for _ in range(6)]:
        observations, *_ = env.step({"red": action, "blue": action})
        np.testing.assert_allclose(observations["red"], observations["blue"], atol=1e-5)
    assert env.agents


def test_who_runs_out_of_the_ring_loses():
    assert played(Duel(), 1, lambda seen: 0, lambda seen: 5)[0] == 1
    assert played(Duel(), 1, lambda seen: 5, lambda seen: 0)[0] == -1
    assert played(Duel(), 1, lambda seen: 5, lambda seen: 5, pushed=False)[0] == 0
    assert played(Duel(), 1, lambda seen: 1, lambda seen: 1, pushed=False) == (0, 78)  # there is no room for both
    assert played(Duel(), 1, lambda seen: 1, lambda seen: 1)[0] != 0


def test_two_of_equal_skill_share_the_matches():
    results = [played(Duel(), seed, make_bot(random.Random(1)), make_bot(random.Random(2)))[0] for seed in range(60)]
    assert 0 not in results
    assert abs(sum(results)) <= 24


def test_the_bot_beats_chance_and_its_skill_is_known():
    env, rng = Duel(), random.Random(0)
    bot, half = make_bot(rng), make_bot(rng, skill=0.4)
    results = [played(env, seed, bot, lambda seen: rng.randrange(9))[0] for seed in range(40)]
    assert sum(result > 0 for result in results) >= 38
    results = [played(env, seed, half, bot)[0] for seed in range(40)]
    assert sum(result > 0 for result in results) <= 4


def test_pictures_show_where_both_are():
    env = Duel(render_mode="rgb_array")
    env.reset(seed=1)
    first = env.render()
    assert first.shape == (400, 380, 3)
    env.step({"red": 1, "blue": 2})
    assert (env.render() != first).any()
    assert Duel().render() is None


def test_an_action_that_does_not_exist_is_refused():
    env = Duel()
    env.reset(seed=1)
    with pytest.raises(UserError, match="action 9 is not 0"):
        env.step({"red": 9, "blue": 0})
