"""Reward signals: objects that score rows. What is learned from is the sum of their scores.

SAC scores rows when they are drawn, PPO when a rollout drains. Shapes: `...` any arrangement of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from algorithms.settings import RewardSettings


class ScoredRows(NamedTuple):
    """What signals may look at."""

    rewards: Tensor
    """(...) float32, the environment's own."""


class RewardSignal(Protocol):
    """One source of reward."""

    def score(self, rows: ScoredRows) -> Tensor:
        """(...) float32, weighted by the signal's strength."""


class Extrinsic:
    """The environment's own reward."""

    def __init__(self, strength: float) -> None:
        self._strength = strength

    def score(self, rows: ScoredRows) -> Tensor:
        """(...) the rewards, weighted."""
        return rows.rewards * self._strength


def make_signals(settings: RewardSettings) -> list[RewardSignal]:
    """The signals that are set."""
    return [Extrinsic(settings.extrinsic.strength)]


def total_score(signals: Sequence[RewardSignal], rows: ScoredRows) -> Tensor:
    """(...) sum of all signals' scores."""
    total = signals[0].score(rows)
    for signal in signals[1:]:
        total = total + signal.score(rows)
    return total
