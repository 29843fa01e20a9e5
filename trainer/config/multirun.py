"""`-m`: one run for each combination of values, in series, or as the launcher of Hydra's that is chosen makes them.

Whatever else is set of Hydra's own keys (`hydra.sweep.dir`, `hydra.job.env_set`, …) takes effect too, as Hydra's
launcher then makes the runs. What cannot take effect is refused.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from envs.spec import UserError
from trainer.config.compose import CONF, is_hydras, register, register_kind
from trainer.config.errors import REFUSED, one_line, refusal

_NOT_SETTINGS = (
    *("hydra.runtime.", "hydra.overrides.", "hydra.searchpath", "hydra.help.", "hydra.hydra_help."),
    *("hydra/help", "hydra/hydra_help", "hydra.job.override_dirname", "hydra.job.config_name"),
)
"""Beginnings of Hydra's keys that it fills in, or that only concern what is shown."""
_GRID = "-m makes the grid of the values that it is given, such as algorithm.clip=0.1,0.2"
_REFUSED = {
    "hydra.run.dir": "give run.dir=, or with -m hydra.sweep.dir=",
    "hydra.mode": "give -m for several runs",
    "hydra/callbacks": "callbacks are not called",
    "hydra.callbacks": "callbacks are not called",
    "hydra/sweeper": _GRID,
    "hydra.sweeper._target_": _GRID,
}
"""Beginnings of Hydra's keys that have no effect, with or without -m, and what to do instead."""

_OF_A_RUN = ("resume=", "run=", "player=")
"""Beginnings of overrides that name an earlier run, to whose settings others may belong."""

C = TypeVar("C")


def grid(overrides: Sequence[str]) -> list[list[str]]:
    """Returns the overrides of each run: all combinations of the values in `overrides`, the last key changing fastest.

    Raises:
        UserError: an override cannot be read, or holds values without end (`interval`).
    """
    values: dict[str, list[str]] = {}
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # glob(*) looks for choices
            for override in parser.parse_overrides(list(overrides)):
                key = override.get_key_element()
                if override.is_discrete_sweep():
                    values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
                elif override.is_sweep_override():
                    raise UserError(f"{override.input_line}: {_GRID}")
                elif override.is_delete():
                    values[key] = [str(override.input_line)]
                else:
                    values[key] = [f"{key}={override.get_value_element_as_str()}"]
    except REFUSED as error:
        raise refusal(error, overrides) from error
    return [list(combination) for combination in itertools.product(*values.values())]


@dataclass(frozen=True)
class HydraSettings:
    """What is set of Hydra's own configuration."""

    changed: Mapping[str, Any]
    """Groups (`hydra/launcher`) and keys (`hydra.sweep.dir`) that differ from the defaults."""
    config: DictConfig
    """Hydra's configuration of the whole sweep."""
    loader: ConfigLoader

    @property
    def params(self) -> list[str]:
        """Overrides from `hydra.sweeper.params`; those on the command line take precedence."""
        return [f"{key}={value}" for key, value in (self.config.hydra.sweeper.get("params") or {}).items()]

    @property
    def need_launcher(self) -> bool:
        """Whether they only take effect if a launcher of Hydra's makes the runs."""
        return any(not key.startswith("hydra.sweeper.params") for key in self.changed)

    def check(self, multirun: bool) -> None:
        """Refuses what has no effect.

        Raises:
            UserError: the first such key.
        """
        for key, value in self.changed.items():
            instead = next((text for start, text in _REFUSED.items() if key.startswith(start)), None)
            if instead or not multirun:
                raise UserError(f"{key}={value} has no effect {f'here: {instead}' if instead else 'without -m'}")
            if key == "hydra.sweeper.max_batch_size" and value is not None and value < 1:
                raise UserError(f"{key}={value} must be at least 1")

    def folder(self, overrides: Sequence[str], number: int) -> str:
        """Returns the folder that Hydra gives to the run with this number, counted from 0 in the order of `grid`."""
        try:
            config = self.loader.load_sweep_config(self.config, _known_to_hydra(overrides))
            with open_dict(config):
                config.hydra.job.num, config.hydra.job.id = number, str(number)
            return os.path.join(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir))
        except REFUSED as error:
            raise refusal(error, overrides) from error


def hydra_settings(overrides: Sequence[str], schema: type, config_name: str, default_name: str) -> HydraSettings | None:
    """Returns what the command line, or a YAML file that is not ours, sets of Hydra's own configuration, if anything.

    Raises:
        UserError: an unknown choice or key.
    """
    if config_name == default_name and not any(is_hydras(override) for override in overrides):
        return None  # our YAML files set nothing
    if params := next((each for each in overrides if each.lstrip("+~").startswith("hydra.sweeper.params")), None):
        raise UserError(f"{params}: give it in a YAML file, or seed=1,2 and the like themselves")  # Hydra fails with it
    register(schema, default_name)
    chosen = [*filter(is_hydras, overrides), *_known_to_hydra(overrides)]
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            try:
                config = loader.load_configuration(config_name, chosen, RunMode.MULTIRUN)
            except MissingConfigException as error:
                if not register_kind(error):
                    raise
                config = loader.load_configuration(config_name, chosen, RunMode.MULTIRUN)
            plain = dict(_settings(loader.load_configuration(default_name, [], RunMode.MULTIRUN)))
    except REFUSED as error:
        raise refusal(error, overrides) from error
    changed = {key: value for key, value in _settings(config) if key not in plain or plain[key] != value}
    groups = tuple(f"{key.replace('/', '.')}." for key in changed if "/" in key)
    changed = {key: value for key, value in changed.items() if not (groups and key.startswith(groups))}
    return HydraSettings(changed, config, loader) if changed else None


def launch(
    settings: HydraSettings, jobs: Sequence[Sequence[str]], configs: Sequence[C], run: Callable[[C], int]
) -> int:
    """Lets Hydra's launcher make the runs of `configs`, which are composed of `jobs`.

    Returns:
        0. A run with another exit status raises SystemExit with it.
    """
    try:
        launcher = Plugins.instance().instantiate_launcher(
            HydraContext(settings.loader, cast(Any, _NoCallbacks())), partial(_make_run, configs, run), settings.config
        )
    except (HydraException, ImportError, RuntimeError) as error:
        raise UserError(f"Hydra's launcher cannot be made: {one_line(error)}") from error
    batch = settings.config.hydra.sweeper.get("max_batch_size") or len(jobs)
    for first in range(0, len(jobs), batch):
        overrides = [_known_to_hydra(job) for job in jobs[first : first + batch]]
        for result in launcher.launch(overrides, initial_job_idx=first):
            _ = result.return_value  # raises what the run has raised
    return 0


class _NoCallbacks:
    """Stands in for callbacks, which are refused."""

    def on_job_start(self, **_: Any) -> None: ...

    def on_job_end(self, **_: Any) -> None: ...


def _make_run(configs: Sequence[C], run: Callable[[C], int], _: DictConfig) -> None:
    """Makes the run whose turn it is, in the process that the launcher chose."""
    if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
        # joblib's processes have a start method of their own, which the processes that `spawn` starts do not know.
        multiprocessing.set_start_method("spawn", force=True)
    if status := run(configs[HydraConfig.get().job.num]):
        raise SystemExit(status)  # ends the sweep; launchers only collect what is an Exception


def _settings(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """Yields groups and keys of Hydra's that a user can set."""
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    plain = OmegaConf.to_container(config.hydra, enum_to_str=True)
    for key, value in itertools.chain(cast(dict[str, Any], choices).items(), _leaves(plain, "hydra")):
        if key.startswith("hydra") and not key.startswith(_NOT_SETTINGS):
            yield key, value


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _leaves(below, f"{key}.{name}")
    else:
        yield key, value


def _known_to_hydra(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides of one run that Hydra can compose by itself: dotted keys may be those of an earlier run."""
    own = [override for override in overrides if not is_hydras(override)]
    of_a_run = any(override.startswith(_OF_A_RUN) for override in own)
    return [override for override in own if not of_a_run or "." not in override.partition("=")[0]]
