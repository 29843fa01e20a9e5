"""Typed configurations: composed from a command line, saved, and loaded from a run's folder.

Hydra composes, and the dataclasses of `trainer.config.schema` are its schema.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from algorithms.registry import ALGORITHMS, algorithm_settings
from algorithms.rewards.registry import REWARDS, default_rewards
from envs.config import EnvConfig, check_ranges
from envs.registry import BUILT_IN, ENVS, find_kind
from envs.spec import UserError
from trainer.config.aliases import is_old, rename_old_keys, without_behavior
from trainer.config.errors import REFUSED, UnknownKey, refusal, unknown_key
from trainer.config.files import resolve_files
from trainer.config.resume import resumed
from trainer.config.runs import LATEST, found_run
from trainer.config.saved import as_dict, load_config, load_node, save_config, to_object
from trainer.config.schema import EvaluateConfig, RecordConfig, TrainConfig
from trainer.config.typed import TYPED, default_behavior, open_node, type_algorithms

__all__ = [
    "CONF",
    "as_dict",
    "compose",
    "compose_node",
    "load_config",
    "readable",
    "register",
    "save_config",
    "search_path",
    "store_kind",
]

CONF = Path(__file__).resolve().parents[2] / "conf"
"""The folder of our YAML files."""

_RUN_KEYS = {EvaluateConfig: "run", RecordConfig: "player"}
"""The key by which a command is given a run, whose env it uses unless it is given another."""

_RUNS_KEYS = ("run", "resume", "init", "player")
"""The keys that take the folder of a run, or `latest`."""
_NO_EFFECT = (
    "has no effect here: of Hydra's own settings only hydra.searchpath is taken. Give run.dir= for a run's folder, and "
    "-m seed=1,2 for several runs, which are made one after another"
)
_SHOWN = (
    *("hydra.runtime.", "hydra.overrides.", "hydra.job.name", "hydra.job.config_name", "hydra.job.override_dirname"),
    *("hydra.searchpath", "hydra.help.", "hydra.hydra_help."),
)
"""Beginnings of Hydra's keys that it fills in, or that only concern what its own flags show."""

C = TypeVar("C")


def compose(overrides: Sequence[str], schema: type[C], config_name: str) -> C:
    """Returns the configuration that `overrides` (`key=value`, `group=choice`) ask for, an object of `schema`.

    With `resume=`, the run's saved configuration is the base, and only what `trainer.config.resume` allows may differ.

    Raises:
        UserError: an unknown key or choice, a value of the wrong type or out of its range, a missing value, a folder
            that holds no run.
    """
    overrides = [readable(_with_run(override), schema) for override in overrides]
    node = compose_node(overrides, schema, config_name)
    try:
        config = to_object(node)
    except OmegaConfBaseException as error:
        raise refusal(error, overrides, all_keys(schema)) from error
    check_ranges(config)
    return cast(C, config)


def _with_run(override: str) -> str:
    """Returns an override in which the folder of a run takes the place of `latest`."""
    key, _, value = override.partition("=")
    return f"{key}={found_run(LATEST)}" if key in _RUNS_KEYS and value.strip("'\"") == LATEST else override


def search_path(folder: str | None = None) -> list[str]:
    """Returns the override by which YAML files are found in `folder`, and here if there is a folder `experiment`.

    Our own come first.
    """
    places = [f"'file://{Path(folder).resolve()}'"] if folder else []
    places += ["'file://.'"] if Path("experiment").is_dir() else []
    return [f"hydra.searchpath=[{','.join(places)}]"] if places else []


def compose_node(overrides: Sequence[str], schema: type, config_name: str) -> DictConfig:
    """Does what `compose` does, and returns OmegaConf's typed node, in which values may be missing."""
    for override in overrides:
        if override.lstrip("+~").startswith(("hydra.", "hydra/")) and not override.startswith("hydra.searchpath="):
            raise UserError(f"{override} {_NO_EFFECT}")
    try:
        return _compose(overrides, schema, config_name)
    except UnknownKey as error:
        if schema is not TrainConfig or not is_old(error.key):
            raise
        return _compose(overrides, schema, config_name, old_keys=True)


def _compose(overrides: Sequence[str], schema: type, config_name: str, old_keys: bool = False) -> DictConfig:
    """Composes; with `old_keys`, keys of earlier versions are let in, and renamed."""
    register(schema, config_name, old_keys)
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        resume = next((o.value() for o in parsed if o.get_key_element() == "resume"), None)
        if schema is TrainConfig and resume is not None:
            folder = os.path.expanduser(str(resume))
            given = [each for each in parsed if each.get_key_element() != "hydra.searchpath"]
            return resumed(load_node(folder, _trusts(parsed)), folder, given, _paths(schema))
        kept = _changes_of_the_runs_env(parsed) if schema in _RUN_KEYS else []
        composed = [override for override, each in zip(overrides, parsed) if each not in kept]
        if not any(override.startswith("hydra.searchpath=") for override in composed):
            composed = [*search_path(), *composed]
        if old_keys:  # what no schema knows has to be added
            composed = [f"++{o.lstrip('+')}" if is_old(o.lstrip("+").partition("=")[0]) else o for o in composed]
        try:
            with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
                node = hydra.compose(config_name, composed, return_hydra_config=True)
                _refuse_hydras_settings(node.hydra)
        except MissingConfigException as error:
            if not _register_kind(error):
                raise
            return _compose([readable(override, schema) for override in overrides], schema, config_name, old_keys)
        choices = {str(k): v for k, v in node.hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
        OmegaConf.set_struct(node, False)
        del node["hydra"]
        if kept and not OmegaConf.is_missing(node, key := _RUN_KEYS[schema]):
            folder = os.path.expanduser(str(node[key]))
            if os.path.isdir(folder):  # else the command says what is missing
                saved = load_node(folder, _trusts(parsed))
                for override in kept:
                    OmegaConf.update(saved, override.get_key_element().lstrip("+"), override.value())
                node.env = saved.env
        if old_keys:
            named = [override.get_key_element().lstrip("+") for override in parsed]
            rename_old_keys(node, default_behavior(OmegaConf.select(node, "algorithm.name")), named)
            open_node(node)
        resolve_files(node)
        if schema is TrainConfig:
            if node.algorithm.name != choices["algorithm"]:
                there = ", ".join(ALGORITHMS.names())
                raise UserError(f"algorithm.name={node.algorithm.name} does not fit: choose with algorithm={there}")
            type_algorithms(node)
            node.run.choices = choices
            node.run.overrides = _given(parsed, choices)
        _refuse_unknown_keys(node, all_keys(schema))
        for key in _paths(schema):
            if isinstance(value := OmegaConf.select(node, key), str) and value.startswith("~"):
                above, _, last = key.rpartition(".")
                parent: Any = OmegaConf.to_container(OmegaConf.select(node, above) if above else node)
                written = str(parent[last])
                OmegaConf.update(node, key, os.path.expanduser(written if written.startswith("~") else value))
    except REFUSED as error:
        raise refusal(error, overrides, all_keys(schema)) from error
    return node


def _given(overrides: Sequence[Override], choices: Mapping[str, str]) -> list[str]:
    """Returns the single settings among the overrides, as `key=value`; none that is read from elsewhere (`${…}`)."""
    given = {}
    for override in overrides:
        key, value = override.get_key_element().lstrip("+"), override.get_value_string()
        if key not in choices and key != "experiment" and not key.startswith(("~", "hydra.")) and "${" not in value:
            given[key] = value.strip("'")
    return [f"{key}={value}" for key, value in given.items()]


def _refuse_hydras_settings(node: DictConfig) -> None:
    """Refuses what a YAML file sets of Hydra's own configuration, within Hydra's context."""
    for key, value in _leaves(node, "hydra"):
        if _hydras_defaults().get(key, ...) != value and not key.startswith(_SHOWN):
            raise UserError(f"{key}={value} {_NO_EFFECT}")


@cache
def _hydras_defaults() -> dict[str, Any]:
    return dict(_leaves(hydra.compose(return_hydra_config=True).hydra, "hydra"))


def _leaves(node: DictConfig, key: str) -> Iterator[tuple[str, Any]]:
    """Yields the values below a node, by their dotted keys."""
    for name, value in node.items_ex(resolve=False):
        if isinstance(value, DictConfig) and value:
            yield from _leaves(value, f"{key}.{name!s}")
        else:
            yield f"{key}.{name!s}", value


def _changes_of_the_runs_env(overrides: list[Override]) -> list[Override]:
    """Returns those that change single keys of a run's env: all that do, unless another env is chosen."""
    keys = [override.get_key_element().lstrip("+") for override in overrides]
    return [] if "env" in keys else [each for each, key in zip(overrides, keys) if key.startswith("env.")]


def _trusts(overrides: Sequence[Override]) -> bool:
    """Returns whether the command line says `trust=true`."""
    return any(each.value() is True for each in overrides if each.get_key_element().lstrip("+") == "trust")


def _refuse_unknown_keys(node: DictConfig, keys: Sequence[str]) -> None:
    """Refuses keys that the schema lacks, because Hydra lets `+key=value` add keys even to a typed node."""
    kind = OmegaConf.get_type(node)
    if not is_dataclass(kind):
        return
    known = [f.name for f in fields(kind)]
    for key in node:
        if key not in known:
            full = node._get_full_key(key)
            raise unknown_key(full, known if "." in full else [key for key in keys if "." not in key], keys)
        if not OmegaConf.is_missing(node, key) and isinstance(child := node[key], DictConfig):
            _refuse_unknown_keys(child, keys)


def register(schema: type, config_name: str, old_keys: bool = False) -> None:
    """Makes the schemas known to Hydra, by the names that the YAML files include; `old_keys` adds room for these."""
    store = ConfigStore.instance()
    for name, settings in {config_name: schema, **{name: find_kind(name) for name in BUILT_IN}}.items():
        store.store(name=f"{name}_schema", node=_schema(settings, old_keys))
    for name in ALGORITHMS.names():
        # Those of installed packages are imported only if they are chosen.
        node: Any = {"name": name}
        if name in ALGORITHMS.built_in():
            kind: type = algorithm_settings(name)
            node = _schema(kind, old_keys)
        store.store(group="algorithm", name=name, node=node)
    store.store(group="reward", name="extrinsic", node=open_node(OmegaConf.create(default_rewards()), old_keys))


@cache
def _schema(settings: type, old_keys: bool) -> DictConfig:
    """Returns the node of a settings class, to be copied."""
    return open_node(OmegaConf.structured(settings), old_keys)


def _register_kind(error: MissingConfigException) -> bool:
    """Makes a kind of environment without a YAML file a choice of `env`, and returns whether that was missing."""
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if group != "env" or (":" not in name and name not in ENVS.names()):
        return False
    store_kind(name)
    return True


def store_kind(name: str) -> None:
    """Makes a kind of environment a choice of the group `env`. UserError if the name stands for none."""
    ConfigStore.instance().store(group="env", name=name, node=find_kind(name))


def readable(argument: str, schema: type) -> str:
    """Returns `key=value` as Hydra reads it: paths quoted, as they hold any character, and `++` for open dicts."""
    match = re.fullmatch(r"(\+{0,2})([\w.-]+)=(.*)", argument, re.DOTALL)
    if match is None:
        return argument
    plus, key, value = match.groups()
    if key == "cluster" and schema is TrainConfig:  # a word that chooses, as those of groups
        return f"cluster.name={value}"
    if (without_behavior(key) if schema is TrainConfig else key) in _paths(schema):
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        if value != "null" and not quoted:
            # Hydra reads backslashes as escapes only where a quote follows.
            value = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + match[2].replace("'", "\\'"), value)
            value = f"'{value}'"
    if "." in key and any(f"{key}.".startswith(f"{k}.") for k in _open_keys(schema)):
        return f"++{key}={value}"
    return f"{plus}{key}={value}"


def all_keys(schema: type) -> list[str]:
    """Returns the dotted keys that can be given to a command, groups among them; those of all kinds that are ours."""
    keys = dict.fromkeys(_keys_with(schema, lambda *_: True))
    return [*keys, "experiment"] if schema is TrainConfig else list(keys)


@cache
def _paths(schema: type) -> list[str]:
    """Returns the dotted keys of the schema's paths, which take any string."""
    return _keys_with(schema, lambda _, field: "path" in field.metadata)


@cache
def _open_keys(schema: type) -> list[str]:
    """Returns the dotted keys below which any key may be given; algorithms are typed once their names are known."""
    return [*_keys_with(schema, lambda kind, _: get_origin(kind) is dict), *TYPED]


def _keys_with(schema: type, wanted: Callable[[Any, Any], bool]) -> list[str]:
    """Returns the dotted keys of the schema's fields for which `wanted(type, field)` holds."""
    kinds = get_type_hints(schema)
    keys = []
    for field in fields(schema):
        kind = kinds[field.name]
        if wanted(kind, field):
            keys.append(field.name)
        if schema is TrainConfig and field.name == "algorithm":  # typed once its `name` is known
            found = [algorithm_settings(name) for name in ALGORITHMS.built_in()]
            keys += [f"algorithm.{key}" for each in found for key in _keys_with(each, wanted)]
        if schema is TrainConfig and field.name == "reward":
            signals = {name: REWARDS.find(name, "reward") for name in REWARDS.built_in()}
            keys += [f"reward.{name}.{key}" for name, each in signals.items() for key in _keys_with(each, wanted)]
        for inner in get_args(kind) or (kind,):  # also within an Optional
            if is_dataclass(inner):
                # Of environments, kinds that are not imported yet would be missed among the subclasses.
                known = [find_kind(name) for name in BUILT_IN] if inner is EnvConfig else []
                kinds_of_it = dict.fromkeys([cast(type, inner), *known, *cast(type, inner).__subclasses__()])
                keys += [f"{field.name}.{key}" for each in kinds_of_it for key in _keys_with(each, wanted)]
    return keys
