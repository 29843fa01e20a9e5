from __future__ import annotations

import pytest

from envs.spec import UserError
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.behaviors import buffer_sizes, missing_behaviors

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


def test_configured_behaviors_that_have_not_appeared_are_named() -> None:
    named = config(*UNITY, "behaviors.A={}", "behaviors.B={}", "behaviors.default={}")
    warning = missing_behaviors(named, ["Other", "A"], "in this run")
    assert warning == "behaviors.B did not appear in this run; the game has 'Other', 'A': is the name right?"
    assert missing_behaviors(named, ["Other", "A", "B"], "in this run") is None
    assert missing_behaviors(config(*UNITY), ["A"], "in this run") is None
