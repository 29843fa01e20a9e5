"""The configuration of a run in its folder: `config.yaml`, which `resume=`, evaluations and the like read again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from envs.api import Manager, Setup
from envs.config import EnvConfig, check_ranges
from envs.process.whole_files import write_whole
from envs.registry import BUILT_IN, find_kind, kind_of
from envs.spec import UserError
from trainer.config.aliases import add_old_values, rename_old_keys
from trainer.config.errors import one_line, refusal
from trainer.config.interpolations import as_text, interpolations, with_interpolations, without_text
from trainer.config.schema import TrainConfig
from trainer.config.signature import sign, untrusted
from trainer.config.typed import default_behavior, open_node, type_algorithms
from trainer.data_files import parse_yaml, read_data

FILE = "config.yaml"
_SHOWN = 500
"""Letters of a reason that are shown, which may hold what somebody else wrote."""


def save_config(config: TrainConfig, folder: Path) -> None:
    """Writes `config` to `config.yaml` in the run's `folder`, as it was written by the user, and signs it."""
    values = as_written(config)
    del values["trust"]  # which is never for a file to say
    values["env"]["kind"] = kind_of(config.env)  # from which the schema of `env` follows when it is read
    content = OmegaConf.to_yaml(values).encode()
    sign(folder, content)
    write_whole(folder / FILE, content)


def load_config(folder: str | Path, trust: bool = False) -> TrainConfig:
    """Returns the configuration with which the run in `folder` was started, for what it names to be run.

    Raises:
        UserError: there is none to be read, or it is not signed by this user and `trust` is false.
    """
    with _reading(folder):
        config = cast(TrainConfig, to_object(load_node(folder, trust)))
    check_ranges(config)
    return config


def load_node(folder: str | Path, trust: bool) -> DictConfig:
    """Does what `load_config` does, and returns OmegaConf's typed node."""
    content = _content(folder)
    refusal = None if trust else untrusted(Path(folder), content)
    with _reading(folder):
        if refusal is None:
            return _typed(content)
        _typed(content, shown=True, imports=False)  # what is damaged is not worth anybody's trust
    raise refusal


def read_config(folder: str | Path, trust: bool = False) -> TrainConfig:
    """Returns the configuration of anybody's run in `folder`, to be shown: nothing that it names is run.

    Interpolations are text, or give way to a default where a setting is no text; they are in `interpolations`. A kind
    of environment that is not ours is imported only if this user has signed the folder, or `trust` is true.

    Raises:
        UserError: there is none to be read.
    """
    content = _content(folder)
    imports = trust or untrusted(Path(folder), content) is None
    with _reading(folder):
        config = cast(TrainConfig, OmegaConf.to_object(_typed(content, shown=True, imports=imports)))
        return replace(config, interpolations=interpolations(parse_yaml(content)))


def as_dict(settings: Any) -> Any:
    """Returns a configuration, or a part of one, as JSON can hold it."""
    if is_dataclass(settings):
        return {each.name: as_dict(getattr(settings, each.name)) for each in fields(settings)}
    if isinstance(settings, Mapping):
        return {key: as_dict(value) for key, value in settings.items()}
    if isinstance(settings, (list, tuple)):
        return [as_dict(value) for value in settings]
    return settings.name if isinstance(settings, Enum) else settings


def as_written(config: Any) -> dict[str, Any]:
    """Returns what `as_dict` does of a command's whole configuration, with interpolations as the user wrote them."""
    values = as_dict(config)
    return cast(dict[str, Any], with_interpolations(values, values.pop("interpolations")))


def to_object(node: DictConfig) -> Any:
    """Returns an object of a node's schema, which remembers the interpolations that its values were written as."""
    config = OmegaConf.to_object(node)
    if not hasattr(config, "interpolations"):
        return config
    return replace(cast(Any, config), interpolations=interpolations(OmegaConf.to_container(node)))


@dataclass
class UnknownEnv(EnvConfig):
    """An environment of a kind that is not imported: what all kinds have in common is known of it."""

    kind: str = ""
    """The import path of its kind."""

    def make_manager(self, setup: Setup) -> Manager:
        """Refuses, as nothing of it can be run."""
        raise UserError(f"env={self.kind} was not imported")

    @property
    def label(self) -> str:  # noqa: D102
        return self.kind


def _content(folder: str | Path) -> bytes:
    """Returns what is in a run's `config.yaml`; UserError if there is none."""
    if not str(folder):
        raise UserError("the folder of the run is empty: give one such as runs/<experiment>/<time>")
    path = Path(folder) / FILE
    if not os.path.isfile(path):
        what = f"has no {FILE}" if os.path.isdir(folder) else "does not exist"
        raise UserError(f"{folder} is not a run's folder, it {what}: give one such as runs/<experiment>/<time>")
    try:
        return read_data(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged or of another version: {error}") from error


@contextmanager
def _reading(folder: str | Path) -> Iterator[None]:
    """Turns whatever a configuration can have wrong into one message."""
    try:
        yield
    except (OmegaConfBaseException, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = refusal(error) if isinstance(error, OmegaConfBaseException) else one_line(error)
        if isinstance(error, InterpolationResolutionError):
            raise UserError(f"{Path(folder) / FILE}: {str(reason)[:_SHOWN]}") from error
        raise UserError(f"{Path(folder) / FILE} is damaged or of another version: {str(reason)[:_SHOWN]}") from error


def _typed(content: bytes, shown: bool = False, imports: bool = True) -> DictConfig:
    """Returns a saved configuration as a typed node; `shown` and no `imports` mean what `read_config` says."""
    loaded = parse_yaml(content)
    if not isinstance(loaded, dict):
        raise ValueError("it holds no settings")
    for key in ("env", "algorithm"):
        if not isinstance(loaded.get(key), dict):
            raise ValueError(f"it holds no settings of {key}")
    loaded.pop("trust", None)  # which is never for a file to say
    if shown:
        loaded = as_text(loaded)
    env = loaded["env"]
    kind = str(env.pop("kind", "unity" if "executable" in env else "gym"))  # older runs do not say
    schema = open_node(OmegaConf.structured(TrainConfig))
    if imports or kind in BUILT_IN:
        schema.env = OmegaConf.structured(find_kind(kind))
    else:
        schema.env = OmegaConf.structured(UnknownEnv(kind=kind))
        loaded["env"] = {key: value for key, value in env.items() if key in schema.env}
    for key, value in loaded.items():
        settings = value is None or isinstance(value, dict) or interpolations([value])
        if key in schema and OmegaConf.is_dict(schema[key]) and not settings:
            raise ValueError(f"{key} is {str(value)[:80]!r}, and should hold settings")
    rename_old_keys(loaded, default_behavior(loaded["algorithm"].get("name")))
    add_old_values(loaded, schema.env, default_behavior)
    node = cast(DictConfig, OmegaConf.merge(schema, without_text(loaded, schema) if shown else loaded))
    type_algorithms(node, shown)
    return node
