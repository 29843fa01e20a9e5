"""Whole runs: one that cannot learn says so, and those that learn say nothing."""

from dataclasses import replace

import pytest

from tests.trainer.tiny_runs import summary
from trainer.__main__ import main
from trainer.telemetry import diagnosis

INLINE = ["run.mode=inline", "run.log_seconds=0.2", "run.picture_minutes=0", "run.loggers=[]"]
CAMERA = "Observation 'camera' never changes: look at what the environment sends (a camera that does not render?), "
VALUES = "Values explain nothing of the returns (explained variance "


@pytest.fixture(autouse=True)
def sooner(monkeypatch):
    """Lets rules speak up after a tenth of the samples and half of the updates."""
    rules = (replace(rule, samples=rule.samples // 10, updates=rule.updates // 2) for rule in diagnosis.RULES)
    monkeypatch.setattr(diagnosis, "RULES", tuple(rules))


@pytest.mark.parametrize(("camera", "words", "samples"), [("true", CAMERA, 3000), ("false", VALUES, 9000)])
def test_a_run_that_cannot_learn_says_why_in_its_log_and_its_summary(tmp_path, capfd, camera, words, samples):
    learner = ["algorithm=ppo", "algorithm.rollout_size=512", "algorithm.epochs=2", "algorithm.network.hidden=[16]"]
    game = ["env.id=tests.toys:Noise-v0", f"env.kwargs={{camera: {camera}}}", "env.instances=4"]
    assert main([*learner, *game, *INLINE, f"stop.samples={samples}", f"run.dir={tmp_path}/run"]) == 0
    (sentence,) = summary(tmp_path / "run")["diagnosis"].values()
    assert sentence.startswith(words)
    lines = [line for line in capfd.readouterr().err.splitlines() if words in line]
    assert [line[: len(words)] for line in lines[:-1]] == [words]
    assert lines[-1].startswith(f"At the end of the run: {words}")


@pytest.mark.parametrize(("experiment", "samples"), [("basic_ppo", 8000), ("basic_sac", 5000)])
def test_a_run_that_learns_says_nothing(tmp_path, capfd, experiment, samples):
    assert main([f"+experiment={experiment}", *INLINE, f"stop.samples={samples}", f"run.dir={tmp_path}/run"]) == 0
    written = summary(tmp_path / "run")
    assert written["diagnosis"] == {}
    assert written["episode_reward_mean"] > 0.5
    assert "At the end of the run" not in capfd.readouterr().err
