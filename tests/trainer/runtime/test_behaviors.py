from __future__ import annotations

import pytest

from algorithms.ppo.settings import PPOSettings
from algorithms.sac.settings import SACSettings
from algorithms.settings import AlgorithmSettings
from buffers.rows import Layout, Rows
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.behaviors import (
    check_networks,
    choose_capacity,
    describe_buffer,
    known_behaviors,
    missing_behaviors,
)

MIB, GIB = 2**20, 2**30
UNITY = ["env=unity"]
IMAGE = (84, 84, 3)


def config(*overrides: str) -> TrainConfig:
    return compose(overrides, TrainConfig, "config")


@pytest.mark.parametrize(
    ("overrides", "known"),
    [
        (["env.id=CartPole-v1"], (["CartPole-v1"], 0)),
        (["env.id=CartPole-v1", "behaviors.CartPole-v1={}"], (["CartPole-v1"], 0)),
        (UNITY, ([], 8)),
        ([*UNITY, "behaviors.A={}"], (["A"], 0)),
        ([*UNITY, "behaviors.A={}", "behaviors.default={}"], (["A"], 8)),
    ],
)
def test_memory_is_kept_for_all_that_may_appear_and_nothing_else(overrides: list[str], known: object) -> None:
    assert known_behaviors(config(*overrides)) == known


def layout_of(shape: tuple[int, ...]) -> Layout:
    return Layout(BehaviorSpec("b", (ObservationSpec("o", shape, "uint8"),), 0, (3,)))


def test_networks_that_memory_has_no_room_for_are_refused_before_they_are_made() -> None:
    check_networks(layout_of(IMAGE).spec, PPOSettings(), GIB)
    with pytest.raises(UserError, match=r"'b' observes 16,777,216 values, .* 196,608 MiB, but 1,024 MiB"):
        check_networks(layout_of((2**24,)).spec, PPOSettings(), GIB)


ROW_BYTES = layout_of(IMAGE).row_bytes


def capacity(settings: AlgorithmSettings, free: int, before: int | None = None, shape: tuple[int, ...] = IMAGE) -> int:
    return choose_capacity(layout_of(shape), 2 * MIB, settings, free, before)


def test_sac_keeps_100_000_rows_and_ppo_what_it_needs_where_memory_allows() -> None:
    assert capacity(SACSettings(), 16 * GIB) == 100_000
    assert capacity(SACSettings(start_samples=80_000), 16 * GIB) == 160_000
    assert capacity(PPOSettings(), 16 * GIB) == 2 * PPOSettings().min_rows()
    assert capacity(PPOSettings(), 16 * GIB, shape=(4,)) > 1_000_000


def test_a_buffer_takes_at_most_half_of_the_free_memory_unless_it_needs_more() -> None:
    rows = capacity(SACSettings(), 2 * GIB)
    assert 0.999 * GIB < rows * ROW_BYTES + 2 * MIB <= GIB
    assert capacity(PPOSettings(), 300 * MIB) == PPOSettings().min_rows()
    with pytest.raises(UserError, match=r"'b' needs 251 MiB for 12,288 rows of 21,2\d\d bytes, but 200 MiB of memory"):
        capacity(PPOSettings(), 200 * MIB)


def test_what_is_asked_for_holds_or_is_refused() -> None:
    assert capacity(SACSettings(buffer_capacity=70_000), 2 * GIB) == 70_000
    with pytest.raises(UserError, match=r"needs 1,419 MiB for 70,000 rows .* but 1,024 MiB of memory are left"):
        capacity(SACSettings(buffer_capacity=70_000), GIB)
    old = capacity(SACSettings(buffer_memory_mib=256), 2 * GIB)
    assert 253 * MIB < old * ROW_BYTES <= 254 * MIB  # less the weights
    assert capacity(SACSettings(buffer_memory_mib=256, buffer_capacity=5000), 2 * GIB) == 5000
    with pytest.raises(UserError, match=r"12,288 rows .* algorithm.buffer_memory_mib is 128: raise it to 252"):
        capacity(PPOSettings(buffer_memory_mib=128), 2 * GIB)


def test_a_run_that_goes_on_keeps_its_rows_unless_memory_is_short() -> None:
    assert capacity(SACSettings(), 2 * GIB, before=90_000) == 90_000
    assert capacity(SACSettings(), 16 * GIB, before=90_000) == 90_000
    assert capacity(SACSettings(), GIB, before=90_000) == capacity(SACSettings(), GIB)


def test_a_run_says_how_many_rows_it_keeps_and_warns_if_a_replay_has_few() -> None:
    layout = layout_of((4,))
    rows = Rows(layout, bytearray(layout.memory_bytes(49_999)), 49_999)
    line, warning = describe_buffer(rows, SACSettings())
    assert line == f"Behavior 'b' keeps 49,999 rows of {layout.row_bytes} bytes: 3 MiB."
    assert warning is not None
    assert "49,999 rows are few for a replay" in warning
    assert "raise algorithm.buffer_capacity" in warning
    assert "algorithm.buffer_memory_mib" in str(describe_buffer(rows, SACSettings(buffer_memory_mib=3))[1])
    assert describe_buffer(rows, PPOSettings())[1] is None
    assert describe_buffer(rows, SACSettings(buffer_capacity=49_999))[1] is None


def test_a_gymnasium_behavior_that_behaviors_leaves_out_is_refused() -> None:
    with pytest.raises(UserError, match=r"'CartPole-v1' appeared, but behaviors names only 'Striker'"):
        known_behaviors(config("env.id=CartPole-v1", "behaviors.Striker={}"))


def test_configured_behaviors_that_have_not_appeared_are_named() -> None:
    named = config(*UNITY, "behaviors.A={}", "behaviors.B={}", "behaviors.default={}")
    warning = missing_behaviors(named, ["Other", "A"], "in this run")
    assert warning == "behaviors.B did not appear in this run; the game has 'Other', 'A': is the name right?"
    assert missing_behaviors(named, ["Other", "A", "B"], "in this run") is None
    assert missing_behaviors(config(*UNITY), ["A"], "in this run") is None
