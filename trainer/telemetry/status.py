"""How a run goes at one time, as figures and in words: what the display, the log's lines and the page say of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from trainer.config.schema import StopConfig, TrainConfig

PROCESSES = {
    "collector": ("acting", "writing", "waiting for games", "throttled"),
    "learner": ("updating", "waiting for samples"),
}
"""By process, the activities that make up its time."""


@dataclass(frozen=True)
class Aim:
    """Something that ends the run once it is reached."""

    name: str
    state: str
    """What there is, and what is wanted: `12,345 of 50,000`."""
    share: float
    """The part of the way that is done, 0 to 1."""


@dataclass(frozen=True)
class Status:
    """The state of a run at one time."""

    samples: int
    seconds: float
    samples_per_second: float
    """Over the last interval."""
    games: int = 0
    episodes: int = 0
    updates: int = 0
    env_utilization: float | None = None
    reward: float | None = None
    """Mean of the last 100 episodes."""
    rewards: Sequence[float] = ()
    """That mean over the run so far, at even distances."""
    ratings: Mapping[str, float] = field(default_factory=dict)
    """By behavior, its rating in self-play."""
    goal: tuple[str, float | None, float] | None = None
    """The goal's metric, its mean over the window, and the target."""
    aims: Sequence[Aim] = ()
    endless: bool = False
    """Whether nothing ends the run but its user."""
    lessons: Mapping[str, str] = field(default_factory=dict)
    """By environment parameter, the lesson of now in words."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Shares of time (0 to 1) by activity: those of `PROCESSES`."""
    seconds_left: float | None = None
    bottleneck: str | None = None
    """What the run waits for, and what to set then, in one sentence."""
    diagnosis: str | None = None
    """What is wrong with the run, if anything is."""


class Curve:
    """Numbers as a curve of few points, however many there are: each point is the mean of as many neighbours."""

    def __init__(self, values: Sequence[float] = ()) -> None:
        self.first: float | None = None
        """The first of all numbers."""
        self.points: list[float] = []
        self._each = 1
        self._part: list[float] = []
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        """Adds the next number."""
        self.first = value if self.first is None else self.first
        self._part.append(value)
        if len(self._part) == self._each:
            self.points.append(fmean(self._part))
            self._part.clear()
        if len(self.points) == _MOST_POINTS:
            self.points = [fmean(self.points[place : place + 2]) for place in range(0, _MOST_POINTS, 2)]
            self._each *= 2


_MOST_POINTS = 1_000


def figures(status: Status) -> list[tuple[str, str]]:
    """Returns names and values, the most important first."""
    found = [
        ("samples", f"{status.samples:,}"),
        ("time", clock(status.seconds)),
        ("samples/s", f"{status.samples_per_second:,.1f}"),
    ]
    if status.env_utilization is not None:
        found.append(("env utilization", f"{status.env_utilization:.3f}"))
    if status.reward is not None:
        found.append(("reward", f"{status.reward:.3g}"))
    alone = len(status.ratings) == 1
    found += [("rating" if alone else f"rating of {name}", f"{value:.0f}") for name, value in status.ratings.items()]
    if status.goal is not None:
        metric, mean, target = status.goal
        found.append((metric, f"{_short(mean)} (goal {target:.4g})"))
    found += [(f"lesson of {name}", lesson) for name, lesson in status.lessons.items()]
    found += [(name, f"{share:.0%}") for name, share in status.shares.items()]
    if status.seconds_left is not None:
        found.append(("left", clock(status.seconds_left)))
    return found


def aims(
    config: TrainConfig,
    samples: int,
    seconds: float,
    rewards: tuple[float | None, float | None],
    goal_means: tuple[float | None, float | None],
) -> list[Aim]:
    """Returns what ends a run, and how far it has come.

    Args:
        config: of the run.
        samples: the samples so far.
        seconds: the seconds so far.
        rewards: the mean reward when it was first known, and now.
        goal_means: the same of the goal's metric.
    """
    stop, goal = config.stop, config.goal
    found = []
    if goal.metric is not None:
        target = goal.at_most if goal.at_least is None else goal.at_least
        wanted = f"at most {target:.4g}" if goal.at_least is None else f"at least {target:.4g}"
        found.append(Aim(goal.metric, f"{_short(goal_means[1])}, goal {wanted}", _way(goal_means, target)))
    if stop.reward is not None:
        found.append(Aim("reward", f"{_short(rewards[1])} of {stop.reward:.4g}", _way(rewards, stop.reward)))
    if stop.samples is not None:
        found.append(Aim("samples", f"{samples:,} of {stop.samples:,}", min(1.0, samples / stop.samples)))
    if stop.seconds is not None:
        found.append(Aim("time", f"{clock(seconds)} of {clock(stop.seconds)}", min(1.0, seconds / stop.seconds)))
    return found


def seconds_left(stop: StopConfig, samples: int, seconds: float, samples_per_second: float) -> float | None:
    """Returns the seconds until `stop.samples` or `stop.seconds` ends the run; None if neither is known to."""
    estimates = []
    if stop.seconds is not None:
        estimates.append(stop.seconds - seconds)
    if stop.samples is not None and samples_per_second > 0:
        estimates.append((stop.samples - samples) / samples_per_second)
    return max(0.0, min(estimates)) if estimates else None


def clock(seconds: float) -> str:
    """Returns hours, minutes and seconds: `1:02:03`."""
    if not math.isfinite(seconds):  # from a file that somebody has changed
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _way(values: tuple[float | None, float | None], target: float | None) -> float:
    """Returns how much of the way to `target` is done, by the value at the beginning and now."""
    begin, now = values
    if begin is None or now is None or target is None:
        return 0.0
    whole = target - begin
    return min(1.0, max(0.0, (now - begin) / whole)) if whole else 1.0
