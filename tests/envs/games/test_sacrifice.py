import random

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from envs.games.sacrifice import AGENTS, COST, LIMIT, Sacrifice, make_bot
from envs.spec import UserError


def played(act, seed):
    """Plays an episode; returns the score and what each agent earned."""
    game, earned = Sacrifice(), dict.fromkeys(AGENTS, 0.0)
    seen, _ = game.reset(seed=seed)
    while game.agents:
        seen, rewards, _, _, infos = game.step({agent: act(agent, seen[agent]) for agent in game.agents})
        for agent, reward in rewards.items():
            earned[agent] += reward
    (last,) = {(info["score"], info["success"]) for info in infos.values()}
    return game, last, earned


def put(game, **at):
    game.reset(seed=0)
    game.altar, game.gate = (0, 0), (4, 4)
    game.at.update(at)
    return game


def test_it_passes_pettingzoos_own_test():
    parallel_api_test(Sacrifice(), num_cycles=200)


def test_its_bot_always_gets_the_best_score():
    bot = make_bot(random.Random(0))
    for seed in range(50):
        game, (score, success), earned = played(lambda agent, seen: bot(seen), seed)
        assert (score, success) == (1, True)
        assert game.steps < LIMIT
        assert sorted(earned.values()) in ([-COST, 0.5, 1], [-COST, 1, 1])


def test_without_a_sacrifice_nobody_gets_out():
    bot = make_bot(random.Random(0))
    for seed in range(20):
        game, (score, success), earned = played(lambda agent, seen: bot(seen) if seen[6] else 0, seed)
        assert (score, success, game.steps) == (0, False, LIMIT)
        assert set(earned.values()) == {0}


def test_the_gate_is_a_wall_until_the_altar_is_stepped_on_which_costs_one():
    game = put(Sacrifice(), one=(1, 0), two=(3, 4), three=(2, 2))
    _, rewards, ended, _, infos = game.step({"one": 1, "two": 2, "three": 0})
    assert game.at["two"] == (3, 4)
    assert rewards == {"one": -COST, "two": 0, "three": 0}
    assert ended == {"one": True, "two": False, "three": False}
    assert game.agents == ["two", "three"]
    _, rewards, ended, _, infos = game.step({"two": 2, "three": 0})
    assert rewards == {"two": 0.5, "three": 0.5}
    assert {agent: info["group_reward"] for agent, info in infos.items()} == rewards
    assert ended == {"two": True, "three": False}


def test_the_altar_takes_nobody_once_the_gate_is_open():
    game = put(Sacrifice(), one=(1, 0), two=(1, 0), three=(2, 0))
    game.step({"one": 1, "two": 0, "three": 1})
    game.step({"two": 1, "three": 1})
    assert game.agents == ["two", "three"]


def test_agents_see_who_is_nearest_to_the_altar():
    game = put(Sacrifice(), one=(2, 0), two=(1, 0), three=(1, 1))
    seen = [game._observe(agent) for agent in AGENTS]
    assert [see[12] for see in seen] == [0, 1, 0]
    assert seen[0][8:12].tolist() == [1, 1, 1, 0], "as near as another, the first is nearer"
    np.testing.assert_allclose(seen[0][:6], [0, -1, -0.5, 0, 0.5, 1])


def test_its_pictures_tell_the_shut_gate_from_the_open_one():
    game = put(Sacrifice(render_mode="rgb_array"), one=(1, 0))
    shut = game.render()
    assert shut.shape == (420, 420, 3)
    assert shut.dtype == np.uint8
    game.step({"one": 1, "two": 0, "three": 0})
    assert (game.render() != shut).any()
    assert Sacrifice().render() is None


def test_an_action_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="action 5 is not 0"):
        put(Sacrifice()).step({"one": 5, "two": 0, "three": 0})
