"""Runs with several behaviors, inline, on a manager that stands in for Unity players."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import trainer.runtime.behaviors
import trainer.runtime.collector_host
import trainer.runtime.run
from algorithms.policy import Policy
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from envs.unity.config import UnityConfig
from tests.trainer.several import Sent, Several
from trainer.checkpoint import Checkpoint, CheckpointStore
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.actor import PolicyActor
from trainer.runtime.behaviors import known_behaviors
from trainer.runtime.collector_host import CollectorHost
from trainer.runtime.collector_process import one_thread
from trainer.runtime.ipc import BEFORE, SAMPLES, Shared
from trainer.runtime.policy_store import PolicyReader, PolicyWriter, weights_bytes
from trainer.runtime.start import train

PPO = ["algorithm.rollout_size=32", "algorithm.minibatch_size=16", "algorithm.epochs=1"]
TINY = ["algorithm.network.hidden=[8]", "algorithm.buffer_memory_mib=1", "run.picture_minutes=0", "run.mode=inline"]
BASE = ["env=unity", "env.player=env=basic", *PPO, *TINY]
LATE_SAC = [
    "behaviors.Early={}",
    "behaviors.Late.algorithm.name=sac",
    "behaviors.Late.algorithm.buffer_memory_mib=1",
    "behaviors.Late.algorithm.start_samples=10",
    "behaviors.Late.algorithm.batch_size=8",
    "behaviors.Late.algorithm.network.hidden=[8]",
]


class Runs:
    """Trains in one folder, again and again."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch
        self.asked: list[dict[str, Any]] = []

    def __call__(self, toy: Several, *overrides: str, resume: bool = False) -> dict[str, Any]:
        def make(env, setup):
            self.asked.append(vars(setup))
            return toy

        self._patch.setattr(UnityConfig, "make_manager", make)
        config = compose([*BASE, *overrides], TrainConfig, "config")
        assert train(replace(config, resume=str(self.folder) if resume else None), self.folder) == 0
        assert toy.closed
        summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return summary

    @property
    def newest(self) -> Checkpoint:
        return CheckpointStore(self.folder / "checkpoints").load_latest()

    @property
    def log(self) -> str:
        return (self.folder / "train.log").read_text()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(tmp_path, monkeypatch)


def test_a_behavior_that_appears_late_is_learned_beside_the_first(run: Runs) -> None:
    summary = run(Several(late=30), "stop.samples=300")
    assert summary["samples"] >= 300
    assert set(summary["updates"]) == {"Early", "Late"}
    assert all(updates > 0 for updates in summary["updates"].values())
    samples = {name: saved["samples"] for name, saved in run.newest.state["behaviors"].items()}
    assert samples["Early"] - samples["Late"] == 2 * 30
    assert sum(samples.values()) == summary["samples"]
    assert run.asked[0]["logs"] == run.folder / "players"


def test_each_behavior_has_the_algorithm_that_was_asked_for(run: Runs) -> None:
    summary = run(Several(late=0), *LATE_SAC, "stop.samples=300")
    keys = {key for key in run.newest.tensors if key.startswith("Late/")}
    assert any("critic" in key for key in keys)
    assert not any("critic" in key for key in run.newest.tensors if key.startswith("Early/"))
    assert summary["updates"]["Late"] > 10 * summary["updates"]["Early"] > 0


def test_a_resumed_run_keeps_behaviors_that_have_not_appeared_again(run: Runs) -> None:
    first = run(Several(late=0), "stop.samples=200")
    before = run.newest
    second = run(Several(late=None), "stop.samples=400", resume=True)
    after = run.newest
    assert after.state["behaviors"]["Late"] == before.state["behaviors"]["Late"]
    assert set(after.replay) == {"Early", "Late"}
    assert second["updates"]["Late"] == first["updates"]["Late"]
    assert second["updates"]["Early"] > first["updates"]["Early"]
    third = run(Several(late=0), "stop.samples=600", resume=True)
    assert third["updates"]["Late"] > first["updates"]["Late"]
    assert third["samples"] >= 600


def test_a_resumed_run_may_meet_behaviors_for_the_first_time(run: Runs) -> None:
    run(Several(late=None), "stop.samples=200")
    summary = run(Several(late=0), "stop.samples=500", resume=True)
    assert summary["updates"]["Late"] > 0


def test_a_behavior_that_nobody_configured_ends_the_run_in_words(run: Runs) -> None:
    with pytest.raises(UserError, match=r"behavior 'Late' appeared, but behaviors names only 'Early': add behaviors"):
        run(Several(late=30), "behaviors.Early={}", "stop.samples=300")


def test_a_configured_behavior_that_stays_away_is_reported_once_and_at_the_end(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.runtime.run, "LATE_SECONDS", 0.0)
    run(Several(late=None), *LATE_SAC, "stop.samples=100")
    assert run.log.count("behaviors.Late did not appear within") == 1
    assert run.log.count("behaviors.Late did not appear in this run; the game has 'Early'") == 1


def test_episodes_count_all_behaviors_and_each_has_tags_of_its_own(run: Runs) -> None:
    run(Several(late=0), "stop.samples=300")
    board = EventAccumulator(str(run.folder)).Reload()
    assert {"episode/reward", "Early/episode/reward", "Late/episode/length", "Late/update/count"} <= set(
        board.Tags()["scalars"]
    )
    assert board.Scalars("Early/episode/reward")[-1].value == 5
    assert board.Scalars("Late/episode/reward")[-1].value == 10
    assert 5 < board.Scalars("episode/reward")[-1].value < 10


def test_one_behavior_of_unity_has_its_name_in_the_tags_too(run: Runs) -> None:
    run(Several(late=None), "stop.samples=100")
    tags = EventAccumulator(str(run.folder)).Reload().Tags()["scalars"]
    assert {"Early/episode/reward", "Early/update/count"} <= set(tags)
    assert "update/count" not in tags


def sends(step: int) -> list[Sent]:
    return [
        Sent("bubbles", 40.0 - step, "average"),
        Sent("level", float(step), "most_recent"),
        Sent("shots", 1.0, "sum"),
        Sent("heights", float(step % 7), "histogram"),
    ]


def test_what_games_send_is_summed_up_as_they_ask(run: Runs) -> None:
    toy = Several(late=None, statistics=sends)
    run(toy, "stop.samples=100")
    board = EventAccumulator(str(run.folder)).Reload()
    values = {name: board.Scalars(f"game/{name}")[-1].value for name in ("bubbles", "level", "shots")}
    assert values == {"bubbles": 40 - (toy.steps + 1) / 2, "level": toy.steps, "shots": toy.steps}
    assert board.Histograms("game/heights")[-1].histogram_value.num == toy.steps


def test_a_statistic_can_be_the_goal(run: Runs) -> None:
    goal = ["goal.metric=bubbles", "goal.at_most=10", "goal.window_samples=20", "goal.also_window_samples=[]"]
    summary = run(Several(late=None, statistics=sends), *goal, "stop.samples=5000")
    assert summary["stopped_by"] == "goal"


def test_the_summary_shows_what_each_instance_did(run: Runs) -> None:
    instances = run(Several(late=None), "stop.samples=100")["instances"]
    assert {key: len(values) for key, values in instances.items()} == {"samples": 2, "spans": 2, "busy": 2}
    assert instances["samples"] == [49, 49]


def test_the_summary_and_the_log_show_what_each_behavior_acts_with(run: Runs) -> None:
    acting = run(Several(late=30), "stop.samples=100")["acting"]
    assert acting == {"Early": "numpy on the CPU", "Late": "numpy on the CPU"}
    assert run.log.count("Behavior 'Late' acts in numpy on the CPU.") == 1


def test_a_goal_that_nothing_feeds_is_reported_and_does_not_end_the_run(run: Runs) -> None:
    goal = ["goal.metric=bubles", "goal.at_most=10"]
    summary = run(Several(late=None, statistics=sends), *goal, "stop.samples=300")
    assert summary["stopped_by"] == "samples"
    assert run.log.count("goal.metric=bubles has not been seen so far; there is bubbles, heights, length, level") == 1


@pytest.mark.parametrize("shape", [(4,), (24, 24, 3)])
def test_actor_takes_new_weights_and_goes_on_from_its_state_with_and_without_images(shape: tuple[int, ...]) -> None:
    spec = BehaviorSpec("b", (ObservationSpec("o", shape, "float32"),), 1, (3,))
    policies = [Policy(spec, NetworkSettings(hidden=[8]), "ppo") for _ in range(2)]
    size = policies[0].flat.numel()
    memory = memoryview(bytearray(weights_bytes(size)))
    ours, theirs = (PolicyActor(policy, PolicyReader(memory, size), seed) for seed, policy in enumerate(policies))
    decisions = (np.ones((3, *shape), np.float32),), np.ones((3, 0), bool), np.ones((3, 0), np.float32)
    ours.act(*decisions)
    theirs.load_state(json.loads(json.dumps(ours.state())))
    PolicyWriter(memory, size).publish(np.linspace(-1, 1, size, dtype=np.float32), 1)
    for actor in (ours, theirs):
        actor.refresh()
    for one, other in zip(ours.act(*decisions), theirs.act(*decisions)):
        np.testing.assert_array_equal(one, other)


def test_a_collector_that_goes_on_with_a_run_draws_other_noise_than_the_one_before(tmp_path: Path) -> None:
    config = compose(["env=basic", "algorithm=ppo", "env.instances=1", *PPO, *TINY], TrainConfig, "config")
    drawn = []
    for samples in (0, 0, 7):
        shared = Shared(*known_behaviors(config), instances=1)
        shared.claim("Basic-v0")
        shared.counters("Basic-v0")[[SAMPLES, BEFORE]] = samples
        with CollectorHost(config, tmp_path, shared, lambda *_, **__: None, lambda: False, None).open() as collector:
            drawn.append(collector.channels["Basic-v0"].actor.state())
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_processes_start_with_one_thread_for_numpy_unless_someone_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with one_thread():
        assert (os.environ["OPENBLAS_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("1", "3")
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    assert os.environ["MKL_NUM_THREADS"] == "3"
