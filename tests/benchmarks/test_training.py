import json
from types import SimpleNamespace

import pytest

from benchmarks import training
from benchmarks.tasks import LAWS, Task
from envs.gym.adapter import GymEnv
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.checks import check_train

SUMMARY = {
    "samples": 1000,
    "seconds": 12.0,
    "samples_per_second": 100.0,
    "env_utilization": 0.9,
    "updates_achieved": {"B": 0.99},
    "dropped": {"B": 100},
    "layout": "16 instances in 4 workers",
}


def task(law: str) -> Task:
    return Task(GymEnv(LAWS[law].id, LAWS[law].kwargs, time_scale=LAWS[law].time_scale), 4, seed=1)


def test_dropped_samples_count_as_lost(monkeypatch):
    monkeypatch.setattr(training, "train", lambda overrides, folder: SUMMARY)
    figures = training.learn(task("lognormal"), "ppo", 5.0, lockstep=False)
    assert figures["samples"] == 900
    assert figures["samples_per_second"] == pytest.approx(90.0)
    assert figures["env_utilization"] == pytest.approx(0.81)
    assert (figures["dropped"], figures["achieved_updates_ratio"]) == (100, 0.99)


def test_law_without_durations_has_no_supply(monkeypatch):
    monkeypatch.setattr(training, "train", lambda overrides, folder: SUMMARY)
    assert training.learn(task("none"), "sac", 5.0, lockstep=False)["env_utilization"] is None


@pytest.mark.parametrize("lockstep", [False, True])
@pytest.mark.parametrize("learner", ["ppo", "sac"])
@pytest.mark.parametrize("law", LAWS)
def test_every_law_composes_with_every_learner(law, learner, lockstep):
    config = compose(training._overrides(task(law), learner, 5.0, lockstep), TrainConfig, "config")
    check_train(config)
    assert config.algorithm.name == learner
    assert config.env.stepping.name == ("lockstep" if lockstep else "async")
    assert (config.env.instances, config.env.time_scale, config.stop.seconds) == (4, LAWS[law].time_scale, 5.0)
    assert config.goal.metric is None
    if law == "lognormal":
        assert config.env.kwargs == {"law": "lognormal"}
        assert config.algorithm.network.hidden == [64, 64]
        if learner == "sac":
            assert (config.algorithm.batch_size, config.algorithm.updates_per_sample) == (64, 1.0)


def test_trainer_runs_in_its_folder_and_its_summary_comes_back(monkeypatch, tmp_path):
    seen = []

    def fake(command, **kwargs):
        seen.append(command)
        (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(training.subprocess, "run", fake)
    assert training.train(["seed=1"], tmp_path) == SUMMARY
    assert seen[0][1:] == ["-m", "trainer", "seed=1", f"run.dir={tmp_path}"]


def test_run_that_fails_is_not_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(training.subprocess, "run", lambda command, **kwargs: SimpleNamespace(returncode=2))
    with pytest.raises(RuntimeError, match="status 2"):
        training.train([], tmp_path)
