from __future__ import annotations

import random

import pytest

from trainer.runtime.rate_limiter import RateLimiter


@pytest.mark.parametrize(
    "rate_limiter",
    [
        RateLimiter(0.25, 1000, 100),
        RateLimiter(1.0, 0, 1),
        RateLimiter(1 / 49, 0, 49),
        RateLimiter(1 / 2048, 0, 2048 * 5),
        RateLimiter(4.0, 10, 1, origin_samples=500, origin_updates=70),
    ],
)
def test_the_two_sides_never_wait_for_each_other_and_the_ratio_holds(rate_limiter: RateLimiter) -> None:
    rng = random.Random(0)
    samples, updates = rate_limiter.origin_samples, rate_limiter.origin_updates
    for _ in range(20_000):
        may_write, may_update = rate_limiter.may_write(samples, updates), rate_limiter.may_update(samples, updates)
        assert may_write or may_update
        if may_write and (not may_update or rng.random() < 0.5):
            samples += 1
        elif may_update:
            updates += 1
        owed = rate_limiter.allowed_updates(samples) - updates
        assert owed <= (rate_limiter.tolerance + 1) * rate_limiter.updates_per_sample + 1e-3
        assert samples < rate_limiter.origin_samples + rate_limiter.start_samples or owed > -1e-3


def test_lag_zero_stops_writing_at_exactly_one_rollout() -> None:
    rate_limiter = RateLimiter(1 / 100, 0, 100)
    assert rate_limiter.may_write(99, 0)
    assert not rate_limiter.may_update(99, 0)
    assert not rate_limiter.may_write(100, 0)
    assert rate_limiter.may_update(100, 0)
    assert rate_limiter.may_write(100, 1)


def test_nothing_is_owed_for_rows_before_the_start() -> None:
    rate_limiter = RateLimiter(1.0, 50, 10)
    assert not rate_limiter.may_update(50, 0)
    assert rate_limiter.may_update(51, 0)
    assert rate_limiter.may_write(59, 0)
    assert not rate_limiter.may_write(60, 0)


def test_a_tolerance_below_one_update_is_refused() -> None:
    with pytest.raises(ValueError, match="tolerance"):
        RateLimiter(1 / 100, 0, 10)
