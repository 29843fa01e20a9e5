"""Behaviors whose learning ends by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.spec import UserError
from tests.trainer.runtime.test_collector_host import BASE, LATE_SAC, Runs
from tests.trainer.several import Several
from trainer.checkpoint import CheckpointStore
from trainer.config.compose import compose
from trainer.config.schema import BehaviorConfig, BehaviorStopConfig, GoalConfig, TrainConfig
from trainer.runtime.checks import check_train
from trainer.runtime.stop import behavior_end, finished, still_ended

ENDS = ["behaviors.Early.stop.samples=100", "behaviors.Late.stop.samples=300"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(tmp_path, monkeypatch)


def test_a_behavior_that_is_done_acts_on_and_the_run_ends_with_the_last(run: Runs) -> None:
    summary = run(Several(late=0), *LATE_SAC, *ENDS)
    assert summary["stopped_by"] == "behaviors"
    saved = run.newest.state["behaviors"]
    assert saved["Early"]["ended"] == ["stop.samples", 100]
    assert saved["Early"]["samples"] >= 300  # acted on
    assert summary["updates"]["Early"] <= 100 // 32
    assert summary["updates"]["Late"] > 100
    assert run.log.count("Behavior 'Early' has reached stop.samples=100 after") == 1


def test_what_was_done_stays_so_in_a_resumed_run_unless_it_is_given_more(run: Runs) -> None:
    first = run(Several(late=0), *LATE_SAC, *ENDS, "stop.samples=300")
    assert first["stopped_by"] == "samples"
    second = run(Several(late=0), *LATE_SAC, *ENDS, resume=True)
    assert second["updates"]["Early"] == first["updates"]["Early"]
    assert second["updates"]["Late"] > first["updates"]["Late"]
    said = finished(compose([*BASE, *LATE_SAC, *ENDS], TrainConfig, "config"), run.newest) or ""
    assert "all behaviors have reached what ends them (behaviors.Early.stop.samples" in said
    more = ["behaviors.Early.stop.samples=700", "behaviors.Late.stop.samples=300"]
    third = run(Several(late=0), *LATE_SAC, *more, resume=True)
    assert third["updates"]["Early"] > first["updates"]["Early"]
    assert third["updates"]["Late"] == second["updates"]["Late"]


def test_a_reward_or_a_goal_ends_a_behavior() -> None:
    stop = BehaviorConfig(None, {}, BehaviorStopConfig(samples=10, reward=2.0))
    assert behavior_end(stop, 9, None, False) is None
    assert behavior_end(stop, 9, 2.0, False) == ("stop.reward", 2.0)
    assert behavior_end(stop, 10, None, False) == ("stop.samples", 10)
    goal = BehaviorConfig(None, {}, goal=GoalConfig("score", at_least=1.0))
    assert behavior_end(goal, 9, None, True) == ("goal.metric", "score")
    assert still_ended(stop, ("stop.reward", 2.0))
    assert not still_ended(stop, ("stop.reward", 1.0))
    assert not still_ended(stop, None)


def test_each_behavior_may_have_a_goal_and_its_own_best_weights(run: Runs) -> None:
    goals = ["behaviors.default.goal.metric=reward", "behaviors.default.goal.at_least=7"]
    windows = ["behaviors.default.goal.window_samples=50", "behaviors.default.goal.also_window_samples=[]"]
    summary = run(Several(late=0), *goals, *windows, "stop.samples=1200", "run.log_samples=50")
    saved = run.newest.state["behaviors"]
    assert saved["Late"]["ended"] == ["goal.metric", "reward"]  # its episodes earn 10, those of Early 5
    assert saved["Early"]["ended"] is None
    assert summary["updates"]["Early"] > summary["updates"]["Late"]
    best = CheckpointStore(run.folder / "checkpoints").load_best()
    assert best is not None
    assert best.state["means"] == {"Early": 5.0, "Late": 10.0}
    assert {name.partition("/")[0] for name in best.tensors} == {"Early", "Late"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["behaviors.A.stop.sample=3"], "unknown key behaviors.A.stop.sample; did you mean behaviors.A.stop.samples"),
        (["behaviors.A.stop.samples=0"], "behaviors.A.stop.samples=0 must be above 0"),
        (["behaviors.A.goal.metric=x"], "behaviors.A.goal.metric=x needs one of behaviors.A.goal.at_most"),
    ],
)
def test_bad_ends_are_refused_by_name(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        check_train(compose(["env=basic", *words], TrainConfig, "config"))
    assert message in str(refused.value)


def test_what_a_game_reports_ends_no_single_behavior() -> None:
    words = [*BASE, "run.mode=async", "behaviors.A.goal.metric=bubbles", "behaviors.A.goal.at_least=3"]
    with pytest.raises(UserError, match=r"behaviors.A.goal.metric=bubbles is a number that the game reports"):
        check_train(compose(words, TrainConfig, "config"))
