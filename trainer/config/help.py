"""What `--help` and `--version` print."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from algorithms.registry import ALGORITHMS
from envs.registry import ENVS
from trainer.config.compose import CONF, all_keys, compose_node, readable
from trainer.config.errors import unknown_key
from trainer.config.meanings import docstrings, shown


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
        return "\n".join(line for key in keys for line in _explained(key, node, all_keys(schema)))
    template = str(OmegaConf.load(CONF / f"{config_name}.yaml").hydra.help.template)
    folders = [CONF, *([Path(config_dir)] if config_dir else [])]
    text = template.replace("$APP_CONFIG_GROUPS", "".join(f"{line}\n" for line in _groups(folders)))
    return text.replace("$CONFIG", OmegaConf.to_yaml(node).rstrip())


def _groups(folders: Sequence[Path]) -> Iterator[str]:
    registered = {"env": ENVS.names(), "algorithm": ALGORITHMS.names(), "experiment": []}
    for group, names in registered.items():
        files = [file.stem for folder in folders for file in folder.glob(f"{group}/*.yaml")]
        yield f"  {group}: {', '.join(sorted({*names, *files}))}"


def _explained(key: str, node: DictConfig, keys: Sequence[str]) -> Iterator[str]:
    """Yields the lines that explain a key, or those below it."""
    parent, _, name = key.rpartition(".")
    holder = OmegaConf.select(node, parent) if parent else node
    known = [str(each) for each in holder.keys()] if isinstance(holder, DictConfig) else []  # noqa: SIM118 - also missing
    if name not in known:
        raise unknown_key(key, known, keys)
    missing = OmegaConf.is_missing(holder, name)
    value = None if missing else holder[name]
    yield f"{key}:" if isinstance(value, DictConfig) and value else f"{key}={'???' if missing else shown(value)}"
    if document := docstrings(OmegaConf.get_type(holder) or object).get(name):
        yield textwrap.indent(document, "    ")
    if isinstance(value, DictConfig):
        for each in value:
            yield from _explained(f"{key}.{each!s}", node, keys)
