"""The settings of PettingZoo environments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omegaconf import MISSING

from envs.gym.config import PooledConfig
from envs.imports import imported
from envs.spec import UserError

if TYPE_CHECKING:
    from envs.api import Manager, Setup
    from envs.gym.probe import Look
    from envs.pettingzoo.environment import GameEnv


@dataclass
class PettingZooConfig(PooledConfig):
    """A PettingZoo environment: several agents, who act together (parallel) or in turns (AEC)."""

    id: str = MISSING
    """Class or function that makes it, `my_games:Arena` or `./my_games.py:Arena`; or a module that has `parallel_env`
    or `env`: `pettingzoo.classic.connect_four_v3`."""
    behaviors: dict[str, str] = field(default_factory=dict)
    """Behavior of agents by patterns of their names, the first that fits: `{striker_*: Striker, *: Keeper}`. Without
    any an agent's behavior is its name without the number at its end."""
    teams: dict[str, int] = field(default_factory=dict)
    """Team of agents by patterns of their names: `{red_*: 0, blue_*: 1}`. Those that fit none are in team 0."""
    groups: dict[str, int] = field(default_factory=dict)
    """Group of agents by patterns of their names, a number from 1 on: `{red_*: 1}`. Those that fit none are in none."""

    def make_manager(self, setup: Setup) -> Manager:  # noqa: D102
        manager: Manager = imported("envs.pettingzoo.manager:GameManager", "env")(self, setup)
        return manager

    @property
    def behavior_names(self) -> list[str]:
        """Names of the behaviors, once a first look has found them."""
        found = vars(self).get("_probed")
        return [] if found is None else [spec.name for spec in found.specs]

    @property
    def rows_at_once(self) -> int:  # noqa: D102
        found = vars(self).get("_probed")
        return self.instances * (1 if found is None else len(found.cast.seats))

    def check(self) -> None:  # noqa: D102
        super().check()
        for pattern, name in self.behaviors.items():
            if not name or not str(name).isprintable():
                raise UserError(f"env.behaviors.{pattern}={name!r} must be a behavior's name")
        for key, patterns, least in (("teams", self.teams, 0), ("groups", self.groups, 0)):
            for pattern, number in patterns.items():
                if not least <= number <= _LARGEST:
                    raise UserError(f"env.{key}.{pattern}={number} must lie between {least} and {_LARGEST}")

    def made(self) -> GameEnv:  # noqa: D102
        from envs.pettingzoo.environment import GameEnv

        return GameEnv(
            self.id,
            self.kwargs,
            self.time_scale,
            self.prepare_images,
            self.parameters,
            self.behaviors,
            self.teams,
            self.groups,
            self.max_entities,
        )

    def _look(self) -> Look:
        from envs.pettingzoo.probe import look_at_game

        return look_at_game


_LARGEST = 2**31 - 1
