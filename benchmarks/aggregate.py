"""What many runs of several tasks come to: interquartile means and stratified bootstrap intervals.

The formulas are those of Agarwal et al. 2021 (arXiv 2108.13264) and of its library, rliable. Scores are given by task.
Shapes: S seeds of a task, R resamples, N scores of all tasks together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.spec import Array

_RESAMPLES = 10_000
_LOW_HIGH = (2.5, 97.5)  # percent
_SEED = 0


def interquartile_mean(scores: Sequence[Sequence[float]]) -> float:
    """Returns the mean of the middle half of all scores; of N, a quarter, rounded down, is cut off at each end."""
    return float(_middle(np.concatenate([np.asarray(each, np.float64) for each in scores])[None])[0])


def interval(scores: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Returns the 95 % interval of the interquartile mean; seeds are drawn again within each task."""
    low, high = np.percentile(_resampled(scores, np.random.default_rng(_SEED)), _LOW_HIGH)
    return float(low), float(high)


def ratio_interval(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Returns the 95 % interval of the ratio of two interquartile means, whose seeds are drawn independently.

    None if the lower one may be 0 or less, since the ratio then says nothing.
    """
    rng = np.random.default_rng(_SEED)
    over, under = _resampled(ours, rng), _resampled(theirs, rng)
    if np.percentile(under, _LOW_HIGH[0]) <= 0:
        return None
    low, high = np.percentile(over / under, _LOW_HIGH)
    return float(low), float(high)


def _resampled(scores: Sequence[Sequence[float]], rng: np.random.Generator) -> Array:
    """(R,) interquartile means."""
    drawn = [np.asarray(each, np.float64)[rng.integers(len(each), size=(_RESAMPLES, len(each)))] for each in scores]
    return _middle(np.concatenate(drawn, axis=1))


def _middle(scores: Array) -> Array:
    """(R,) means of the middle half of each row of (R, N)."""
    cut = scores.shape[1] // 4
    middle: Array = np.sort(scores, axis=1)[:, cut : scores.shape[1] - cut].mean(axis=1)
    return middle
