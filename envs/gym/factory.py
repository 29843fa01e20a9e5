"""Environments that a class or a function makes: by import path, or as a Python program gives it.

What a program gives travels by cloudpickle, so it may be defined anywhere: in a script, a notebook, as a lambda. Only
what steps it unpickles it. It is in no file: a run that is made from one is told it again when it goes on.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import gymnasium
from gymnasium.envs.registration import EnvSpec
from omegaconf import MISSING

from envs.gym.adapter import Env, GymEnv, check_call
from envs.gym.config import GymConfig
from envs.imports import imported
from envs.spec import UserError

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass
class FactoryConfig(GymConfig):
    """A Gymnasium environment that a class or a function makes."""

    id: str = MISSING
    """Its import path, `my_envs:MyEnv` or `./my_envs.py:MyEnv`; only a name if a Python program has given it."""

    def give(self, pickled: bytes) -> None:
        """Makes the environment by what `pickle_factory` has returned. It is no setting, and is saved nowhere."""
        self._pickled = pickled

    def gym_env(self) -> FactoryEnv:  # noqa: D102
        made = super().gym_env()
        given = {each.name: getattr(made, each.name) for each in fields(made)}
        return FactoryEnv(**given, pickled=self._given())

    def for_evaluation(self, instances: int) -> Self:  # noqa: D102
        return self._passed_on(super().for_evaluation(instances))

    def filmed(self, folder: Path) -> Self:  # noqa: D102
        return self._passed_on(super().filmed(folder))

    def _passed_on(self, changed: Self) -> Self:
        if (pickled := self._given()) is not None:
            changed.give(pickled)
        return changed

    def _given(self) -> bytes | None:
        pickled: bytes | None = vars(self).get("_pickled")  # no field, which would be a setting
        return pickled


@dataclass(frozen=True)
class FactoryEnv(GymEnv):
    """How a class or a function makes one Gymnasium environment."""

    pickled: bytes | None = None
    """What makes it, as `pickle_factory` returns it; None = what `id` names."""

    def check(self) -> None:  # noqa: D102
        check_call(f"Environment {self.id!r}", self._factory(), (), self.kwargs)
        self.check_wrappers()

    def make(self, render: bool = False) -> Env:  # noqa: D102
        make, kwargs = self._factory(), dict(self.kwargs)
        if render and _takes_render_mode(make):
            kwargs["render_mode"] = "rgb_array"
        env = make(**kwargs)
        if not isinstance(env, gymnasium.Env):
            raise UserError(
                f"Environment {self.id!r}: what was given for it makes {type(env).__name__}, and no gymnasium.Env"
            )
        return self.wrapped(env)

    def draws(self, env: Env) -> bool:  # noqa: D102
        asked = _takes_render_mode(self._factory()) or env.render_mode == "rgb_array"
        return asked and super().draws(env)

    def _factory(self) -> Callable[..., Any]:
        if self.pickled is not None:
            make: Callable[..., Any] = cloudpickle.loads(self.pickled)
            return make
        if ":" not in self.id:
            raise UserError(
                f"env.id={self.id}: this environment was given by a Python program and is in no file. Go on there, and "
                'give it again: outstep.load("runs/...").resume(env=...), or evaluate(env=...)'
            )
        made = imported(self.id, "env.id")
        if not callable(made):
            raise UserError(f"env.id={self.id} is {type(made).__name__}, and no class or function that makes an env")
        called: Callable[..., Any] = made
        return called


def import_path(make: Callable[..., Any]) -> str | None:
    """Returns the import path of a class or a function; None if a new process would not find it by one."""
    module, name = str(getattr(make, "__module__", "")), str(getattr(make, "__qualname__", ""))
    spec = getattr(sys.modules.get(module), "__spec__", None)
    if module == "__main__" or spec is None or not spec.has_location:
        return None
    return f"{module}:{name}" if getattr(sys.modules[module], name, None) is make else None


def pickle_factory(make: Callable[..., Any], name: str) -> bytes:
    """Returns a class or a function that makes an environment as bytes; UserError if it cannot be sent anywhere."""
    try:
        pickled: bytes = cloudpickle.dumps(make)
    except Exception as error:  # of whatever it refers to
        raise UserError(
            f"env={name} cannot be sent to the processes that step it ({type(error).__name__}: {error}). Let it make "
            "what it needs itself when it is called, and refer to nothing that only this process has, such as open "
            "files, locks and connections"
        ) from error
    return pickled


def make_registered(spec: EnvSpec, render_mode: str | None = None, **kwargs: Any) -> Env:
    """Makes a registered environment in a process where its id is not registered."""
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
    env: Env = gymnasium.make(spec, disable_env_checker=True, **kwargs)
    return env


def _takes_render_mode(make: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(each.name == "render_mode" for each in parameters)
