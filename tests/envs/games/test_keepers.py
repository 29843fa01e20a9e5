import random

import pytest

pytest.importorskip("pettingzoo")

from pettingzoo.test import parallel_api_test, parallel_seed_test

from envs.games.keepers import GOALIE, LIMIT, STRIKER, Keepers, make_goalie, make_striker
from envs.spec import UserError


def played(env, seed, striker, goalie):
    """Whether the striker has won, and the steps."""
    seen, _ = env.reset(seed=seed)
    while env.agents:
        seen, rewards, *_ = env.step({STRIKER: striker(seen[STRIKER]), GOALIE: goalie(seen[GOALIE])})
    assert rewards[STRIKER] == -rewards[GOALIE]
    assert abs(rewards[STRIKER]) == 1
    return rewards[STRIKER] > 0, env.steps


@pytest.mark.filterwarnings("error")
def test_it_passes_pettingzoos_own_tests():
    parallel_api_test(Keepers(), num_cycles=200)
    parallel_seed_test(Keepers, num_cycles=60)


def test_a_ball_is_held_where_the_goalie_stands():
    env = Keepers()
    env.reset(seed=1)
    env.goalie = 0.3
    for _ in range(10):
        _, rewards, *_ = env.step({STRIKER: 4, GOALIE: 0})
    assert rewards == {STRIKER: -1, GOALIE: 1}
    env.reset(seed=1)
    env.goalie = 0.3
    for _ in range(10):
        _, rewards, *_ = env.step({STRIKER: 6, GOALIE: 0})
    assert rewards == {STRIKER: 1, GOALIE: -1}


def test_who_never_shoots_loses():
    assert played(Keepers(), 3, lambda seen: 0, lambda seen: 0) == (False, LIMIT)


def test_bots_beat_chance_on_both_sides():
    env, rng = Keepers(), random.Random(0)
    striker, goalie = make_striker(rng), make_goalie(rng)

    def wins(striker, goalie):
        return sum(played(env, seed, striker, goalie)[0] for seed in range(60))

    by_chance = wins(lambda seen: rng.randrange(7), lambda seen: rng.randrange(3))
    assert wins(striker, lambda seen: rng.randrange(3)) > by_chance + 5
    assert wins(lambda seen: rng.randrange(7), goalie) < by_chance - 20


def test_pictures_show_ball_and_goalie():
    env = Keepers(render_mode="rgb_array")
    env.reset(seed=1)
    first = env.render()
    assert first.shape == (340, 560, 3)
    env.step({STRIKER: 4, GOALIE: 1})
    assert (env.render() != first).any()
    assert Keepers().render() is None


def test_an_action_that_does_not_exist_is_refused():
    env = Keepers()
    env.reset(seed=1)
    with pytest.raises(UserError, match="goalie's action 3"):
        env.step({STRIKER: 0, GOALIE: 3})
