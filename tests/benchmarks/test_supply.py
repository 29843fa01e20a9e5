import pytest

from benchmarks.supply import Completions, Span, env_utilization


def completions(*moments: tuple[float, float]) -> Span:
    tally = Completions()
    for now, drawn in moments:
        tally.record(now, drawn)
    return tally.span()


def test_span_runs_from_first_to_last_completion():
    # durations 7 (the first, left out), 1, 3; kept waiting for 2 seconds in between
    assert completions((10.0, 7.0), (12.0, 8.0), (16.0, 11.0)) == Span(samples=2, seconds=6.0, drawn=4.0)


def test_span_needs_two_completions():
    assert completions() == Span(0, 0.0, 0.0)
    assert completions((10.0, 7.0)) == Span(0, 0.0, 0.0)


def test_instance_that_never_waits_has_supply_fraction_one():
    assert env_utilization([completions((1.0, 1.0), (2.0, 2.0), (5.0, 5.0))]) == pytest.approx(1.0)


def test_supply_fraction_matches_hand_computation():
    # First: 2 samples in 6 s that drew 4 s: could have been 3. Second: 3 samples in 6 s that drew 1.5 s: 12.
    assert env_utilization([Span(2, 6.0, 4.0), Span(3, 6.0, 1.5)]) == pytest.approx((2 + 3) / (3 + 12))


def test_durations_of_resets_lower_the_supply():
    # Two samples of 1 s with a reset of 2 s between them: nobody waited.
    assert env_utilization([completions((1.0, 1.0), (4.0, 4.0))]) == pytest.approx(1.0)


def test_nothing_drawn_means_no_supply():
    assert env_utilization([]) is None
    assert env_utilization([Span(0, 0.0, 0.0), Span(5, 1.0, 0.0)]) is None
