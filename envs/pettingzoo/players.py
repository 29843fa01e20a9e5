"""The agents of one game, between what they say and arrays of a spec.

Shapes: C continuous actions, B discrete branches, A mask entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.gym.adapter import GymAdapter
from envs.gym.values import WrongValue
from envs.pettingzoo.cast import MASK, Cast, agent_spaces, arranged, specs_of
from envs.pettingzoo.environment import GameEnv
from envs.pettingzoo.game import Game, Heard
from envs.spec import Array


class Players:
    """The agents of one game, between what they say and rows of a spec."""

    def __init__(self, game: Game, cast: Cast) -> None:
        self.game = game
        specs = [cast.specs[b] for b, _ in cast.places]
        self._known = [self._spaces(agent) for agent in game.agents]
        self.adapters = [
            GymAdapter(agent_spaces(game.env, agent), spec) for agent, spec in zip(game.agents, specs, strict=True)
        ]
        """By seat."""

    def close(self) -> None:
        """Closes the environment."""
        self.game.close()

    def begin(self, seed: int, values: Mapping[str, float]) -> list[Heard]:
        """Begins an episode; WrongValue if an agent's spaces are not what they were, or nobody is there."""
        heard = self.game.begin(seed, values)
        for agent, known in zip(self.game.agents, self._known):
            spaces = self._spaces(agent)
            if any(now is not before and now != before for now, before in zip(spaces, known)):
                raise WrongValue(
                    f"agent {agent!r} has changed its spaces, from {list(known)} to {list(spaces)}: an agent's spaces "
                    "must stay the same for ever. Pad what varies, or let other agents have the other spaces"
                )
        if not heard:
            raise WrongValue("reset() has left nobody to act: `agents` is empty")
        return heard

    def act(self, asked: Sequence[int], rows: Mapping[int, tuple[Array, Array]]) -> list[Heard]:
        """Lets the seats that were asked act by rows of continuous (C,) and discrete (B,) actions."""
        return self.game.step({seat: self.adapters[seat].action(*rows[seat]) for seat in asked})

    def _spaces(self, agent: Any) -> tuple[Any, Any]:
        return self.game.env.observation_space(agent), self.game.env.action_space(agent)


def cast_of(game: Game, env: GameEnv) -> Cast:
    """Returns who plays in a game of `env` that has been reset; UserError if its agents do not fit the settings."""
    seats = arranged([str(agent) for agent in game.agents], env.behaviors, env.teams, env.groups)
    infos = game.infos()
    masked = [
        MASK in (getattr(game.env.observation_space(agent), "spaces", None) or {}) or MASK in (infos.get(agent) or {})
        for agent in game.agents
    ]
    specs = specs_of(game.env, seats, masked, env.prepare_images, env.max_entities)
    return Cast(seats, specs, bool(env.teams), bool(env.groups))


def write_mask(adapter: GymAdapter, one: Heard, row: Array) -> None:
    """Writes which actions are legal: as the observation says it, else the info; all of them where neither does."""
    observation = one.observation
    inside = isinstance(observation, Mapping) and MASK in observation
    mask = observation if inside else one.info
    if one.over and MASK in mask and not np.any(mask[MASK]):  # there is nothing to choose any more
        mask = {}
    adapter.mask(mask, row)
