"""What all commands share: from the words of a command line to checked configurations, and only then to work."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from envs.process.output import keep_output
from envs.spec import UserError
from trainer.config.compose import CONF, all_keys, compose, compose_node, readable, register, search_path, store_kind
from trainer.config.errors import REFUSED, misused, refusal
from trainer.config.help import help_text, version_line
from trainer.config.schema import CompareConfig, ExportConfig, PushConfig, RecordConfig, ReportConfig, TrainConfig
from trainer.config.words import unknown_flag

_WRITTEN = {
    TrainConfig: "run.dir",
    **dict.fromkeys((RecordConfig, ReportConfig, CompareConfig, ExportConfig, PushConfig), "to"),
}
"""The key of what a command writes."""

_INFO = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
"""What `--info` shows."""

_BY_A_SIGNAL = 128
"""What ended because of a signal has this status or a larger one."""

C = TypeVar("C")


def run_command(
    argv: Sequence[str] | None, schema: type[C], config_name: str, check: Callable[[C], None], run: Callable[[C], int]
) -> int:
    """Composes and checks every run that a command's words ask for, and only then makes them, one after another.

    The words `argv` stand without the program's name; None = those of this process.
    `--help`, also with keys behind it, and `--version` are ours. Hydra's own flags work: `--cfg job`, `--info` and the
    like show something and run nothing; `--multirun` makes one run for each combination of comma-separated values.
    Hydra's own settings are refused: no launcher or sweeper of Hydra's takes part.

    Returns:
        The exit status: 2 for bad input, with one message on stderr and nothing begun; else the first of `run` that is
        not 0, or 0. A run that fails does not keep the others from being made; a signal does.
    """
    keep_output()
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        flags = read_flags(given, schema)
        name = flags.config_name or config_name
        if flags.version:
            print(version_line())
            return 0
        if flags.config_path or flags.experimental_rerun:
            raise UserError("--config-path and --experimental-rerun do not work here: use --config-dir, or resume=")
        if flags.config_dir is not None and not Path(flags.config_dir).is_dir():
            raise UserError(f"--config-dir {flags.config_dir} is not a folder")
        overrides = [readable(word, schema) for word in (*search_path(flags.config_dir), *flags.overrides)]
        if flags.help:
            print(help_text(overrides, schema, config_name, flags.config_dir))
            return 0
        if flags.cfg == "job" and not flags.package:
            print(OmegaConf.to_yaml(compose_node(overrides, schema, name), resolve=flags.resolve), end="")
            return 0
        if flags.cfg or flags.hydra_help or flags.info or flags.shell_completion:
            if not flags.shell_completion:
                compose_node(overrides, schema, name)  # which refuses what Hydra would by a traceback
            return _show([*search_path(), *(readable(word, schema) for word in given)], schema, name)
        jobs = _grid(overrides, schema) if flags.multirun else [overrides]
        configs = [compose(job, schema, name) for job in jobs]
        for config in configs:
            check(config)
        if schema in _WRITTEN:
            _refuse_shared(configs, _WRITTEN[schema])
        statuses = []
        for place, (job, config) in enumerate(zip(jobs, configs), start=1):
            if len(jobs) > 1:
                own = [word for word in job if not all(word in other for other in jobs)]
                print(f"Run {place} of {len(jobs)}: {' '.join(own)}", file=sys.stderr)
            statuses.append(_status(run, config))
            if statuses[-1] >= _BY_A_SIGNAL:
                break
        return next(filter(None, statuses), 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before a run answers signals itself, or in a command that does not
        return 130


def _status(run: Callable[[C], int], config: C) -> int:
    try:
        return run(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def read_flags(argv: Sequence[str], schema: type) -> Namespace:
    """Returns Hydra's flags among the words, and the others as `overrides`; refuses a flag that does not exist."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = misused  # type: ignore[method-assign]
    parser.add_argument("overrides", nargs="*")
    known = ["--", "--shell-completion", "-sc", "--cfg", "-c", "--info", "-i"]
    for flag in ("--help -h", "--hydra-help", "--version -V", "--resolve", "--run -r", "--multirun -m"):
        parser.add_argument(*flag.split(), action="store_true")
        known += flag.split()
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=_INFO)
    for flag in ("--package -p", "--config-path -cp", "--config-name -cn", "--config-dir -cd", "--experimental-rerun"):
        parser.add_argument(*flag.split())
        known += flag.split()
    for at, word in enumerate(argv):
        if word == "--":
            break
        if word.startswith("-") and word.partition("=")[0] not in known:
            raise UserError(unknown_flag(word, next(iter(argv[at + 1 :]), None), all_keys(schema)))
    flags = parser.parse_intermixed_args(argv)
    if flags.shell_completion and not any(re.match("(install|uninstall|query)=", word) for word in flags.overrides):
        raise UserError("--shell-completion needs install=bash, install=zsh or install=fish, or uninstall=")
    return flags


def parse_overrides(overrides: Sequence[str], schema: type) -> list[tuple[Override, list[str] | None]]:
    """Returns overrides as Hydra reads them, in their order, each with its values where these can be listed.

    Raises:
        UserError: an override cannot be read.
    """
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # glob(*) looks for choices
            parsed = parser.parse_overrides(list(overrides))
            return [(each, list(each.sweep_string_iterator()) if each.is_discrete_sweep() else None) for each in parsed]
    except REFUSED as error:
        raise refusal(error, overrides, all_keys(schema)) from error


def _grid(overrides: Sequence[str], schema: type) -> list[list[str]]:
    """Returns the overrides of each run: all combinations of the values in `overrides`, the last key changing fastest.

    Raises:
        UserError: an override cannot be read, or holds values without end (`interval`).
    """
    values: dict[str, list[str]] = {}
    for override, listed in parse_overrides(overrides, schema):
        key = override.get_key_element()
        if listed is not None:
            values[key] = [f"{key}={value}" for value in listed]
        elif override.is_sweep_override():
            raise UserError(f"{override.input_line}: -m takes single values, such as algorithm.clip=0.1,0.2")
        else:
            values[key] = [str(override.input_line)]
    return [list(combination) for combination in product(*values.values())]


def _refuse_shared(configs: Sequence[Any], key: str) -> None:
    """Refuses several runs that would write to one place; resumed ones go on in theirs."""
    places = [attrgetter(key)(config) for config in configs if not getattr(config, "resume", None)]
    if shared := next((place for place in places if place and places.count(place) > 1), None):
        raise UserError(f"{key}={shared}: {len(places)} runs need one each")


def _show(argv: list[str], schema: type, config_name: str) -> int:
    """Lets Hydra answer one of its flags that show something; returns 2 if it refuses that, by words of its own."""
    register(schema, config_name)
    for word in argv:
        if word.startswith("env=") and ":" in word:
            store_kind(word[len("env=") :])
    saved = sys.argv
    sys.argv = [saved[0], *argv]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(lambda config: None)()
    except SystemExit as end:
        return 2 if end.code else 0
    finally:
        sys.argv = saved
    return 0
