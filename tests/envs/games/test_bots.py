"""Who plays the games beside a policy: their own bots, and people with keys and pointer."""

import random

import gymnasium
import numpy as np
import pytest

from envs.games.bubbles.bot import FLAWLESS, HUMAN, Bot, flawless
from envs.games.bubbles.rules import Game, Level
from envs.games.keys import DOWN, LEFT, RIGHT, SPACE, UP
from tests.envs.games.bubbles.test_bot import play


def episode(env, bot, seed):
    observation, _ = env.reset(seed=seed)
    total, over, length = 0.0, False, 0
    while not over:
        observation, reward, terminated, truncated, info = env.step(bot(observation))
        total, over, length = total + reward, terminated or truncated, length + 1
    return total, length, info


def test_basics_bot_takes_the_best_way():
    env = gymnasium.make("envs.games:Basic-v0")
    total, length, _ = episode(env, env.unwrapped.make_bot(random.Random(0)), 0)
    assert (round(total, 6), length) == (0.93, 7)


def test_basics_keys_are_actions_of_its_space():
    env = gymnasium.make("envs.games:Basic-v0").unwrapped
    assert env.get_keys_to_action() == {(DOWN,): 0, (LEFT,): 1, (RIGHT,): 2}


def test_the_bubble_shooters_bot_is_the_human_like_one():
    env = gymnasium.make("envs.games:BubbleShooter-v0")
    assert env.unwrapped.make_bot(random.Random(3))(None) == Bot(HUMAN, random.Random(3)).act(env.unwrapped.game)


def test_the_flawless_bot_needs_few_bubbles():
    env = gymnasium.make("envs.games:BubbleShooter-v0")
    bot = flawless(env, random.Random(0))
    played = [episode(env, bot, seed)[2] for seed in range(20)]
    assert all(info["solved"] for info in played)
    own = [play(Game(Level(), random.Random(seed)), Bot(FLAWLESS, random.Random(0))) for seed in range(20)]
    assert np.mean([info["bubbles"] for info in played]) == pytest.approx(np.mean(own), rel=0.3)


@pytest.fixture
def shooter():
    env = gymnasium.make("envs.games:BubbleShooter-v0", render_mode="rgb_array").unwrapped
    env.reset(seed=1)
    return env


def test_the_pointer_aims_where_it_is(shooter):
    painter = shooter._the_painter()
    (x, y), grid = painter._at(shooter.game.grid.cannon), shooter.game.grid
    x, y = x / painter.size[0], y / painter.size[1]
    assert shooter.pointer_to_action(x, y - 0.2, None) is None
    assert shooter.aim == 15
    assert shooter.pointer_to_action(x, y - 0.2, 0) == (15, 0)
    assert shooter.pointer_to_action(x - 0.2, y, 1) == (0, 1)
    assert shooter.pointer_to_action(x + 0.2, y + 0.01, 0) == (30, 0)
    for angle, ray in enumerate(grid.rays):
        half_way = [(a + b) / 2 for a, b in zip(ray.points[0], ray.points[1])]
        x, y = painter._at(tuple(half_way))
        assert shooter.pointer_to_action(x / painter.size[0], y / painter.size[1], 0) == (angle, 0)


def test_keys_turn_the_cannon_and_shoot(shooter):
    assert shooter.key_to_action(LEFT) is None
    assert shooter.key_to_action(LEFT) is None
    assert shooter.key_to_action(SPACE) == (13, 0)
    assert shooter.key_to_action(RIGHT) is None
    assert shooter.key_to_action(UP) == (14, 0)
    assert shooter.key_to_action(DOWN) == (14, 1)
    assert [shooter.key_to_action(RIGHT) for _ in range(40)] == [None] * 40
    assert shooter.key_to_action(SPACE) == (30, 0)


def test_the_picture_shows_where_a_person_aims(shooter):
    before = shooter.render()
    shooter.pointer_to_action(0.1, 0.2, None)
    aimed = shooter.render()
    assert (before != aimed).any()
    assert before.shape == aimed.shape
    shooter.reset(seed=1)
    assert (shooter.render() == before).all()
