from __future__ import annotations

import pytest

from envs.spec import UserError
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.behaviors import LATE_SECONDS, Behaviors, buffer_sizes

MIB = 2**20
UNITY = ["env=unity", "algorithm.buffer_memory_mib=5"]


def config(*overrides: str) -> TrainConfig:
    return compose(overrides, TrainConfig, "config")


@pytest.mark.parametrize(
    ("overrides", "memory"),
    [
        (["env.id=CartPole-v1", "algorithm.buffer_memory_mib=5"], ({"CartPole-v1": 5 * MIB}, 0, 0)),
        (
            ["env.id=CartPole-v1", "behaviors.CartPole-v1.algorithm.buffer_memory_mib=7"],
            ({"CartPole-v1": 7 * MIB}, 0, 0),
        ),
        (UNITY, ({}, 8, 5 * MIB)),
        ([*UNITY, "behaviors.A={}"], ({"A": 5 * MIB}, 0, 0)),
        (
            [*UNITY, "behaviors.A.algorithm.buffer_memory_mib=6", "behaviors.default.algorithm.buffer_memory_mib=7"],
            ({"A": 6 * MIB}, 8, 7 * MIB),
        ),
    ],
)
def test_memory_is_kept_for_all_that_may_appear_and_nothing_else(overrides: list[str], memory: object) -> None:
    assert buffer_sizes(config(*overrides)) == memory


def test_a_gymnasium_behavior_that_behaviors_leaves_out_is_refused() -> None:
    with pytest.raises(UserError, match=r"'CartPole-v1' appeared, but behaviors names only 'Striker'"):
        buffer_sizes(config("env.id=CartPole-v1", "behaviors.Striker={}"))


def test_behaviors_that_stay_away_are_warned_of_once_and_at_the_end() -> None:
    expected = Behaviors(config(*UNITY, "behaviors.A={}", "behaviors.B={}", "behaviors.default={}"))
    assert expected.overdue(1e9) is None, "players may take any time to start"
    expected.appeared("Other", 10.0)
    assert expected.overdue(10.0 + LATE_SECONDS - 1) is None
    expected.appeared("A", 20.0)
    words = "behaviors.B did not appear within 60 s of the first behavior; the game has 'Other', 'A'"
    assert (expected.overdue(10.0 + LATE_SECONDS) or "").startswith(words)
    assert expected.overdue(1e9) is None
    assert (expected.never() or "").startswith("behaviors.B did not appear in this run")
    expected.appeared("B", 1e9)
    assert expected.never() is None


def test_nothing_is_said_of_behaviors_that_nobody_named() -> None:
    expected = Behaviors(config(*UNITY))
    expected.appeared("A", 0.0)
    assert (expected.overdue(1e9), expected.never()) == (None, None)
