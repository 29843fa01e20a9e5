"""What `--help` and `--version` print."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from algorithms.registry import ALGORITHMS
from algorithms.rewards.registry import EXTRINSIC
from envs.registry import ENVS
from trainer.config.compose import CONF, all_keys, compose_node, readable
from trainer.config.errors import unknown_key
from trainer.config.meanings import Setting, first_sentence, list_settings, settings_of, shown
from trainer.config.schema import TrainConfig


def about(argv: Sequence[str], usage: str) -> str | None:
    """Returns what `--help` or `--version` asks for of a command with the given usage; None if neither is there."""
    if "-h" in argv or "--help" in argv:
        return usage
    return version_line() if "--version" in argv else None


def version_line() -> str:
    """Returns the version of the installed distribution."""
    try:
        return f"outstep {version('outstep')}"
    except PackageNotFoundError:
        return "outstep, not installed"


def help_text(overrides: Sequence[str], schema: type, config_name: str, config_dir: str | None) -> str:
    """Returns the help of a command with its settings as `overrides` make them, or that of the keys among these.

    Raises:
        UserError: an override that is refused, or a key that does not exist.
    """
    keys = [word for word in overrides if word and "=" not in word and not word.startswith("~")]
    changes = [readable(word, schema) for word in overrides if word not in keys]
    node = compose_node(changes, schema, config_name)
    if keys:
        return "\n".join(line for key in keys for line in _explained(key, node, schema))
    template = str(OmegaConf.load(CONF / f"{config_name}.yaml").hydra.help.template)
    folders = [CONF, *([Path(config_dir)] if config_dir else [])]
    folders += [Path()] if Path("experiment").is_dir() else []
    groups = "".join(f"  {group}: {', '.join(names)}\n" for group, names in choices(folders).items())
    text = template.replace("$APP_CONFIG_GROUPS", groups)
    return text.replace("$CONFIG", "\n".join(_section("", node)).strip())


def choices(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Returns the choices of each config group: those of registries, and of YAML files below `folders`."""
    registered = {"env": ENVS.names(), "algorithm": ALGORITHMS.names(), "reward": [EXTRINSIC], "experiment": []}
    return {
        group: sorted({*names, *(file.stem for folder in folders for file in folder.glob(f"{group}/*.yaml"))})
        for group, names in registered.items()
    }


def _explained(key: str, node: DictConfig, schema: type) -> Iterator[str]:
    """Yields the lines that explain a key, and those below it; also one that only another choice has."""
    parent, _, name = key.rpartition(".")
    holder = OmegaConf.select(node, parent) if parent else node
    known = [str(each) for each in holder.keys()] if isinstance(holder, DictConfig) else []  # noqa: SIM118 - also missing
    if name not in known:
        elsewhere = [
            (group.name, each) for group in list_settings(schema) for each in group.settings if each.key == key
        ]
        if not elsewhere:
            raise unknown_key(key, known, all_keys(schema))
        for choice, setting in elsewhere:
            yield f"{key}={setting.default}, with {choice}"
            yield _paragraph(setting)
        return
    yield from _single(parent, name, holder)
    if isinstance(below := _value(holder, name), DictConfig):
        yield from _section(key, below)


def _section(key: str, node: DictConfig) -> Iterator[str]:
    """Yields the lines that explain all settings below a key: first those at `node` itself, behind a heading."""
    kind = OmegaConf.get_type(node)
    if key and is_dataclass(kind):
        yield from ["", f"{key}: {first_sentence(kind)}"]
    for name in node:
        yield from _single(key, str(name), node)
    for name in node:
        if isinstance(below := _value(node, name), DictConfig):
            yield from _section(f"{key}.{name!s}" if key else str(name), below)


def _single(key: str, name: str, holder: DictConfig) -> Iterator[str]:
    """Yields the lines that explain one setting of those at `key`; none if it stands for others."""
    kind = OmegaConf.get_type(holder)
    if not is_dataclass(kind) or (setting := settings_of(kind).get(name)) is None:
        return
    value, now, default = _value(holder, name), "...", ""
    if kind is TrainConfig and name in holder.run.choices:
        now = holder.run.choices[name]
    elif not (isinstance(value, DictConfig) and is_dataclass(OmegaConf.get_type(value))):
        now = value if value == "???" else shown(value)
        default = "" if setting.default in (now, "???") else f", default: {setting.default}"
    yield f"{key}.{name}={now}" if key else f"{name}={now}"
    yield _paragraph(setting, default)


def _paragraph(setting: Setting, default: str = "") -> str:
    """Returns what a setting means and takes; `default` is added to that."""
    values = ", ".join(filter(None, [setting.kind, setting.allowed, setting.usual and f"usual: {setting.usual}"]))
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    text = f"{setting.meaning} [{values}{default}]"
    return textwrap.fill(text, width, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)


def _value(holder: DictConfig, name: Any) -> Any:
    """Returns what stands in a node, `???` if that is missing."""
    return "???" if OmegaConf.is_missing(holder, name) else holder[name]


_INDENT, _WIDEST = 4 * " ", 110
