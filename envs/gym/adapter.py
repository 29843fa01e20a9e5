"""Gymnasium environments: how one is made, what its behavior is, and how it is driven with arrays of a spec.

Shapes: C continuous actions, B discrete branches, A mask entries.
"""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator, registry

from envs.gym.observations import observation_parts
from envs.gym.spaces import ActionCodec, follow, write_mask
from envs.gym.values import WrongValue, shortened
from envs.imports import hidden_hint, imported, imported_module
from envs.spec import Array, BehaviorSpec, UserError

Env = gymnasium.Env[Any, Any]


@dataclass(frozen=True)
class GymEnv:
    """How to make one Gymnasium environment. Picklable: each worker makes its own."""

    id: str
    """A registered id; `package.module:Name-v0` and `./file.py:Name-v0` import the module or file first."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[Any, ...] = ()
    """From the inside out: `package.module:Class`, a `gymnasium.Wrapper`, or a mapping with `path` and `kwargs`."""
    time_scale: float = 20.0
    """Durations that the env returns are divided by this; 0 = do not wait."""
    prepare_images: bool = True
    """Whether images are made ready for a CNN: see `observation_parts`."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Environment parameters, as `envs.parameters.Parameters` reads them."""
    max_entities: int | None = None
    """How many entities there are at most in what is observed as a Sequence."""

    @property
    def behavior(self) -> str:
        """Name of its one behavior: the id without module and namespace."""
        return self.id.split(":")[-1].split("/")[-1]

    def check(self) -> None:
        """Refuses what can be refused without making the env.

        Raises:
            UserError: an unknown id, a module or wrapper that cannot be imported, a missing optional library, keyword
                arguments that are not taken.
        """
        spec = self._spec()
        creator: Any = spec.entry_point
        if isinstance(creator, str):
            try:
                creator = load_env_creator(creator)
            except (ImportError, AttributeError, gymnasium.error.DependencyNotInstalled) as error:
                raise UserError(f"Environment {self.id!r} cannot be loaded: {error}.") from error
        if callable(creator):
            check_call(f"Environment {self.id!r} (env.kwargs)", creator, (), {**spec.kwargs, **self.kwargs})
        self.check_wrappers()

    def check_wrappers(self) -> None:
        """Refuses wrappers that cannot be imported, or do not take their arguments: by a UserError."""
        for wrapper in self.wrappers:
            wrap, kwargs = _wrapper(wrapper)
            check_call(f"Wrapper {wrapper!r} (env.wrappers)", wrap, (None,), kwargs)

    def draws(self, env: Env) -> bool:
        """Returns whether what `make(render=True)` makes can render `rgb_array`, by one that was made without."""
        return "rgb_array" in (env.metadata.get("render_modes") or ())

    def make(self, render: bool = False) -> Env:
        """Returns a new env with its wrappers; with `render`, one whose `render()` returns `rgb_array` pictures."""
        spec = self._spec()
        kwargs: dict[str, Any] = {**self.kwargs, "render_mode": "rgb_array"} if render else dict(self.kwargs)
        if self.kwargs.get("render_mode") == "rgb_array":  # it is filmed; where `render` asks, a person may look on
            draw_unseen()
        return self.wrapped(gymnasium.make(spec.id, disable_env_checker=True, **kwargs))

    def wrapped(self, env: Env) -> Env:
        """Returns an env in its wrappers."""
        for wrapper in self.wrappers:
            wrap, kwargs = _wrapper(wrapper)
            env = wrap(env, **kwargs)
        return env

    def _spec(self) -> EnvSpec:
        module, _, name = self.id.rpartition(":")
        found = imported_module(module, f"Environment {self.id!r}") if module else None
        try:
            return gymnasium.spec(name)
        except gymnasium.error.Error as error:
            if callable(getattr(found, name, None)):
                raise UserError(
                    f"Environment {self.id!r} is a class or a function, not an id that the module registers: "
                    f"write env=factory env.id={self.id}"
                ) from error
            known = sorted(registry)
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            near += [known_id for known_id in known if known_id.startswith(f"{name}-v")]
            hint = f"Did you mean {' or '.join(dict.fromkeys(near))}?" if near else "No known id is close to it."
            space, slash, _ = name.partition("/")
            if name.endswith(".py"):
                hint = "A file is named with the id that it registers."
            elif slash and not any(known_id.startswith(f"{space}/") for known_id in known):
                hint = f"No module that was imported has registered ids of {space}/."
            raise UserError(
                f"Unknown environment id {self.id!r}. {hint} "
                "An id from a package of its own is written with the module or file that registers it: "
                f"package.module:Name-v0, ./file.py:Name-v0{hidden_hint(module)}."
            ) from error


def begin(env: Env, seed: int | None, parameters: Mapping[str, float], options: type[dict[str, Any]] = dict) -> Any:
    """Begins an episode with environment parameters; returns what the env's `reset` does.

    They are given to a method `set_parameters` of the env or of one of its wrappers, if one has it, else to `reset`, in
    `options` of this type.
    """
    if not parameters:
        return env.reset(seed=seed)
    if (take := parameters_method(env)) is None:
        return env.reset(seed=seed, options=options(parameters=dict(parameters)))
    take(dict(parameters))
    return env.reset(seed=seed)


def parameters_method(env: Env) -> Callable[[dict[str, float]], object] | None:
    """Returns the method `set_parameters` of the env or of its outermost wrapper that has one; None if none has."""
    while True:
        if callable(found := getattr(env, "set_parameters", None)):
            method: Callable[[dict[str, float]], object] = found
            return method
        if not isinstance(env, gymnasium.Wrapper):
            return None
        env = env.env


def draw_unseen() -> None:
    """Keeps SDL, with which many games draw, from looking for a display where there is none: it would say so."""
    if sys.platform == "linux" and not os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


class HasSpaces(Protocol):
    """An environment, or one agent of it."""

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """What is observed."""

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """What is done."""


class GymAdapter:
    """Drives one env with arrays of a spec: observations and masks into rows, rows of actions into its own."""

    def __init__(self, env: HasSpaces, spec: BehaviorSpec) -> None:
        self._spec = spec
        self.action = ActionCodec(env.action_space).decode
        """(continuous (C,) float32, discrete (B,) int32) -> the env's action."""
        # A spec tells whether images were prepared for it, and how many entities there can be.
        most = spec.max_entities
        plain = behavior_spec(env, spec.name, spec.masked, prepare_images=False, max_entities=most)
        prepared = spec.difference(plain) is not None
        self._parts = observation_parts(env.observation_space, prepared, most)
        difference = spec.difference(behavior_spec(env, spec.name, spec.masked, prepared, most))
        if difference:
            raise UserError(f"This instance's spec differs from the first one's: {difference}. All must be the same.")

    def observe(self, observation: Any, rows: tuple[Array, ...]) -> None:
        """Writes the parts of `observation` into `rows`, (*shape) each; WrongValue if their spaces do not hold them."""
        for part, row in zip(self._parts, rows):
            try:
                part.write(follow(observation, part.path) if part.path else observation, row)
            except WrongValue as error:
                raise WrongValue(f"behavior {self._spec.name!r}: {error}") from None
            except (KeyError, IndexError, TypeError) as error:
                raise WrongValue(
                    f"behavior {self._spec.name!r}: the observation lacks {part.spec.name!r} of its space "
                    f"({type(error).__name__}: {error}); it is {shortened(observation)}"
                ) from error

    def mask(self, info: Mapping[str, Any], row: Array) -> None:
        """Writes the action mask of `info` into `row` (A,); all is allowed where the spec has one and `info` has none.

        Raises:
            WrongValue: a mask of the wrong size, one that allows nothing, or one that no reset has announced.
        """
        if "action_mask" in info:
            if not self._spec.masked:
                raise WrongValue(
                    "info holds an action_mask, but the first reset's info had none: reset must return one"
                )
            write_mask(info["action_mask"], self._spec.branches, row)
        else:
            row[...] = True


def behavior_spec(
    env: HasSpaces, name: str, masked: bool = False, prepare_images: bool = True, max_entities: int | None = None
) -> BehaviorSpec:
    """Returns the spec of an env's one behavior.

    Args:
        env: an environment.
        name: of its behavior.
        masked: whether a reset's `info` holds an `action_mask`.
        prepare_images: whether images are made ready for a CNN.
        max_entities: how many entities there are at most in a Sequence.

    Raises UserError for a space that cannot be served, by name, with the remedy.
    """
    codec = ActionCodec(env.action_space)
    if masked and not codec.branches:
        raise UserError("info holds an action_mask, but the action space has no discrete branch that it could mask.")
    observations = tuple(part.spec for part in observation_parts(env.observation_space, prepare_images, max_entities))
    return BehaviorSpec(name, observations, codec.continuous_size, codec.branches, masked)


def _wrapper(entry: Any) -> tuple[type[gymnasium.Wrapper[Any, Any, Any, Any]], dict[str, Any]]:
    """Returns the class that an entry of `wrappers` names, and its keyword arguments."""
    path, kwargs = (entry.get("path", ""), entry.get("kwargs") or {}) if isinstance(entry, Mapping) else (entry, {})
    path = str(path)
    if ":" not in path:  # Gymnasium's own way to write it
        path = ":".join(path.rsplit(".", 1))
    found = imported(path, "env.wrappers")
    if not (isinstance(found, type) and issubclass(found, gymnasium.Wrapper)):
        what = f"the class {found.__qualname__}" if isinstance(found, type) else f"a {type(found).__name__}"
        raise UserError(
            f"Wrapper {path!r} (env.wrappers) is {what}: it must be a class that derives from gymnasium.Wrapper"
        )
    return found, dict(kwargs)


def check_call(what: str, called: Callable[..., Any], given: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuses arguments that `called` does not take, where its signature is known."""
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*given, **kwargs)
    except TypeError as error:
        raise UserError(f"{what} cannot be made: {error}; it takes {signature}") from error
