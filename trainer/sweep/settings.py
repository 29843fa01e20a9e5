"""The settings of `outstep sweep`. This file imports no torch and no Optuna, so that completion and help are quick."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from envs.config import path_field, setting


class Direction(Enum):
    """What is better of a metric."""

    auto = "auto"
    """Less of what is lost, waited for or has to be at most so much (`goal.at_most`); more of everything else."""
    maximize = "maximize"
    minimize = "minimize"


class Sampler(Enum):
    """How a sweep chooses the settings of a trial."""

    auto = "auto"
    """`tpe`; `grid` where all settings are lists and no number of trials is given."""
    tpe = "tpe"
    """Near what was good so far (tree-structured Parzen estimator); the first ten by chance."""
    random = "random"
    grid = "grid"
    """All combinations, in their order."""
    pbt = "pbt"
    """Population based training (arXiv 1711.09846): the worst go on with the weights of the best."""


class Pruner(Enum):
    """What ends trials early that look bad."""

    none = "none"
    median = "median"
    """Ends a trial whose best so far is below the median of the others' at the same point, from a quarter on."""
    hyperband = "hyperband"
    """Ends all but the best third at several points (arXiv 1603.06560)."""


class Average(Enum):
    """What is taken of the scores of a trial's seeds."""

    mean = "mean"
    iqm = "iqm"
    """The interquartile mean: that of the middle half (arXiv 2108.13264)."""


@dataclass(frozen=True)
class SweepConfig:
    """Settings of `outstep sweep`."""

    to: str | None = path_field()
    """Folder of the study, in which the same command goes on; null = `sweeps/<name>`, as a run would be named."""
    trials: int | None = setting(None, at_least=1)
    """Trials in all; null = 20, or all combinations where all settings are lists."""
    parallel: int = setting(1, at_least=1)
    """Trials at a time, each with its share of the cores. More: sooner done, and chosen with less known."""
    metric: str = "episode/reward"
    """What a trial is judged by: the last value of a metric in `metrics.jsonl`."""
    direction: Direction = Direction.auto
    """Whether more or less of it is better; `auto` = by its name."""
    sampler: Sampler = Sampler.auto
    """How the settings of a trial are chosen."""
    pruner: Pruner = Pruner.median
    """What ends trials early that look bad. Not with `sampler=pbt`, which needs none."""
    seeds: int = setting(1, at_least=1)
    """Runs of each trial, one after another, which differ in their seed. More: less is chance. Usual: 1 to 5."""
    average: Average = Average.mean
    """What is taken of their scores."""
    space: str | None = path_field()
    """Ranges to search besides those on the command line, which count first: `ppo`, `sac`, or a YAML file."""
    population: int = setting(8, at_least=2)
    """Members of `sampler=pbt`, each with settings and weights of its own. Usual: 4 to 40."""
    generations: int = setting(10, at_least=2)
    """Parts of `stop.samples`, after each of which members of `sampler=pbt` are compared. More: settings change more
    often. Usual: 5 to 50."""


@dataclass(frozen=True)
class SweepBestConfig:
    """Settings of `outstep sweep best`."""

    study: str = path_field(MISSING)
    """Folder of the study; on the command line without a key."""
    to: str | None = path_field()
    """The YAML file to write, which replaces an earlier one; null = `experiment/<study>_best.yaml`."""
