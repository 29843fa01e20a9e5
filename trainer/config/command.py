"""What all commands share: from the words of a command line to checked configurations, and only then to work."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import hydra
from omegaconf import OmegaConf

from envs.spec import UserError
from trainer.config.compose import (
    CONF,
    compose,
    compose_node,
    is_hydras,
    is_search_path,
    readable,
    register,
    store_kind,
)
from trainer.config.errors import misused
from trainer.config.multirun import grid, hydra_settings, launch
from trainer.config.schema import RecordConfig, ReportConfig, TrainConfig

_WRITTEN = {TrainConfig: ("run.dir",), RecordConfig: ("to",), ReportConfig: ("to",)}
"""The keys of what a command writes."""

_INFO = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
"""What `--info` shows."""

C = TypeVar("C")


def run_command(
    argv: Sequence[str] | None, schema: type[C], config_name: str, check: Callable[[C], None], run: Callable[[C], int]
) -> int:
    """Composes and checks every run that a command's words ask for, and only then makes them, one after another.

    The words `argv` stand without the program's name; None = those of this process.
    Hydra's own flags work: `--help`, `--cfg job`, `--info` and the like show something and run nothing; `--multirun`
    makes one run for each combination of comma-separated values (`trainer.config.multirun`).

    Returns:
        The exit status: 2 for bad input, with one message on stderr and nothing begun; else the first of `run` that is
        not 0, or 0.
    """
    argv = [readable(argument, schema) for argument in (sys.argv[1:] if argv is None else argv)]
    try:
        flags = _parser().parse_intermixed_args(argv)
        name = flags.config_name or config_name
        if flags.config_path or flags.experimental_rerun:
            raise UserError("--config-path and --experimental-rerun do not work here: use --config-dir, or resume=")
        overrides = [*flags.overrides, *_search_path(flags.config_dir)]
        if flags.cfg == "job" and not flags.package:
            print(OmegaConf.to_yaml(compose_node(overrides, schema, name), resolve=flags.resolve), end="")
            return 0
        if flags.cfg or flags.help or flags.hydra_help or flags.info or flags.version or flags.shell_completion:
            return _show(argv, schema, name)
        settings = hydra_settings(overrides, schema, name, config_name)
        if settings is not None:
            settings.check(flags.multirun)
            overrides = [*(readable(each, schema) for each in settings.params), *overrides]
        jobs = grid(overrides) if flags.multirun else [overrides]
        configs = [compose([o for o in job if not is_hydras(o) or is_search_path(o)], schema, name) for job in jobs]
        launched = settings if settings is not None and settings.need_launcher else None
        if launched is not None:
            folders = [launched.folder(job, number) for number, job in enumerate(jobs)]
            configs = [_placed(config, folder) for config, folder in zip(configs, folders)]
        for config in configs:
            check(config)
        _refuse_shared(configs, _WRITTEN.get(schema, ()))
        if launched is not None:
            return launch(launched, jobs, configs, run)
        return next((status for config in configs if (status := run(config))), 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before a run answers signals itself, or in a command that does not
        return 130
    except SystemExit as end:  # of Hydra's flags, or of a run that a launcher made
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _parser() -> ArgumentParser:
    """Returns a parser of Hydra's flags."""
    parser = ArgumentParser(add_help=False)
    parser.error = misused  # type: ignore[method-assign]
    parser.add_argument("overrides", nargs="*")
    for flag in ("--help -h", "--hydra-help", "--version", "--resolve", "--run -r", "--multirun -m"):
        parser.add_argument(*flag.split(), action="store_true")
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=_INFO)
    for flag in ("--package -p", "--config-path -cp", "--config-name -cn", "--config-dir -cd", "--experimental-rerun"):
        parser.add_argument(*flag.split())
    return parser


def _search_path(folder: str | None) -> list[str]:
    """Returns the override that lets YAML files be found in `folder` too."""
    if folder is None:
        return []
    if not Path(folder).is_dir():
        raise UserError(f"--config-dir {folder} is not a folder")
    return [f"hydra.searchpath=['file://{Path(folder).resolve()}']"]


def _placed(config: C, folder: str) -> C:
    """Returns the configuration of a training run, if it names no folder itself, with `folder`; any other as it is."""
    if not isinstance(config, TrainConfig) or config.resume is not None or config.run.dir is not None:
        return config
    return replace(config, run=replace(config.run, dir=folder))


def _refuse_shared(configs: Sequence[Any], keys: Sequence[str]) -> None:
    """Refuses several runs that would write to one place; resumed ones go on in theirs."""
    for key in keys:
        places = [attrgetter(key)(config) for config in configs if not getattr(config, "resume", None)]
        if shared := next((place for place in places if place and places.count(place) > 1), None):
            raise UserError(f"{key}={shared}: {len(places)} runs need one each")


def _show(argv: list[str], schema: type, config_name: str) -> int:
    """Lets Hydra answer one of its flags that show something."""
    register(schema, config_name)
    for word in argv:
        if word.startswith("env=") and ":" in word:
            store_kind(word[len("env=") :])
    saved = sys.argv
    sys.argv = [saved[0], *argv]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(lambda config: None)()
    finally:
        sys.argv = saved
    return 0
