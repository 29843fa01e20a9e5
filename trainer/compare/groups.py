"""Runs that are compared: those that differ in nothing but their seed are one group, of which a mean is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.spec import Array
from trainer.config.saved import as_written, read_config
from trainer.config.schema import TrainConfig
from trainer.report.curves import History, read_history
from trainer.report.settings import chosen_settings, settings_by_key

_POINTS = 300
"""Points of a mean curve."""
_NOT_COMPARED = ("seed", "run.", "stop.", "checkpoint.", "evaluate.", "goal.", "device", "resume", "trust")
"""Beginnings of settings that do not make another kind of run."""
_LONGEST = 60


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs."""

    folder: Path
    config: TrainConfig
    history: History


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed."""

    label: str
    """What tells it from the other groups."""
    runs: Sequence[ComparedRun]
    chosen: dict[str, str]
    """By key, the settings in which the groups differ."""

    def last(self, name: str) -> list[float]:
        """Returns a metric's latest value of each run that has it."""
        values = [run.history.last(name) for run in self.runs]
        return [value for value in values if value is not None]

    def means(self, name: str) -> list[float]:
        """Returns a metric's mean over all its points of each run that has it."""
        curves = [run.history.curves.get(name) for run in self.runs]
        return [float(np.mean(curve.values)) for curve in curves if curve is not None]

    def mean_curve(self, name: str) -> tuple[Array, Array, Array, Array] | None:
        """Returns samples, and the mean, least and most over the runs at these; None if a run lacks the metric.

        Shapes: up to 300 points each. The curves are interpolated, from where all runs have begun to where one ends.
        """
        curves = [run.history.curves.get(name) for run in self.runs]
        found = [(np.array(curve.samples), np.array(curve.values, np.float64)) for curve in curves if curve is not None]
        found = [(samples[finite], values[finite]) for samples, values in found for finite in [np.isfinite(values)]]
        if len(found) < len(curves) or any(not len(samples) for samples, _ in found):
            return None
        begin, end = max(samples[0] for samples, _ in found), min(samples[-1] for samples, _ in found)
        if len(found) == 1 or end < begin:
            samples, values = found[0]
            return samples, values, values, values
        at = np.unique(np.linspace(begin, end, _POINTS).round().astype(np.int64))
        each = np.stack([np.interp(at, samples, values) for samples, values in found])
        return at, each.mean(0), each.min(0), each.max(0)


def grouped_runs(folders: Sequence[Path], trust: bool) -> list[Group]:
    """Returns the runs in these folders by group, in the order in which they are given."""
    runs = [ComparedRun(folder, read_config(folder, trust), read_history(folder)) for folder in folders]
    by_settings: dict[tuple[tuple[str, str], ...], list[ComparedRun]] = {}
    for run in runs:
        settings = settings_by_key(as_written(run.config)).items()
        key = tuple((name, value) for name, value in settings if not name.startswith(_NOT_COMPARED))
        by_settings.setdefault(key, []).append(run)
    members = list(by_settings.values())
    chosen = [_chosen(each[0].config) for each in members]
    names = dict.fromkeys(name for each in chosen for name in each)
    differing = [name for name in names if len({each.get(name) for each in chosen}) > 1]
    groups: list[Group] = []
    for own, each in zip(chosen, members):
        label = ", ".join(f"{name.rpartition('.')[2]}={own[name]}" for name in differing if name in own)
        label = label or ("defaults" if len(members) > 1 else each[0].config.run.name or each[0].folder.name)
        groups.append(Group(_unique(label, groups), each, {name: own.get(name, "") for name in differing}))
    return groups


def common_metrics(groups: Sequence[Group]) -> list[str]:
    """Returns the metrics that all groups have, in the order of the first run."""
    first = groups[0].runs[0].history.curves
    return [name for name in first if all(group.last(name) for group in groups)]


def _chosen(config: TrainConfig) -> dict[str, str]:
    """Returns what was chosen in place of defaults, with the environment and the algorithm, by key."""
    rows = {key: value for key, value, _ in chosen_settings(config) if not key.startswith(_NOT_COMPARED)}
    return {"env": config.env.label, "algorithm": config.algorithm.name, **rows}


def _unique(label: str, groups: Sequence[Group]) -> str:
    taken = [group.label for group in groups]
    short = label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"
    return short if short not in taken else f"{short} ({len(taken) + 1})"
