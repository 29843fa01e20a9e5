"""Turns a command line into typed, checked configurations, before anything starts.

Hydra composes, the dataclasses of `trainer.config.schema` are its schema, and a refusal is one message
(`trainer.config.errors`).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import hydra
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from algorithms.registry import ALGORITHMS, algorithm_settings
from algorithms.rewards.registry import REWARDS, default_rewards, signal_settings
from algorithms.rewards.settings import CustomSignalSettings
from envs.registry import BUILT_IN, ENVS, find_kind, kind_of
from envs.spec import UserError
from trainer.config.errors import misused, refusal, unknown_key
from trainer.config.files import resolve_files
from trainer.config.schema import (
    BehaviorConfig,
    EvaluateConfig,
    RecordConfig,
    ReportConfig,
    TrainConfig,
)

CONF = Path(__file__).resolve().parents[2] / "conf"
"""Where the YAML files lie: beside this package, whatever the working directory holds."""
MAY_DIFFER = (
    "stop",
    "checkpoint",
    "device",
    "env.instances",
    "env.min_instances",
    "run.log_seconds",
    "run.loggers",
    "run.picture_minutes",
    "run.profile",
    "resume",
)
"""What a resumed run may be given anew; everything else stays as the run was started."""
MAY_MOVE = ("reward.gail.demos", "algorithm.cloning.demos", "algorithm.demos")
"""Paths, a behavior's too, that a resumed run may be given anew where it has them: files move."""

_RUN_KEYS = {EvaluateConfig: "run", RecordConfig: "player"}
"""Where a command is given the run whose env it uses unless it is given another."""
_WRITTEN = {TrainConfig: ("run.dir",), RecordConfig: ("to",), ReportConfig: ("to",)}
"""Where a command is given what it writes."""

C = TypeVar("C")


def run_command(
    argv: Sequence[str], schema: type[C], config_name: str, check: Callable[[C], None], run: Callable[[C], int]
) -> int:
    """Composes and checks every run that `argv` asks for, and only then makes them, one after another.

    Hydra's own flags work: `--help`, `--cfg job`, `--info` and the like show something and run nothing; `--multirun`
    asks for one run for each combination of comma-separated values.

    Returns:
        The exit status: 2 for bad input, with one message on stderr and nothing begun; else the first of `run` that is
        not 0, or 0.
    """
    argv = [_readable(argument, schema) for argument in argv]
    parser = get_args_parser()
    parser.error = misused  # type: ignore[method-assign]
    try:
        args = parser.parse_intermixed_args(argv)
        name = args.config_name or config_name
        if args.config_path or args.experimental_rerun:
            raise UserError("--config-path and --experimental-rerun do not work here: use --config-dir, or resume=")
        overrides = [*args.overrides, *_search_path(args.config_dir)]
        if args.cfg == "job" and not args.package:
            print(OmegaConf.to_yaml(_compose(overrides, schema, name), resolve=args.resolve), end="")
            return 0
        if args.cfg or args.help or args.hydra_help or args.info or args.shell_completion:
            return _show(argv, schema, name)
        jobs = _sweep(overrides) if args.multirun else [overrides]
        configs = [compose(job, schema, name) for job in jobs]
        for config in configs:
            check(config)
        _refuse_shared(configs, _WRITTEN.get(schema, ()))
        return next((status for config in configs if (status := run(config))), 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before a run answers signals itself, or in a command that does not
        return 130


def compose(overrides: Sequence[str], schema: type[C], config_name: str) -> C:
    """The configuration that `overrides` (`key=value`, `group=choice`) ask for, as an object of the dataclass `schema`.

    With `resume=`, the run's saved configuration is the base, and only `MAY_DIFFER` and `MAY_MOVE` may differ from it.

    Raises:
        UserError: an unknown key or choice, a value of the wrong type, a missing value, a run folder that is not one.
    """
    overrides = [_readable(override, schema) for override in overrides]
    node = _compose(overrides, schema, config_name)
    try:
        return cast(C, OmegaConf.to_object(node))
    except OmegaConfBaseException as error:
        raise refusal(error, overrides) from error


def save_config(config: TrainConfig, folder: Path) -> None:
    """Writes `config` to `config.yaml` in the run's `folder`, from which `resume=` reads it."""
    with (folder / "config.yaml").open("w", encoding="utf-8") as file:
        # The kind, from which the schema of `env` follows when it is read.
        file.write(OmegaConf.to_yaml(OmegaConf.merge(as_dict(config), {"env": {"kind": kind_of(config.env)}})))
        file.flush()
        os.fsync(file.fileno())  # checkpoints that outlast a power cut are of no use without


def load_config(folder: str | Path) -> TrainConfig:
    """The configuration that the run in `folder` was started with.

    Raises:
        UserError: the folder is no run's, or its configuration cannot be read.
    """
    return cast(TrainConfig, OmegaConf.to_object(_saved(folder)))


def as_dict(config: Any) -> dict[str, Any]:
    """A configuration, or a part of one, as JSON can hold it."""
    plain = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    return cast(dict[str, Any], plain)


def _compose(overrides: Sequence[str], schema: type, config_name: str) -> DictConfig:
    _register(schema, config_name)
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        resume = next((o.value() for o in parsed if o.get_key_element() == "resume"), None)
        if schema is TrainConfig and resume is not None:
            return _resumed(os.path.expanduser(str(resume)), parsed)
        kept = _of_the_runs_env(parsed) if schema in _RUN_KEYS else []
        composed = [override for override, each in zip(overrides, parsed) if each not in kept]
        try:
            with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
                node = hydra.compose(config_name, composed, return_hydra_config=True)
        except MissingConfigException as error:
            if not _register_kind(error):
                raise
            return _compose([_readable(override, schema) for override in overrides], schema, config_name)
        choices = {str(k): v for k, v in node.hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
        OmegaConf.set_struct(node, False)
        del node["hydra"]
        if (
            kept
            and not OmegaConf.is_missing(node, key := _RUN_KEYS[schema])
            and os.path.isdir(folder := os.path.expanduser(str(node[key])))
        ):  # else the command says what is missing
            node.env = _env_of(folder, kept)
        resolve_files(node)
        if schema is TrainConfig:
            _type_algorithms(node)
        _refuse_unknown_keys(node)
        for key in _paths(schema):
            if isinstance(value := OmegaConf.select(node, key), str):
                OmegaConf.update(node, key, os.path.expanduser(value))
    except (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError) as error:
        raise refusal(error, overrides) from error
    if schema is TrainConfig:
        node.run.choices = choices
    return node


def _of_the_runs_env(overrides: list[Override]) -> list[Override]:
    """Those that change single keys of a run's env: all that do, unless another env is chosen."""
    if any(override.get_key_element().lstrip("+") == "env" for override in overrides):
        return []
    return [override for override in overrides if override.get_key_element().lstrip("+").startswith("env.")]


def _env_of(folder: str, overrides: list[Override]) -> DictConfig:
    """The env of the run in `folder`, with `overrides`."""
    node = _saved(folder)
    for override in overrides:
        OmegaConf.update(node, override.get_key_element().lstrip("+"), override.value())
    return cast(DictConfig, node.env)


def _type_algorithms(node: DictConfig) -> None:
    """Gives all algorithms and reward signals of a configuration the settings classes that their names stand for.

    Each of its `behaviors` is then whole: what it does not give is inherited, or another algorithm's own.

    Raises:
        UserError: a name that stands for nothing.
        OmegaConfBaseException: unknown keys and wrong values, by their whole key.
    """
    parts = {key: OmegaConf.to_container(node[key], resolve=True, enum_to_str=True) for key in _TYPED}
    given = cast(dict[str, dict[str, Any]], parts)
    behaviors = given.pop("behaviors")
    schema = OmegaConf.create({"algorithm": _algorithm(given["algorithm"], "algorithm", None)})
    schema.reward = _rewards(given["reward"], "reward", OmegaConf.create(default_rewards()))
    top = OmegaConf.merge(schema, given)
    whole = OmegaConf.create({"behaviors": {}})
    for name in behaviors:
        key = f"behaviors.{name}"
        own = behaviors[name] = _mapping(key, behaviors[name])
        for each in own.keys() & {"algorithm", "reward"}:
            own[each] = _mapping(f"{key}.{each}", own[each])
        typed = _thawed(OmegaConf.structured(BehaviorConfig))
        typed.algorithm = _algorithm(own.get("algorithm", {}), f"{key}.algorithm", top.algorithm)
        typed.reward = _rewards(own.get("reward", {}), f"{key}.reward", top.reward)
        whole.behaviors[name] = typed
    node.algorithm, node.reward = top.algorithm, top.reward
    node.behaviors = OmegaConf.merge(whole, {"behaviors": behaviors}).behaviors


def _algorithm(given: dict[str, Any], key: str, inherited: DictConfig | None) -> DictConfig:
    """The settings of the algorithm whose name was given; those that are inherited if it is the same."""
    if inherited is not None and given.get("name", inherited.name) == inherited.name:
        return inherited
    typed = OmegaConf.structured(algorithm_settings(given["name"], f"{key}.name"))
    typed.name = given["name"]
    return cast(DictConfig, typed)


def _rewards(given: dict[str, Any], key: str, inherited: DictConfig) -> DictConfig:
    """The settings of all signals, those of a user's own with what was given to them in its place."""
    rewards = OmegaConf.create({})
    for name in [*map(str, inherited), *(name for name in given if name not in inherited)]:
        own = given[name] = _mapping(f"{key}.{name}", given.get(name))
        before = inherited.get(name, {})
        rewards[name] = before or OmegaConf.structured(signal_settings(name, own, f"{key}.{name}"))
        if "path" in {**before, **own}:
            given[name] = CustomSignalSettings.gathered(own)
    return rewards


def _mapping(key: str, value: Any) -> dict[str, Any]:
    """The keys that stand below `key`; a bare `key:` in YAML has none."""
    if value is None or isinstance(value, dict):
        return value or {}
    hint = f"; {key}.name={value} chooses an algorithm" if value in ALGORITHMS.names() else ""
    raise UserError(f"{key}={value}: it holds keys of its own and takes no value{hint}")


def _refuse_unknown_keys(node: DictConfig) -> None:
    """Hydra lets `+key=value` add keys even to a typed node."""
    kind = OmegaConf.get_type(node)
    if not is_dataclass(kind):
        return
    known = [f.name for f in fields(kind)]
    for key in node:
        if key not in known:
            full = node._get_full_key(key)
            raise unknown_key(full, known if "." in full else [*known, "experiment"])
        if not OmegaConf.is_missing(node, key) and isinstance(child := node[key], DictConfig):
            _refuse_unknown_keys(child)


def _resumed(folder: str, overrides: Sequence[Override]) -> DictConfig:
    """The configuration of the run in `folder`, with what `overrides` may change."""
    saved = _saved(folder)
    node = _saved(folder)
    for override in overrides:
        key = override.get_key_element().lstrip("+")
        if key in saved.run.choices or key == "experiment":
            before, given = saved.run.choices.get(key), override.value()
        else:
            OmegaConf.update(node, key, override.value())
            resolve_files(node)
            before, given = OmegaConf.select(saved, key), OmegaConf.select(node, key)
            if key in _paths(TrainConfig) and isinstance(given, str):
                given = os.path.expanduser(given)
        if before != given and not _may_be_given(key, before, given):
            raise UserError(
                f"{key}={_text(given)}: the run in {folder} was started with {key}={_text(before)}. A resumed run may "
                f"only be given {', '.join(MAY_DIFFER[:-1])}, and new paths of its demonstrations; a new run can start "
                f"from its weights with init={folder}"
            )
    node.resume = folder
    return node


def _may_be_given(key: str, before: Any, given: Any) -> bool:
    """Whether a run that was started with `before` may be resumed with another value."""
    if any(key == k or key.startswith(f"{k}.") for k in MAY_DIFFER):
        return True
    return _without_behavior(key) in MAY_MOVE and isinstance(before, str) and isinstance(given, str)


def _saved(folder: str | Path) -> DictConfig:
    if not str(folder):
        raise UserError("the folder of the run is empty: give one such as runs/<experiment>/<time>")
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        what = "has no config.yaml" if Path(folder).is_dir() else "does not exist"
        raise UserError(f"{folder} is not a run's folder, it {what}: give one such as runs/<experiment>/<time>")
    try:
        loaded = OmegaConf.load(path)
        schema = _thawed(OmegaConf.structured(TrainConfig))
        kind = loaded.env.pop("kind", "unity" if "executable" in loaded.env else "gym")  # older runs do not say
        schema.env = OmegaConf.structured(find_kind(kind))
        node = cast(DictConfig, OmegaConf.merge(schema, loaded))
        _type_algorithms(node)
        return node
    except (OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError, KeyError, AttributeError) as error:
        reason = refusal(error) if isinstance(error, OmegaConfBaseException) else " ".join(str(error).split())
        raise UserError(f"{path} is damaged or of another version: {reason}") from error


def _register(schema: type, config_name: str) -> None:
    store = ConfigStore.instance()
    store.store(name=f"{config_name}_schema", node=_thawed(OmegaConf.structured(schema)))
    for name in ALGORITHMS.names():
        # Those of installed packages are imported only if they are chosen.
        known = name in ALGORITHMS.built_in()
        store.store(group="algorithm", name=name, node=algorithm_settings(name) if known else {"name": name})
    store.store(group="reward", name="extrinsic", node=default_rewards())
    for name in BUILT_IN:
        store.store(name=f"{name}_schema", node=find_kind(name))


def _register_kind(error: MissingConfigException) -> bool:
    """Makes the kind of environment that was asked for, and for which no file is there, a choice of the group `env`.

    Returns:
        Whether that is what was missing.

    Raises:
        UserError: it cannot be imported, or is no kind of environment.
    """
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if group != "env" or (":" not in name and name not in ENVS.names()):
        return False
    _store_kind(name)
    return True


def _store_kind(name: str) -> None:
    ConfigStore.instance().store(group="env", name=name, node=find_kind(name))


def _thawed(node: DictConfig) -> DictConfig:
    """Frozen dataclasses make nodes read-only, which would refuse YAML groups."""
    OmegaConf.set_readonly(node, None)
    for key in node:
        if not OmegaConf.is_missing(node, key) and isinstance(child := node[key], DictConfig):
            _thawed(child)
    return node


def _readable(argument: str, schema: type) -> str:
    """Quotes paths, so that they may hold any character, and lets keys below open dicts be set without a `+`."""
    match = re.fullmatch(r"(\+{0,2})([\w.-]+)=(.*)", argument, re.DOTALL)
    if match is None:
        return argument
    plus, key, value = match.groups()
    if (_without_behavior(key) if schema is TrainConfig else key) in _paths(schema):
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        if value != "null" and not quoted:
            # Hydra reads backslashes as escapes only where a quote follows.
            value = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + match[2].replace("'", "\\'"), value)
            value = f"'{value}'"
    if "." in key and any(f"{key}.".startswith(f"{k}.") for k in _open_keys(schema)):
        return f"++{key}={value}"
    return f"{plus}{key}={value}"


def _without_behavior(key: str) -> str:
    """The key that `behaviors.<name>.<key>` sets for one behavior; any other as it is."""
    return re.sub(r"^behaviors\.[^.]+\.", "", key)


@cache
def _paths(schema: type) -> list[str]:
    """Dotted keys of the schema's fields that take any string."""
    return _keys_with(schema, lambda _, field: "path" in field.metadata)


@cache
def _open_keys(schema: type) -> list[str]:
    """Dotted keys below which any key may be given; those of algorithms are typed once their names are known."""
    return [*_keys_with(schema, lambda kind, _: get_origin(kind) is dict), *_TYPED]


def _keys_with(schema: type, wanted: Callable[[Any, Any], bool]) -> list[str]:
    """Dotted keys of the schema's fields for which `wanted(type, field)` holds."""
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
                kinds_of_it = (cast(type, inner), *cast(type, inner).__subclasses__())
                keys += [f"{field.name}.{key}" for each in kinds_of_it for key in _keys_with(each, wanted)]
    return keys


_TYPED = ("algorithm", "reward", "behaviors")
"""Where algorithms and reward signals stand."""


def _sweep(overrides: list[str]) -> list[list[str]]:
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        return BasicSweeper.split_arguments(parsed, None)[0]
    except HydraException as error:
        raise refusal(error, overrides) from error


def _search_path(folder: str | None) -> list[str]:
    if folder is None:
        return []
    if not Path(folder).is_dir():
        raise UserError(f"--config-dir {folder} is not a folder")
    return [f"hydra.searchpath=['file://{Path(folder).resolve()}']"]


def _refuse_shared(configs: Sequence[Any], keys: Sequence[str]) -> None:
    """Refuses several runs that would write to one place; resumed ones go on in theirs."""
    for key in keys:
        places = [attrgetter(key)(config) for config in configs if not getattr(config, "resume", None)]
        if shared := next((place for place in places if place and places.count(place) > 1), None):
            raise UserError(f"{key}={shared}: {len(places)} runs need one each")


def _show(argv: list[str], schema: type, config_name: str) -> int:
    """Lets Hydra answer one of its own flags, which end without a run."""
    _register(schema, config_name)
    for word in argv:
        if word.startswith("env=") and ":" in word:
            _store_kind(word[len("env=") :])
    saved = sys.argv
    sys.argv = [saved[0], *argv]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(lambda config: None)()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = saved
    return 0


def _text(value: Any) -> str:
    if isinstance(value, (DictConfig, ListConfig)):
        return str(OmegaConf.to_container(value))
    if value is None:
        return "null"
    return getattr(value, "name", str(value))
