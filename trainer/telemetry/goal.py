"""Watches whether a goal is reached: the mean of a metric over the episodes that ended in the last samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from envs.spec import UserError
from trainer.config.schema import GoalConfig

PATIENCE = 20
"""How many episodes may end without the metric before its name is taken for a mistake."""


class Moment(NamedTuple):
    """When the goal was first reached."""

    samples: int
    seconds: float


class Goal:
    """Watches one metric over one or more windows of samples.

    A window counts once it is full: the run is at least as long as the window, and an episode has ended in it.
    """

    def __init__(self, config: GoalConfig) -> None:
        targets = [target for target in (config.at_most, config.at_least) if target is not None]
        if config.metric is None or len(targets) != 1:
            raise ValueError("a goal needs a metric and one of at_most and at_least")
        self.metric, self.target = config.metric, targets[0]
        self.window_samples = config.window_samples
        self._downwards = config.at_most is not None
        self._windows = {n: _Window(n) for n in sorted({config.window_samples, *config.also_window_samples})}
        self._missed = 0

    def add(self, samples: int, seconds: float, metrics: Mapping[str, float]) -> None:
        """Adds an episode that ended at `samples` samples; UserError if the first `PATIENCE` all lacked the metric."""
        value = metrics.get(self.metric)
        if value is None:
            self._missed += 1
            if self._missed == PATIENCE and all(window.mean is None for window in self._windows.values()):
                known = ", ".join(sorted(metrics)) or "none"
                raise UserError(
                    f"goal.metric={self.metric} is not among the metrics that episodes end with; there is {known}"
                )
            return
        for window in self._windows.values():
            window.add(samples, float(value))
            if window.moment is None and samples >= window.samples and self._reaches(window.mean):
                window.moment = Moment(samples, seconds)

    @property
    def reached(self) -> Moment | None:
        """When the goal was reached over `window_samples`; None if it was not yet."""
        return self.moments[self.window_samples]

    @property
    def moments(self) -> dict[int, Moment | None]:
        """The same for each window, by its samples."""
        return {n: window.moment for n, window in self._windows.items()}

    @property
    def means(self) -> dict[int, float | None]:
        """The mean of the metric over each window now; None before an episode has ended in it."""
        return {n: window.mean for n, window in self._windows.items()}

    def state(self) -> dict[str, Any]:
        """Returns what `load_state` takes, as JSON can hold it."""
        return {
            "missed": self._missed,
            "windows": {
                str(n): {"episodes": list(window.episodes), "total": window.total, "moment": window.moment}
                for n, window in self._windows.items()
            },
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned."""
        self._missed = int(state["missed"])
        for n, window in self._windows.items():
            saved = state["windows"][str(n)]
            window.episodes = deque((int(samples), float(value)) for samples, value in saved["episodes"])
            window.total = float(saved["total"])
            window.moment = Moment(*saved["moment"]) if saved["moment"] else None

    def _reaches(self, mean: float | None) -> bool:
        return mean is not None and (mean <= self.target if self._downwards else mean >= self.target)


@dataclass
class _Window:
    samples: int
    episodes: deque[tuple[int, float]] = field(default_factory=deque)
    """(samples at its end, metric), oldest first."""
    total: float = 0.0
    moment: Moment | None = None

    def add(self, samples: int, value: float) -> None:
        self.episodes.append((samples, value))
        self.total += value
        while self.episodes[0][0] <= samples - self.samples:
            self.total -= self.episodes.popleft()[1]

    @property
    def mean(self) -> float | None:
        return self.total / len(self.episodes) if self.episodes else None
