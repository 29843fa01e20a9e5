"""The algorithms, by the `name` that their settings bear, and those of a user's own."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from algorithms.settings import AlgorithmSettings, PolicyKind, settings_class, typed
from envs.config import path_field
from envs.imports import Registry, imported
from envs.spec import UserError

ALGORITHMS: Registry[Any] = Registry(
    "algorithm",
    "outstep.algorithms",
    {
        "ppo": "algorithms.ppo.settings:PPOSettings",
        "sac": "algorithms.sac.settings:SACSettings",
        "poca": "algorithms.poca.settings:POCASettings",
        "custom": "algorithms.registry:CustomSettings",
    },
)
"""Settings classes, derived from `AlgorithmSettings`; installed packages may name the algorithm's class itself."""


PolicyClass = Enum("PolicyClass", ["ppo", "sac", "deterministic"])
"""A `PolicyKind`, as a configuration names it."""


def algorithm_settings(name: str, key: str = "algorithm.name") -> type[AlgorithmSettings]:
    """Returns the settings class of the algorithm of that name; UserError if there is none."""
    return settings_class(ALGORITHMS.find(name, key), AlgorithmSettings, f"{key}={name}")


def algorithm_class(settings: AlgorithmSettings, key: str) -> Any:
    """Returns the class that learns by `settings`; UserError if there is none by `key`, or it lacks something."""
    path = settings.algorithm
    base, make = (imported(f"algorithms.base:{name}", key) for name in ("Algorithm", "make_algorithm"))  # import torch
    found: Any = ALGORITHMS.find(path, key) if path in ALGORITHMS.names() else imported(path, key)
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UserError(f"{key}: {path} must be a class that derives from algorithms.base.Algorithm, or OffPolicy")
    if missing := ", ".join(sorted(vars(found)["__abstractmethods__"])):
        raise UserError(f"{key}: {path} lacks {missing}")
    given = list(inspect.signature(make).parameters)
    try:
        inspect.signature(found).bind(*given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {path} cannot be called with ({', '.join(given)}): {error}") from error
    return found


@dataclass
class CustomSettings(AlgorithmSettings):
    """An algorithm of the user's own by its import path (docs/extending.md)."""

    name: str = "custom"
    """Name of the algorithm, which the choice of `algorithm` sets."""
    path: str | None = path_field()
    """Its class, `package.module:Class`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Whatever else its class can be set, by the names of its `Settings`."""
    policy_class: PolicyClass | None = None
    """`ppo`, `sac` or `deterministic`: the kind of policy that its `Settings` have to ask for; null = any."""

    @property
    def algorithm(self) -> str:
        """The import path of the class."""
        return self.path or ""

    @property
    def kind(self) -> PolicyKind:
        """The kind of policy that the class asks for."""
        return self.own().kind

    def own(self, prefix: str = "algorithm") -> AlgorithmSettings:
        """Returns the settings that the class is made with: those of its own, and the above."""
        found = imported(self.algorithm, f"{prefix}.path")
        kind = settings_class(found, AlgorithmSettings, f"{prefix}.path={self.path}")
        shared = {each.name: getattr(self, each.name) for each in fields(AlgorithmSettings)}
        return typed(kind, shared, self.settings, f"{prefix}.settings")

    def min_rows(self) -> int:
        """Returns the rows that the class's settings ask for."""
        return self.own().min_rows()

    def demo_paths(self) -> dict[str, str | None]:
        """Returns those of cloning, and of the class's own settings."""
        own = {f"settings.{key}": path for key, path in self.own().demo_paths().items()}
        return {**super().demo_paths(), **{key: path for key, path in own.items() if key != "settings.cloning.demos"}}

    def validate(self, prefix: str = "algorithm") -> None:
        """Checks that the path names an algorithm, and its settings as the class does; raises UserError."""
        if self.path is None:
            raise UserError(f"{prefix}.path is missing: name your class, {prefix}.path=my_package.learn:MyAlgorithm")
        algorithm_class(self, f"{prefix}.path")
        own = self.own(prefix)
        if self.policy_class is not None and self.policy_class.name != own.kind:
            raise UserError(
                f"{prefix}.path: {self.path} has another policy than acts with {prefix}.policy_class="
                f"{self.policy_class.name}: its Settings ask for {own.kind}"
            )
        super().validate(prefix)
        own.validate(f"{prefix}.settings")
