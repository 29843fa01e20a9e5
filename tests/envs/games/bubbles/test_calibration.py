import pytest

from benchmarks.calibrate_bubbles import ASYNC_RATE, LOCKSTEP_RATE, fit, measure
from envs.games.bubbles.bot import HUMAN
from envs.games.bubbles.rules import Level


def test_sixteen_instances_deliver_the_references_rates_within_three_percent():
    rates, _ = measure(HUMAN, Level(), rounds=300)
    assert rates.asynchronous == pytest.approx(ASYNC_RATE, rel=0.03)
    assert rates.lockstep == pytest.approx(LOCKSTEP_RATE, rel=0.03)


def test_lockstep_waits_for_the_longest_of_each_round():
    rates, durations = measure(HUMAN, Level(), rounds=20)
    assert durations.shape == (20, 16)
    assert rates.round_seconds == pytest.approx(sum(max(row) for row in durations.tolist()) / 20)
    assert rates.mean_seconds == pytest.approx(durations.sum() / 320)


def test_the_fitted_durations_are_near_the_levels():
    base, noise = fit(Level(), rounds=200)
    assert base == pytest.approx(Level().base_seconds, abs=0.03)
    assert noise == pytest.approx(Level().noise_seconds, abs=0.05)
