"""A first look at a game, in a process of its own: who plays, what they observe and do, and how long a step takes."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from envs.gym.adapter import parameters_method
from envs.gym.probe import Options, Probe, lesson_values, random_action, time_steps
from envs.gym.saved_spaces import space_to_dict
from envs.gym.slots import allocate_fields
from envs.gym.values import WrongValue
from envs.imports import described
from envs.parameters import Parameters
from envs.pettingzoo.cast import Cast, agent_spaces
from envs.pettingzoo.environment import GameEnv
from envs.pettingzoo.game import Game
from envs.pettingzoo.players import Players, cast_of
from envs.pettingzoo.worker import ASKS, GameDriver, GamePlan, GameSlots, game_fields
from envs.seeding import episode_seed
from envs.spec import UserError

_LESSONS_SECONDS = 2.0


@dataclass(frozen=True)
class GameProbe(Probe):
    """What the first look found."""

    cast: Cast = field(default=Cast((), (), False, False))


def look_at_game(env: GameEnv, seed: int, answer: Connection) -> None:
    """Main function of the process; see `envs.gym.probe.Look`."""
    game, stage = None, "cannot be made"
    try:
        game = env.make()
        stage = "fails in its first reset"
        parameters = Parameters(env.parameters)
        given = parameters.episode(parameters.first, seed, 0, 0).values
        game.begin(episode_seed(seed, 0, 0), given, Options)
        seen = not given or Options.seen or parameters_method(game.env) is not None
        cast = cast_of(game, env)
        players, look = Players(game, cast), _Look(env, cast, seed)
        players.begin(episode_seed(seed, 0, 1), given)
        stage = "fails in its first step"
        look.step()
        until = time.perf_counter() + _LESSONS_SECONDS
        for values in lesson_values(parameters, seed):
            stage = f"fails in a reset with the parameters {values}"
            players.begin(episode_seed(seed, 0, 0), values)
            if time.perf_counter() > until:
                break
        spaces = {spec.name: _spaces(game, int(seats[0])) for spec, seats in zip(cast.specs, cast.of)}
        answer.send(GameProbe(cast.specs, env.draws(game.env), spaces, parameters_seen=seen, cast=cast))
        answer.send(time_steps(look))
    except UserError as error:
        plain = not isinstance(error, WrongValue)
        answer.send(f"Environment {env.id!r}: {error}" if plain else f"Environment {env.id!r} {stage}: {error}")
    except BaseException as error:  # also sys.exit and what only Ctrl+C raises elsewhere
        answer.send(f"Environment {env.id!r} {stage}: {described(error)}")
    finally:
        if game is not None:
            with contextlib.suppress(BaseException):
                game.close()


class _Look:
    """A game that is played by chance, with every value checked as a worker does."""

    def __init__(self, env: GameEnv, cast: Cast, seed: int) -> None:
        parameters = Parameters(env.parameters)
        lessons = len(parameters.lessons)
        self._slots = GameSlots(cast, 1, allocate_fields(game_fields(cast, 1, lessons), 1), lessons)
        self._slots.lessons[:] = parameters.first.row
        driver = GameDriver(GamePlan(env, cast, 1, 0, 1, seed), self._slots, 0, lambda report: None, parameters)
        self._cast, self._driver, self._scale = cast, driver, env.time_scale
        self._rng = np.random.default_rng(0)
        self.longest: float | None = None
        driver.go()

    def step(self) -> float:
        """Takes one random step; returns the seconds that it took."""
        for spec, slots in zip(self._cast.specs, self._slots.of):
            for row in np.flatnonzero(slots.flags & ASKS):
                slots.continuous[row], slots.discrete[row] = random_action(spec, slots.mask[row], self._rng)
        before = time.perf_counter()
        lasted = self._driver.go()
        taken = time.perf_counter() - before
        if lasted is not None:
            self.longest = max(self.longest or 0.0, lasted * self._scale)
        return taken


def _spaces(game: Game, seat: int) -> dict[str, Any]:
    own = agent_spaces(game.env, game.agents[seat])
    return {"observation": space_to_dict(own.observation_space), "action": space_to_dict(own.action_space)}
