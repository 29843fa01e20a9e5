from __future__ import annotations

import random

import pytest

from trainer.runtime.rate_limiter import Limiter


@pytest.mark.parametrize(
    "limiter",
    [
        Limiter(0.25, 1000, 100),
        Limiter(1.0, 0, 1),
        Limiter(1 / 49, 0, 49),
        Limiter(1 / 2048, 0, 2048 * 5),
        Limiter(4.0, 10, 1, origin_samples=500, origin_updates=70),
    ],
)
def test_the_two_sides_never_wait_for_each_other_and_the_ratio_holds(limiter: Limiter) -> None:
    rng = random.Random(0)
    samples, updates = limiter.origin_samples, limiter.origin_updates
    for _ in range(20_000):
        may_write, may_update = limiter.may_write(samples, updates), limiter.may_update(samples, updates)
        assert may_write or may_update
        if may_write and (not may_update or rng.random() < 0.5):
            samples += 1
        elif may_update:
            updates += 1
        owed = limiter.allowed_updates(samples) - updates
        assert owed <= (limiter.tolerance + 1) * limiter.updates_per_sample + 1e-3
        assert samples < limiter.origin_samples + limiter.start_samples or owed > -1e-3


def test_lag_zero_stops_writing_at_exactly_one_rollout() -> None:
    limiter = Limiter(1 / 100, 0, 100)
    assert limiter.may_write(99, 0)
    assert not limiter.may_update(99, 0)
    assert not limiter.may_write(100, 0)
    assert limiter.may_update(100, 0)
    assert limiter.may_write(100, 1)


def test_nothing_is_owed_for_rows_before_the_start() -> None:
    limiter = Limiter(1.0, 50, 10)
    assert not limiter.may_update(50, 0)
    assert limiter.may_update(51, 0)
    assert limiter.may_write(59, 0)
    assert not limiter.may_write(60, 0)


def test_a_tolerance_below_one_update_is_refused() -> None:
    with pytest.raises(ValueError, match="tolerance"):
        Limiter(1 / 100, 0, 10)
