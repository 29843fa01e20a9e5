"""A bot for the bubble shooter that looks one shot ahead, and its human-like form, the level's human figure.

Mastering the level means to need at most `HUMAN_BUBBLES` bubbles a game, as ML-Agents' reference measured its agents
against 21 play-throughs by humans (25.14 bubbles on average).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from envs.games.bubbles.rules import Game, Shot

HUMAN_BUBBLES = 523 / 21
"""Mean bubbles of the human-like bot's games with the seeds 0 to 20; a failed game counts the limit.

Blocks of 21 games range from 19 to 35: this one lies at the bot's long-run mean, 24.9."""


@dataclass(frozen=True)
class Errors:
    """How a player errs: the probability of each error, a shot; the rest of the shots are the best in sight."""

    random_shot: float = 0.0
    """Shoots anywhere, either bubble."""
    any_pop: float = 0.0
    """Takes some shot that pops, not the best."""
    aim: float = 0.0
    """Standard deviation of the shot from the aim, in steps of the fan."""


FLAWLESS = Errors()
"""Needs 8.2 bubbles and always solves the level."""
HUMAN = Errors(any_pop=0.3, aim=2.05)
"""Needs 24.9 bubbles (standard deviation 15.5) and solves 94 % of 5000 games."""


class Bot:
    """Plays any `Game`, also that of an env: `Bot(HUMAN, rng).act(env.unwrapped.game)`."""

    def __init__(self, errors: Errors, rng: random.Random) -> None:
        self.errors = errors
        self.rng = rng

    def act(self, game: Game) -> tuple[int, int]:
        """Returns the angle and the bubble in hand, as the env's action has them."""
        rng, angles = self.rng, game.level.angles
        draw = rng.random()
        if draw < self.errors.random_shot:
            return int(rng.random() * angles), int(rng.random() * 2)
        shots = [(game.look(a, game.hand[which]), which) for which in (0, 1) for a in range(angles)]
        popping = [shot for shot in shots if shot[0].popped]
        if popping and draw < self.errors.random_shot + self.errors.any_pop:
            best, which = popping[int(rng.random() * len(popping))]
        else:
            best, which = max(shots, key=lambda shot: _score(game, shot[0]))
        angle = round(best.angle + rng.gauss(0, self.errors.aim))
        return min(max(angle, 0), angles - 1), which


def flawless(env: Any, rng: random.Random) -> Callable[[Any], tuple[int, int]]:
    """Returns a bot without errors for a bubble shooter: `outstep record player=envs.games.bubbles.bot:flawless`."""
    bot, game = Bot(FLAWLESS, rng), env.unwrapped.game
    return lambda observation: bot.act(game)


def _score(game: Game, shot: Shot) -> float:
    """Bubbles cleared first, then a growing group, then a place high up, then a straight shot."""
    cleared = shot.popped.bit_count() + shot.dropped.bit_count()
    score = 10.0 * cleared if cleared else 3.0 * min(shot.group.bit_count(), 2)
    row = shot.hit.cell // game.level.columns
    return score - 0.5 * row - 0.1 * abs(shot.angle - (game.level.angles - 1) / 2)
