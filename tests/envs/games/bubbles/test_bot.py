import random
import statistics

import pytest

from envs.games.bubbles.bot import FLAWLESS, HUMAN, HUMAN_BUBBLES, Bot, Errors
from envs.games.bubbles.rules import Game, Level


def play(game: Game, bot: Bot) -> int:
    """The bubbles that a new game takes, the limit if it fails."""
    game.reset()
    while not game.over:
        game.shoot(*bot.act(game))
    return game.used if game.solved else game.level.limit


def games(errors: Errors, count: int) -> list[int]:
    rng = random.Random(99)
    game, bot = Game(Level(), rng), Bot(errors, rng)
    return [play(game, bot) for _ in range(count)]


def test_the_human_figure_is_what_the_bot_needs_in_its_21_games():
    bubbles = [play(Game(Level(), rng), Bot(HUMAN, rng)) for rng in map(random.Random, range(21))]
    assert statistics.fmean(bubbles) == HUMAN_BUBBLES


def test_the_human_figure_is_near_the_references():
    assert pytest.approx(25.14, abs=0.5) == HUMAN_BUBBLES


def test_the_21_games_stand_for_the_bots_long_run():
    bubbles = games(HUMAN, 400)
    error = statistics.stdev(bubbles) / len(bubbles) ** 0.5
    assert statistics.mean(bubbles) == pytest.approx(HUMAN_BUBBLES, abs=2.5 * error)


def test_each_error_costs_bubbles():
    flawless = statistics.mean(games(FLAWLESS, 100))
    assert flawless < 10
    assert flawless + 1 < statistics.mean(games(Errors(any_pop=1.0), 100))
    assert flawless + 5 < statistics.mean(games(Errors(aim=2.0), 100))
    assert flawless + 30 < statistics.mean(games(Errors(random_shot=1.0), 100))


def test_the_flawless_bot_takes_the_shot_that_clears_most():
    game = Game(Level(), random.Random(1))
    angle, which = Bot(FLAWLESS, random.Random(0)).act(game)
    cleared = [
        (shot.popped | shot.dropped).bit_count()
        for shot in (game.look(a, color) for color in game.hand for a in range(31))
    ]
    shot = game.look(angle, game.hand[which])
    assert (shot.popped | shot.dropped).bit_count() == max(cleared)
