"""How one PettingZoo environment is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from envs.gym.adapter import check_call
from envs.imports import imported, imported_module
from envs.pettingzoo.game import Game, game_of
from envs.spec import UserError


@dataclass(frozen=True)
class GameEnv:
    """How to make one PettingZoo environment. Picklable: each worker makes its own."""

    id: str
    """`package.module:Name`, a class or a function that makes one; or a module that has `parallel_env` or `env`."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    time_scale: float = 20.0
    """Durations that the env returns are divided by this; 0 = do not wait."""
    prepare_images: bool = True
    """Whether images are made ready for a CNN: see `envs.gym.observations.observation_parts`."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Environment parameters, as `envs.parameters.Parameters` reads them."""
    behaviors: Mapping[str, str] = field(default_factory=dict)
    teams: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    """These three are as in `PettingZooConfig`."""
    max_entities: int | None = None
    """How many entities there are at most in what is observed as a Sequence."""

    @property
    def behavior(self) -> str:
        """Its name, the id without module."""
        return self.id.split(":")[-1].split(".")[-1]

    def check(self) -> None:
        """Refuses what can be refused without making the env: by a UserError."""
        check_call(f"Environment {self.id!r} (env.kwargs)", self._factory(), (), self.kwargs)

    def make(self, render: bool = False) -> Game:
        """Returns a new env; with `render`, one whose `render()` returns `rgb_array` pictures."""
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # what many games are drawn with
        kwargs = {**self.kwargs, "render_mode": "rgb_array"} if render else dict(self.kwargs)
        return game_of(self._factory()(**kwargs))

    def draws(self, env: Any) -> bool:
        """Returns whether what `make(render=True)` makes can render `rgb_array`, by one that was made without."""
        return "rgb_array" in ((getattr(env, "metadata", None) or {}).get("render_modes") or ())

    def _factory(self) -> Callable[..., Any]:
        try:
            found = self._found()
        except UserError as error:
            if find_spec("pettingzoo") is None:
                raise UserError(f"{error}\nPettingZoo is not installed: pip install 'outstep[pettingzoo]'") from error
            raise
        if not callable(found):
            raise UserError(f"env.id={self.id} is {type(found).__name__}, and no class or function that makes an env")
        made: Callable[..., Any] = found
        return made

    def _found(self) -> Any:
        if ":" in self.id:
            return imported(self.id, "env.id")
        module = imported_module(self.id, f"env.id={self.id}")
        for name in ("parallel_env", "env"):
            if hasattr(module, name):
                return getattr(module, name)
        raise UserError(
            f"env.id={self.id}: this module has neither parallel_env nor env, Name what does: {self.id}:Name"
        )
