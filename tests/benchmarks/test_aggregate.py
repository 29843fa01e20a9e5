"""Interquartile means and bootstrap intervals against numbers reckoned by hand."""

import pytest

from benchmarks import aggregate
from benchmarks.aggregate import interquartile_mean, interval, ratio_interval


@pytest.mark.parametrize(
    ("scores", "mean"),
    [
        ([[1.0]], 1.0),
        ([[1.0, 2.0, 9.0]], 4.0),  # of three, none is cut off
        ([[0.0, 1.0, 2.0, 4.0, 100.0]], 7 / 3),  # of five, one at each end
        ([[100.0, 0.0], [3.0, 1.0]], 2.0),  # of all tasks together
        ([[8.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0]], 4.5),  # of eight, two at each end
    ],
)
def test_interquartile_mean_cuts_off_a_quarter_at_each_end(scores, mean):
    assert interquartile_mean(scores) == pytest.approx(mean)


def test_interval_of_one_seed_or_of_equal_ones_is_a_point():
    assert interval([[0.5]]) == (0.5, 0.5)
    assert interval([[0.5, 0.5], [2.0]]) == pytest.approx((1.0, 1.0))


def test_interval_of_two_seeds_reaches_from_one_to_the_other():
    """Of two seeds drawn again, a quarter of the draws has the lower one twice, and a quarter the higher one."""
    assert interval([[0.0, 1.0]]) == (0.0, 1.0)


def test_seeds_are_drawn_within_their_own_task():
    """The second task always gives its 10, so no draw has two seeds of the first; four scores lose one at each end."""
    low, high = interval([[0.0, 1.0], [10.0, 10.0]])
    assert (low, high) == (5.0, 5.5)


def test_interval_of_scores_that_lie_evenly_lies_evenly_about_their_middle():
    low, high = interval([list(map(float, range(10)))])
    assert 1.0 < low < 4.5 < high < 8.0
    assert low == pytest.approx(9 - high, abs=0.35)


def test_ratio_of_points_is_a_point_and_of_nothing_above_zero_none():
    assert ratio_interval([[3.0]], [[2.0]]) == (1.5, 1.5)
    assert ratio_interval([[3.0]], [[0.0]]) is None
    assert ratio_interval([[3.0, 3.0]], [[1.0, 3.0]]) == (1.0, 3.0)


def test_intervals_are_the_same_each_time(monkeypatch):
    monkeypatch.setattr(aggregate, "_RESAMPLES", 100)
    scores = [[0.1, 0.7, 0.4], [0.2, 0.9, 0.3]]
    assert interval(scores) == interval(scores)
