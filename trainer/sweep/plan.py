"""What a sweep is to do: its settings, what is searched, and what is checked before anything starts."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from envs.process.cores import own_cores
from envs.spec import UserError
from trainer.config.command import read_flags
from trainer.config.compose import all_keys, compose, search_path
from trainer.config.errors import unknown_key
from trainer.config.schema import TrainConfig
from trainer.runtime.checks import check_train
from trainer.sweep.settings import Direction, Pruner, Sampler, SweepConfig
from trainer.sweep.space import Parameter, read_space
from trainer.telemetry.console import announced

SWEEPS = Path("sweeps")
"""Where studies lie whose folder was not named, seen from the current folder."""
SETTINGS = tuple(each.name for each in fields(SweepConfig))
POINTS = 20
"""How many times a run is looked at while it goes on: parts of what ends it."""
_DEFAULT_TRIALS = 20
_LINES = 50
"""Points of a trial's metrics, unless its settings say how many."""
_OURS = {"run.dir": "its runs lie in to=", "resume": "the same command goes on with a study"}
_LESS = ("loss/", "time/", "run/seconds", "instances/largest_share")
"""Beginnings of metrics of which less is better."""
_NO_RANGE = (
    "there is nothing to search: give a setting a range or several values, such as "
    "'algorithm.learning_rate=tag(log,interval(1e-5,1e-2))' or algorithm.clip=0.1,0.2, or space=ppo"
)
_FIXED_IN_PBT = ("env", "algorithm", "reward", "experiment", "seed")


@dataclass(frozen=True)
class Plan:
    """A sweep that was checked."""

    settings: SweepConfig
    words: tuple[str, ...]
    """The overrides that all its runs have in common."""
    parameters: tuple[Parameter, ...]
    config: TrainConfig
    """That of a run with the first values of each parameter."""
    config_dir: str | None
    folder: Path
    sampler: Sampler
    trials: int
    maximize: bool

    @property
    def cores(self) -> int:
        """Cores of each trial."""
        return max(1, own_cores() // self.settings.parallel)

    @property
    def pruner(self) -> Pruner:
        """What ends trials early."""
        return Pruner.none if self.sampler is Sampler.pbt else self.settings.pruner

    @property
    def seeds(self) -> list[int]:
        """The seeds of each trial; empty if the seed is among what is searched, or its own setting."""
        return [self.config.seed + place for place in range(self.settings.seeds)]

    def identity(self) -> dict[str, Any]:
        """Returns what makes it this study, by the keys that say so: with anything else it is another one."""
        searched = {
            each.name: [list(each.choices) or [each.low, each.high, each.step], each.log] for each in self.parameters
        }
        same = {
            "settings": sorted(self.words),
            "searched": searched,
            "sampler": self.sampler.name,
            "metric": self.settings.metric,
            "direction": "maximize" if self.maximize else "minimize",
            "seeds": self.settings.seeds,
            "average": self.settings.average.name,
        }
        if self.sampler is Sampler.pbt:
            same |= {"population": self.settings.population, "generations": self.settings.generations}
        return same

    def flags(self) -> list[str]:
        """Returns the flags that its runs need to find its YAML files."""
        return ["--config-dir", self.config_dir] if self.config_dir else []

    def log_words(self) -> list[str]:
        """Returns the overrides by which runs log often enough to be judged while they go on."""
        if any(re.match(r"\+*run\.log_(samples|seconds)=", word) for word in self.words):
            return []
        stop = self.config.stop
        if stop.samples is not None:
            return [f"run.log_samples={max(1, stop.samples // _LINES)}"]
        return [f"run.log_seconds={min(10.0, float(stop.seconds or math.inf) / _LINES):.3g}"]

    def share(self, samples: float, seconds: float) -> float:
        """Returns how much of what ends a run, 0 to 1, so many samples or seconds are."""
        stop = self.config.stop
        shares = [samples / stop.samples] if stop.samples is not None else []
        shares += [seconds / stop.seconds] if stop.seconds is not None else []
        return min(1.0, max(shares))


def is_plain_grid(argv: Sequence[str]) -> bool:
    """Returns whether words ask for no more than a run for each combination, one after another.

    Raises UserError if they cannot be read.
    """
    if any(_key(word) in SETTINGS for word in argv) or any("interval(" in word for word in argv):
        return False
    return not any(word.startswith(("space=", "--help", "-h")) for word in argv)


def make_plan(argv: Sequence[str]) -> Plan:
    """Returns what the words ask for, checked as a run is; UserError with the first thing that is wrong."""
    flags = read_flags(argv, TrainConfig)
    if used := [name for name in ("cfg", "info", "hydra_help", "config_name", "config_path") if getattr(flags, name)]:
        raise UserError(f"--{used[0].replace('_', '-')} is for a run: outstep train --{used[0].replace('_', '-')} ...")
    if flags.config_dir is not None and not Path(flags.config_dir).is_dir():
        raise UserError(f"--config-dir {flags.config_dir} is not a folder")
    _check_words(flags.overrides)
    given = [word for word in flags.overrides if _key(word) in SETTINGS]
    settings = compose(given, SweepConfig, "sweep")
    if find_spec("optuna") is None:
        raise UserError("optuna is missing: pip install 'outstep[sweep]'")
    fixed, parameters = read_space([word for word in flags.overrides if word not in given], settings.space)
    _check_settings(settings, fixed, parameters)
    paths = search_path(flags.config_dir)
    configs = list(_configs([*paths, *fixed], parameters))
    config = configs[0]
    sampler = settings.sampler
    if sampler is Sampler.auto:
        listed = all(each.choices or each.step is not None for each in parameters)
        sampler = Sampler.grid if listed and settings.trials is None else Sampler.tpe
    plan = Plan(
        settings,
        tuple(fixed),
        tuple(parameters),
        config,
        flags.config_dir,
        Path(settings.to or SWEEPS / _name(config)),
        sampler,
        _trials(settings, sampler, parameters),
        _maximizes(settings, config),
    )
    _check_plan(plan)
    with announced("Checking the settings and the environment …"):
        check_train(config)
    return plan


def command(plan: Plan) -> str:
    """Returns the command line of a plan's study, without how many trials at a time and in all."""
    written = [each.word(",".join(each.choices)) if each.choices else each.key for each in plan.parameters]
    return shlex.join(["outstep", "sweep", *plan.words, *written])


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _check_words(words: Sequence[str]) -> None:
    keys = [*all_keys(SweepConfig), *all_keys(TrainConfig)]
    for word in words:
        key = _key(word)
        if "=" in word and "." not in key and key not in keys and not key.startswith(("~", "hydra")):
            raise unknown_key(key, keys, keys)
        if key in _OURS:
            raise UserError(f"{word} is not for a sweep: {_OURS[key]}")


def _check_settings(settings: SweepConfig, fixed: Sequence[str], parameters: Sequence[Parameter]) -> None:
    if not parameters:
        raise UserError(_NO_RANGE)
    names = [each.name for each in parameters]
    if wrong := next((name for name in names if name in (*SETTINGS, *_OURS)), None):
        raise UserError(f"{wrong} takes one value in a sweep")
    if settings.seeds > 1 and "seed" in names:
        raise UserError(f"seeds={settings.seeds} and several values of seed mean the same: give one of them")
    if settings.parallel > own_cores():
        raise UserError(f"parallel={settings.parallel} trials at a time are more than the {own_cores()} cores here")
    if settings.sampler is Sampler.pbt:
        if settings.seeds > 1:
            raise UserError(f"seeds={settings.seeds}: sampler=pbt makes one run of each member; raise population")
        if settings.trials is not None:
            raise UserError(f"trials={settings.trials}: sampler=pbt makes population x generations; give these instead")
        if held := [name for name in names if name in _FIXED_IN_PBT or ".network." in name]:
            raise UserError(f"{held[0]} cannot be searched by sampler=pbt, as weights go from one member to another")


def _configs(fixed: Sequence[str], parameters: Sequence[Parameter]) -> Iterator[TrainConfig]:
    """Yields configurations that have all ends of all parameters between them, the first ones first."""
    for place in range(max(len(each.ends()) for each in parameters)):
        words = [each.word(each.ends()[place % len(each.ends())]) for each in parameters]
        yield compose([*fixed, *words], TrainConfig, "config")


def _trials(settings: SweepConfig, sampler: Sampler, parameters: Sequence[Parameter]) -> int:
    if sampler is Sampler.pbt:
        return settings.population * settings.generations
    if sampler is not Sampler.grid:
        return settings.trials or _DEFAULT_TRIALS
    count = math.prod(len(each.listed()) for each in parameters)
    return min(count, settings.trials or count)


def _maximizes(settings: SweepConfig, config: TrainConfig) -> bool:
    if settings.direction is not Direction.auto:
        return settings.direction is Direction.maximize
    if config.goal.metric is not None and settings.metric.rpartition("/")[2] == config.goal.metric:
        return config.goal.at_most is None
    return not settings.metric.startswith(_LESS)


def _check_plan(plan: Plan) -> None:
    stop = plan.config.stop
    if stop.samples is None and (stop.seconds is None or plan.sampler is Sampler.pbt):
        needs = "stop.samples" if plan.sampler is Sampler.pbt else "stop.samples or stop.seconds"
        raise UserError(f"trials need an end: give {needs}, such as stop.samples=100000")
    if plan.sampler is Sampler.pbt and stop.samples is not None and stop.samples < plan.settings.generations:
        raise UserError(f"stop.samples={stop.samples} cannot be divided by generations={plan.settings.generations}")
    if plan.folder.exists() and not plan.folder.is_dir():
        raise UserError(f"to={plan.folder} is a file: name a folder")


def _name(config: TrainConfig) -> str:
    choices = config.run.choices
    name = config.run.name or choices.get("experiment") or f"{choices['env']}_{choices['algorithm']}"
    return re.sub(r"[^\w.+-]", "-", str(name))
