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
from trainer.config.schema import TrainConfig
from trainer.report.events import read_events
from trainer.telemetry.metrics import DEVIATION, EPISODES
from trainer.telemetry.metrics_file import read_metrics
from trainer.telemetry.names import named
from trainer.telemetry.status import PROCESSES

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
    """By label, how far up and down from the curve something spreads at each of its points: the least and the most."""
    metric: str = ""
    """What `metrics.jsonl` calls it, if it is one metric."""
    until: int = 0
    """The samples to which the axis reaches at least."""


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


def sections(history: History, config: TrainConfig) -> list[Section]:
    """Returns charts of all curves, each in one of them: first those that readers look for, the others in the last."""
    charts = _Charts(history, config)
    goal = [config.goal.metric] if config.goal.metric is not None else []
    learning = [charts.played(name) for name in dict.fromkeys(["reward", *goal])] + charts.all_of("lesson/")
    learning = [charts.one("self_play/elo"), charts.one("self_play/win_rate"), *learning]
    learning += [charts.played(name) for name in dict.fromkeys(["length", *charts.played_names()])]
    speed = [charts.one("run/samples_per_second"), charts.one("run/env_utilization")]
    speed += [charts.shares(process, words) for process, words in PROCESSES.items()]
    algorithm = charts.together() + charts.all_of("loss/", "policy/entropy", "sac/temperature", "value/")
    instances = charts.instances()
    found = [
        Section("Learning", _there(learning)),
        Section("Speed", _there([*speed, instances])),
        Section("Algorithm", _there(algorithm)),
        Section("Against each opponent", _there(charts.all_of("self_play/against_")), folded=True),
        Section("More curves", _there(charts.all_of("")), folded=True),
    ]
    return [section for section in found if section.charts]


class _Charts:
    """Makes charts of a run's curves. What is in one of them is in no other."""

    def __init__(self, history: History, config: TrainConfig) -> None:
        self._config, self._behaviors, self._until = config, history.behaviors, history.samples
        self._left = {name: curve for name, curve in history.curves.items() if not name.startswith(_HIDDEN)}

    def one(self, metric: str) -> Chart | None:
        """Returns the chart of a metric, with all behaviors' own in it; None if it is not left."""
        curves = self._take(metric)
        title, note, percent = named(metric)
        if len(curves) == 1 and len(self._behaviors) == 1:
            curves = dict(zip([""], curves.values()))
        return Chart(title, note, curves, percent=percent, metric=metric, until=self._until) if curves else None

    def played(self, name: str) -> Chart | None:
        """Returns the chart of what episodes end with: in training, in evaluations, and as the goal looks at it."""
        sources = {each: self._take(f"{each}/{name}") for each in ("episode", "evaluation", "goal", "game")}
        spreads = self._take(f"evaluation/{name}{DEVIATION}")
        found = [source for source, curves in sources.items() if curves]
        if not found:
            return None
        goal, count = self._config.goal, self._config.evaluate.episodes
        words = {
            "episode": ("training", f"mean of the last {EPISODES} episodes"),
            "evaluation": ("evaluations", f"evaluations: {count} episodes each"),
            "goal": ("goal", f"goal: mean over {goal.window_samples:,} samples, and the line to reach"),
            "game": ("game", "sent by the game"),
        }
        curves: dict[str, Curve] = {}
        bands: dict[str, tuple[list[float], list[float]]] = {}
        for source in found:
            for behavior, curve in sources[source].items():
                label = behavior if source == "episode" and behavior else f"{behavior} {words[source][0]}".strip()
                label = "" if len(found) == 1 and not behavior else label
                curves[label] = curve
                if source == "evaluation" and behavior in spreads:
                    bands[label] = _band(curve, spreads[behavior])
        notes = [words[source][1] for source in found] + ["the band is one deviation"] * bool(bands)
        target = (goal.at_most if goal.at_least is None else goal.at_least) if "goal" in found else None
        title = named(f"episode/{name}").title
        return Chart(title, "; ".join(notes), curves, target, bands=bands, metric=f"episode/{name}", until=self._until)

    def played_names(self) -> list[str]:
        """Returns the names of what is left of what episodes end with and games send, in alphabetical order."""
        own = (_without_behavior(name, self._behaviors).partition("/") for name in self._left)
        names = {name for source, _, name in own if source in ("episode", "evaluation", "game")}
        return sorted(name for name in names if not name.endswith(DEVIATION))

    def together(self) -> list[Chart | None]:
        """Returns charts of metrics that say more beside each other; of several behaviors each has one of its own."""
        if len(self._behaviors) > 1:
            return []
        charts: list[Chart | None] = []
        for title, (note, percent, labels) in _TOGETHER.items():
            found = {label: each for name, label in labels.items() for each in self._take(name).values()}
            charts.append(Chart(title, note, found, percent=percent, until=self._until) if found else None)
        return charts

    def instances(self) -> Chart | None:
        """Returns the chart of how evenly instances deliver."""
        names = {"smallest": "instances/smallest_share", "largest": "instances/largest_share"}
        found = {label: each for label, name in names.items() for each in self._take(name).values()}
        note = "shares of all samples: the slowest instance, and the fastest"
        return Chart("Instances", note, found, percent=True, until=self._until) if found else None

    def shares(self, process: str, words: Sequence[str]) -> Chart | None:
        """Returns the chart of how a process spent its time; each share is over the interval before its point."""
        names = {word: f"time/{word.replace(' ', '_')}" for word in words}
        found = {word: dict(zip(*self._left.pop(name))) for word, name in names.items() if name in self._left}
        if not found:
            return None
        samples = sorted(set.intersection(*map(set, found.values())))  # the last point may be there in part
        curves = {word: [each[at] for at in samples] for word, each in found.items()}
        begun = {word: Curve([0, *samples], [*values[:1], *values]) for word, values in curves.items()}
        note = "shares of its time"
        return Chart(process.capitalize(), note, begun, percent=True, stacked=True) if samples else None

    def all_of(self, *prefixes: str) -> list[Chart | None]:
        """Returns charts of what is left and begins so, in alphabetical order of their titles."""
        keys = {_without_behavior(name, self._behaviors) for name in self._left}
        chosen = (key for key in keys if key.startswith(prefixes))
        return [self.one(key) for key in sorted(chosen, key=lambda key: (named(key).title, key))]

    def _take(self, metric: str) -> dict[str, Curve]:
        """Returns the curves of a metric by behavior, and takes them from what is left; that of all as `all`, last.

        A sole behavior's own curve says the same as that of all.
        """
        own = {each: f"{each}/{metric}" for each in self._behaviors if each}
        found = {label: self._left.pop(name) for label, name in {"": metric, **own}.items() if name in self._left}
        if len(self._behaviors) == 1:
            return dict(zip([""], found.values()))
        if len(found) > 1 and "" in found:
            found["all"] = found.pop("")  # the last, so that a behavior has one colour everywhere
        return found


def _there(charts: Sequence[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _band(curve: Curve, spread: Curve) -> tuple[list[float], list[float]]:
    """Returns how far below and above the curve the spread reaches, where it is known."""
    by_samples = dict(zip(*spread))
    wide = [by_samples.get(samples, 0.0) for samples in curve.samples]
    return [v - w for v, w in zip(curve.values, wide)], [v + w for v, w in zip(curve.values, wide)]


def _without_behavior(name: str, behaviors: Sequence[str]) -> str:
    return next((name.removeprefix(f"{each}/") for each in behaviors if each and name.startswith(f"{each}/")), name)


_COUNT = "update/count"
"""A metric of every behavior's learner."""
_HIDDEN = ("instances/share_", "run/seconds")
_TOGETHER = {
    "Values and returns": (
        "means, in the game's units",
        False,
        {"ppo/value": "values", "ppo/return": "returns that they should have"},
    ),
    "How often GAIL is right": (
        "shares",
        True,
        {"gail/accuracy_demonstrated": "about demonstrations", "gail/accuracy_own": "about the agent"},
    ),
    "GAIL's scores": (
        "1: surely demonstrated",
        False,
        {
            "gail/score_demonstrated": "demonstrations",
            "gail/score_own": "the agent",
            "gail/score_absorbing": "what follows an end",
        },
    ),
}
"""By title: the note, whether they are shares, and metrics with the labels that they have there."""
