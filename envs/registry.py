"""The kinds of environments, by name. A new built-in kind is a line here."""

from __future__ import annotations

import inspect

from envs.config import EnvConfig
from envs.imports import Registry
from envs.spec import UserError

BUILT_IN = {
    "gym": "envs.gym.config:GymConfig",
    "factory": "envs.gym.factory:FactoryConfig",
    "pettingzoo": "envs.pettingzoo.config:PettingZooConfig",
    "vector": "envs.vector.config:VectorConfig",
    "unity": "envs.unity.config:UnityConfig",
}

ENVS: Registry[type[EnvConfig]] = Registry("kind of environment", "outstep.envs", BUILT_IN)
"""Their settings: dataclasses derived from `EnvConfig`."""


def find_kind(name: str) -> type[EnvConfig]:
    """Returns the settings class of a kind by its name or import path; UserError if there is none, or it is no kind."""
    found = ENVS.find(name, "env")
    if not (isinstance(found, type) and issubclass(found, EnvConfig)):
        raise UserError(f"env={name} must be a dataclass derived from envs.config.EnvConfig")
    if inspect.isabstract(found):
        raise UserError(f"env={name} must have the method make_manager(setup)")
    return found


def kind_of(env: EnvConfig) -> str:
    """Returns the name by which `find_kind` finds the settings class of `env` again."""
    path = f"{type(env).__module__}:{type(env).__qualname__}"
    return next((name for name, built_in in BUILT_IN.items() if built_in == path), path)
