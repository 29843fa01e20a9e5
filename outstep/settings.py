"""Settings as a Python program gives them, turned into those of a command line: so both are refused alike."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.spec import UserError

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

CALLBACKS = ("on_log", "on_episode", "on_checkpoint", "on_end")
_PLAIN = r"[A-Za-z_][\w./+-]*"
"""What Hydra reads as a string without quotes, unless it is one of `_WORDS`."""
_WORDS = ("true", "false", "null", "inf", "nan")


def overrides(words: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """Returns the overrides of a command line: `words`, of which one without `=` names an experiment, and `settings`.

    Settings are values by key: keys are dotted, or values are dicts.
    """
    found = []
    for word in words:
        if not isinstance(word, str):
            raise UserError(f"{word!r}: name an experiment, or write key=value; env= takes an environment")
        if word.startswith("-"):
            raise UserError(f"{word}: only settings are taken here, such as algorithm.learning_rate=1e-3")
        found.append(word if "=" in word or word.startswith("~") else f"+experiment={word}")
    for key, value in settings.items():
        found += _flat(key, value)
    return found


def environment(env: Any) -> tuple[list[str], bytes | None]:
    """Returns the overrides that choose an environment, and what makes it where those do not say so.

    Args:
        env: a Gymnasium id or an import path; a class or function that makes an environment; a kind of environment, as
            `env=` on the command line; or a dict of settings, of which `id` may be any of these, and `kind` a kind.

    Raises:
        UserError: it is something else, or cannot be sent to other processes.
    """
    if not isinstance(env, Mapping):
        return _chosen(env)
    given = dict(env)
    found, pickled = ([f"env={given.pop('kind')}"], None) if "kind" in given else ([], None)
    if "id" in given and not found:
        found, pickled = _chosen(given.pop("id"))
    return found + [each for key, value in given.items() for each in _flat(f"env.{key}", value)], pickled


def given_again(env: Any) -> bytes:
    """Returns what makes an environment that was given by a program before, and is now given again."""
    import gymnasium

    from envs.gym.factory import pickle_factory

    if isinstance(env, str) and env in gymnasium.registry:
        return pickle_factory(_registered(gymnasium.spec(env)), env)
    if not callable(env):
        raise UserError(f"env={env!r} must be a class or a function that makes the environment")
    return pickle_factory(env, _name(env))


def _chosen(env: Any) -> tuple[list[str], bytes | None]:
    import gymnasium
    from gymnasium.envs.registration import EnvSpec

    from envs.gym.factory import import_path, pickle_factory

    if isinstance(env, str):
        return _named(env)
    if isinstance(env, EnvSpec):
        return _factory(env.id, pickle_factory(_registered(env), env.id))
    if isinstance(env, (gymnasium.Env, gymnasium.vector.VectorEnv)) or not callable(env):
        raise UserError(
            f"env={env!r}: each process makes environments of its own, so give what makes one: a class, a function "
            'such as lambda: MyEnv(size=3), or a Gymnasium id such as "CartPole-v1"'
        )
    if (path := import_path(env)) is not None:
        return _factory(path, None)
    return _factory(_name(env), pickle_factory(env, _name(env)))


def _named(env: str) -> tuple[list[str], bytes | None]:
    """Returns the same for a kind of environment, an import path or a Gymnasium id."""
    import gymnasium

    from envs.config import EnvConfig
    from envs.gym.factory import pickle_factory
    from envs.imports import imported
    from envs.registry import ENVS
    from trainer.config.compose import CONF

    if env in ENVS.names() or (CONF / "env" / f"{env}.yaml").is_file():
        return [f"env={env}"], None
    if re.fullmatch(r".+:[A-Za-z_]\w*", env):
        try:
            found = imported(env, "env")
        except UserError:
            found = None  # a Gymnasium id perhaps; if not, it is refused as one
        if isinstance(found, type) and issubclass(found, EnvConfig):
            return [f"env={env}"], None
        if callable(found):
            return _factory(env, None)
    if ":" not in env and env in gymnasium.registry and not _known_everywhere(gymnasium.spec(env)):
        return _factory(env, pickle_factory(_registered(gymnasium.spec(env)), env))
    return ["env=gym", f"env.id={_text('env.id', env)}"], None


def _factory(name: str, pickled: bytes | None) -> tuple[list[str], bytes | None]:
    return ["env=factory", f"env.id={_text('env.id', name)}"], pickled


def _registered(spec: EnvSpec) -> Callable[..., Any]:
    """Returns what makes a registered environment in a process where its id is not registered."""
    from gymnasium.envs.registration import load_env_creator

    from envs.gym.factory import make_registered

    if isinstance(spec.entry_point, str) and spec.entry_point.startswith("__main__:"):
        creator: Any = load_env_creator(spec.entry_point)
        spec = copy.copy(spec)
        spec.entry_point = creator
    return partial(make_registered, spec)


def _known_everywhere(spec: EnvSpec) -> bool:
    """Returns whether a new process knows an id: Gymnasium's own, and those of packages that it imports by itself."""
    from importlib.metadata import entry_points

    if not isinstance(spec.entry_point, str):
        return False
    package = spec.entry_point.partition(":")[0].partition(".")[0]
    own = {point.module.partition(".")[0] for point in entry_points(group="gymnasium.envs")}
    return package == "gymnasium" or package in own


def _name(make: Any) -> str:
    """Returns a short name of a class or a function, which names the behavior as well."""
    while isinstance(make, partial):
        make = make.func
    name = getattr(make, "__name__", type(make).__name__)
    return re.sub(r"\W", "", name) if name != "<lambda>" else "env"


def _flat(key: str, value: Any) -> Iterator[str]:
    """Yields the overrides of a key: one, or those of all keys below it."""
    if isinstance(value, Mapping) and value and all(re.fullmatch(r"[\w-]+", str(name)) for name in value):
        for name, inner in value.items():
            if (key, name) == ("algorithm", "name"):
                yield from _flat(key, inner)
            else:
                yield from _flat(f"{key}.{name}", inner)
    else:
        yield f"{'+' if key == 'experiment' else ''}{key}={_text(key, value)}"


def _text(key: str, value: Any) -> str:
    """Returns a value as Hydra reads it."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # of numpy or torch
        value = value.item()
    if value is None:
        return "null"
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, Path)):
        text = str(value)
        if re.fullmatch(_PLAIN, text) and text.lower() not in _WORDS:
            return text
        # Hydra reads backslashes as escapes only where a quote follows.
        escaped = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + match[2].replace("'", "\\'"), text)
        return f"'{escaped}'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_text(key, str(name))}:{_text(key, each)}" for name, each in value.items()) + "}"
    if hasattr(value, "tolist"):
        return _text(key, value.tolist())
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, bytes):
        return "[" + ",".join(_text(key, each) for each in value) + "]"
    hint = f"; callbacks are {', '.join(CALLBACKS)}" if callable(value) else ""
    raise UserError(f"{key}={value!r}: settings are numbers, strings, lists and dicts{hint}")
