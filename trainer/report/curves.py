"""A run's curves, read from `metrics.jsonl` and sorted into charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from envs.spec import Array
from trainer.config.aliases import current_figure
from trainer.config.schema import GoalConfig
from trainer.report.events import read_events
from trainer.telemetry.metrics import EPISODES
from trainer.telemetry.metrics_file import read_metrics

_POINTS = 1000
"""How many points of a curve are shown; of more, some are dropped, never the last."""


class Curve(NamedTuple):
    """A scalar of a run."""

    samples: list[int]
    values: list[float]


class History(NamedTuple):
    """What a run has written of its metrics."""

    curves: dict[str, Curve]
    """By the names of their metrics."""
    began: float | None
    """Seconds since 1970; None without any points."""
    ended: float | None
    """The latest point."""

    @property
    def samples(self) -> int:
        """The samples at which the curves end."""
        return max((curve.samples[-1] for curve in self.curves.values()), default=0)

    @property
    def behaviors(self) -> list[str]:
        """Behaviors with curves of their own; only `""` if the curves of the sole one bear no name."""
        counts = [name for name in self.curves if f"/{name}".endswith(f"/{_COUNT}")]
        return sorted(name.removesuffix(_COUNT).rstrip("/") for name in counts)

    def last(self, name: str) -> float | None:
        """Returns a curve's latest value."""
        return self.curves[name].values[-1] if name in self.curves else None


@dataclass(frozen=True)
class Chart:
    """Curves that are drawn together."""

    title: str
    note: str
    curves: Mapping[str, Curve]
    """At least one, by label. A label is empty if the title says enough."""
    target: float | None = None
    """Where a horizontal line is drawn."""
    percent: bool = False
    stacked: bool = False
    """Whether they are shares of a whole."""
    bands: Mapping[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    """By label, the least and the most at each point of the curve: how far several runs spread."""


@dataclass(frozen=True)
class Section:
    """Charts under one heading."""

    title: str
    charts: Sequence[Chart]
    folded: bool = False
    """Whether it is opened only when asked for."""


def read_history(folder: Path) -> History:
    """Reads the metrics of a run, of all its parts; points that a resume has undone are left out."""
    metrics = read_metrics(folder)
    if not len(metrics.samples):
        return _read_events(folder)
    curves = {}
    for name in metrics.found:
        samples, _, values = metrics.points(name)
        kept = np.append(samples[1:] != samples[:-1], True)  # the end of a run may come with a point of its own
        curves[name] = _thinned(samples[kept], values[kept])
    began = metrics.time[0] - metrics.seconds[0]
    return History(curves, float(began), float(metrics.time[-1]))


def _read_events(folder: Path) -> History:
    """Reads TensorBoard's events: earlier versions wrote nothing else."""
    points: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    found = read_events(folder)
    for name, (steps, values) in found.points.items():
        if steps:  # none where a resume has undone them all
            points[current_figure(name)][0].extend(steps)
            points[current_figure(name)][1].extend(values)
    curves = {}
    for name, of_name in points.items():
        samples, numbers = map(np.array, of_name)
        order = np.argsort(samples, kind="stable")
        curves[name] = _thinned(samples[order], numbers[order])
    return History(curves, min(found.times, default=None), max(found.times, default=None))


def _thinned(samples: Array, values: Array) -> Curve:
    """Returns a curve of at most `_POINTS` points, evenly chosen."""
    shown = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), _POINTS)).round().astype(int))
    return Curve(samples[shown].tolist(), values[shown].tolist())


def sections(history: History, goal: GoalConfig) -> list[Section]:
    """Returns charts of all curves: those that readers look for first, and all others in the last section."""
    left = {name: curve for name, curve in history.curves.items() if not name.startswith(_HIDDEN)}
    behaviors = history.behaviors

    def take(name: str, title: str, note: str, *, percent: bool = False, target: float | None = None) -> list[Chart]:
        """Returns the chart of a scalar, with all behaviors' own in it; none if it was never written."""
        names = {"": name} | {behavior: f"{behavior}/{name}" for behavior in behaviors if behavior}
        found = {label: left.pop(each) for label, each in names.items() if each in left}
        if len(behaviors) == 1:
            found = dict(zip([""], found.values()))  # a sole behavior's own say the same
        elif len(found) > 1 and "" in found:
            found["all"] = found.pop("")  # the last, so that a behavior has one colour everywhere
        return [Chart(title, note, found, target, percent)] if found else []

    def take_all(*prefixes: str) -> list[Chart]:
        """Returns charts of what is left and begins so, in alphabetical order, once each for all behaviors."""
        keys = [_without_behavior(name, behaviors) for name in left]
        chosen = sorted({key for key in keys if key.startswith(prefixes)})
        return [chart for key in chosen for chart in take(key, *titled(key))]

    last = f"mean of the last {EPISODES} episodes"
    learning = take("episode/reward", "Reward", last)
    if goal.metric is not None:
        target = goal.at_most if goal.at_least is None else goal.at_least
        note = f"mean over {goal.window_samples:,} samples; the line is the goal"
        learning += take(f"goal/{goal.metric}", f"Goal: {goal.metric}", note, target=target)
    learning += take("episode/length", "Episode length", f"samples, {last}") + take_all("episode/", "game/")
    speed = take("run/samples_per_second", "Samples a second", "over each interval between two points")
    speed += take("run/env_utilization", "Env utilization", "of what the games could have delivered", percent=True)
    speed += [chart for title, words in _PROCESSES.items() if (chart := _shares(title, words, left))]
    found = [
        Section("Learning", learning),
        Section("Speed", speed),
        Section("Algorithm", take_all("loss/", "policy/entropy", "sac/temperature", "value/")),
        Section("More curves", take_all(""), folded=True),
    ]
    return [section for section in found if section.charts]


def titled(name: str) -> tuple[str, str]:
    """Returns the title of a metric's chart and the note below it."""
    return _TITLES.get(name, name.removeprefix("episode/").removeprefix("game/")), _NOTES.get(name, "")


def _shares(title: str, words: Sequence[str], left: dict[str, Curve]) -> Chart | None:
    """Returns the chart of how a process spent its time; each share is over the interval before its point."""
    names = {word: f"time/{word.replace(' ', '_')}" for word in words}
    found = {word: dict(zip(*left.pop(name))) for word, name in names.items() if name in left}
    if not found:
        return None
    samples = sorted(set.intersection(*map(set, found.values())))  # the last point may be there in part
    curves = {word: [each[at] for at in samples] for word, each in found.items()}
    begun = {word: Curve([0, *samples], [*values[:1], *values]) for word, values in curves.items()}
    return Chart(title, "shares of its time", begun, percent=True, stacked=True) if samples else None


def _without_behavior(name: str, behaviors: Sequence[str]) -> str:
    return next((name.removeprefix(f"{each}/") for each in behaviors if each and name.startswith(f"{each}/")), name)


_COUNT = "update/count"
"""A metric of every behavior's learner."""
_HIDDEN = ("instances/share_", "run/seconds")
_PROCESSES = {
    "Collector": ("acting", "writing", "waiting for games", "throttled"),
    "Learner": ("updating", "waiting for samples"),
}
_TITLES = {
    "episode/reward": "Reward",
    "episode/length": "Episode length",
    "run/samples_per_second": "Samples a second",
    "run/env_utilization": "Env utilization",
    "loss/policy": "Policy loss",
    "loss/value": "Value loss",
    "loss/critic": "Critic loss",
    "policy/entropy": "Entropy of the policy",
    "value/explained_variance": "Explained variance of the values",
}
_NOTES = {
    "policy/entropy": "nats; high: the policy tries many things",
    "value/explained_variance": "1: values foresee all returns; 0: no more than a constant would",
}
