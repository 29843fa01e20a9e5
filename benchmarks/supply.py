"""The supply: what instances could have delivered if nobody had ever made them wait, from the durations drawn.

Between its first and its last completion an instance delivers n - 1 samples in `seconds`, and those samples drew
durations that sum to `drawn`. Never kept waiting it would have delivered (n - 1) / drawn a second, so its supply over
the same time is (n - 1) * seconds / drawn. The env utilization is the sum of n - 1 over the sum of supplies, over
instances and rounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """What one instance did between its first and its last completion of a round."""

    samples: int
    """Completions after the first."""
    seconds: float
    """From the first completion to the last."""
    drawn: float
    """Sum of the durations drawn for what ended in between, resets included, as they were to be waited out."""


class Completions:
    """Completed steps of one instance in one round."""

    def __init__(self) -> None:
        self._count = 0
        self._first = self._last = (0.0, 0.0)

    def record(self, now: float, drawn: float) -> None:
        """A step completes at time `now`, when the durations drawn so far, its own included, sum to `drawn` seconds."""
        self._last = (now, drawn)
        if not self._count:
            self._first = self._last
        self._count += 1

    def span(self) -> Span:
        """From the first completion to the last; all zeros before the second."""
        return Span(max(0, self._count - 1), self._last[0] - self._first[0], self._last[1] - self._first[1])


def env_utilization(spans: Iterable[Span]) -> float | None:
    """Samples over supply; None if no instance completed two steps that took any time."""
    delivered, supply = 0, 0.0
    for span in spans:
        if span.drawn > 0:
            delivered += span.samples
            supply += span.samples * span.seconds / span.drawn
    return delivered / supply if supply else None
