"""A run's metrics: statistics of episodes, and what games send."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping, Set
from typing import Any

EPISODES = 100
"""How many of the last episodes means are taken over."""
DEVIATION = "_deviation"
"""Behind the name of a metric, the standard deviation over the episodes of an evaluation."""


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns those of `metrics` that are finite: a mean with any other number would say nothing."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


class EpisodeStatistics:
    """Means of reward, length and what environments report in `info`, over the last `EPISODES` episodes."""

    def __init__(self) -> None:
        self.episodes = 0
        """How many episodes have ended in all."""
        self._values: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=EPISODES))

    def add(self, reward: float, length: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Adds an episode: its summed reward, its length in samples, and the numbers that its environment reported.

        Returns:
            All of them by the names that a goal may ask for: those of `metrics`, `reward` and `length`.
        """
        values = {**metrics, "reward": reward, "length": float(length)}
        self.episodes += 1
        for name, value in values.items():
            self._values[name].append(float(value))
        return values

    def mean(self, name: str) -> float | None:
        """Returns the mean of a metric; None before any episode had it."""
        values = self._values.get(name)
        return sum(values) / len(values) if values else None

    @property
    def full(self) -> bool:
        """Whether `EPISODES` episodes have ended; a mean of fewer is mostly luck."""
        return self.episodes >= EPISODES

    def scalars(self) -> dict[str, float]:
        """Returns the means by their names: `episode/reward`, `episode/length`, `episode/<metric>`."""
        return {f"episode/{name}": sum(values) / len(values) for name, values in self._values.items()}

    def state(self) -> dict[str, Any]:
        """Returns what `load_state` takes, as JSON can hold it."""
        return {"episodes": self.episodes, "values": {name: list(values) for name, values in self._values.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned."""
        self.episodes = int(state["episodes"])
        for name, values in state["values"].items():
            self._values[name] = deque(map(float, values), maxlen=EPISODES)


class GameStatistics:
    """Values that games have sent since they were last taken, by key, each with the way to summarize it."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)
        self._kinds: dict[str, str] = {}

    @property
    def keys(self) -> Set[str]:
        """Returns all keys that games have sent so far."""
        return self._kinds.keys()

    def add(self, key: str, value: float, aggregation: str) -> None:
        """Adds a value; `aggregation` is `average`, `most_recent`, `sum` or `histogram`."""
        self._values[key].append(value)
        self._kinds[key] = aggregation

    def take(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Returns scalars and histograms by their names, `game/<key>`, and forgets their values."""
        taken, self._values = self._values, defaultdict(list)
        scalars, histograms = {}, {}
        for key, values in taken.items():
            kind = self._kinds[key]
            if kind == "histogram":
                histograms[f"game/{key}"] = values
            elif kind == "most_recent":
                scalars[f"game/{key}"] = values[-1]
            else:
                scalars[f"game/{key}"] = sum(values) / (1 if kind == "sum" else len(values))
        return scalars, histograms
