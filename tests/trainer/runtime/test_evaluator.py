"""Evaluation while training: what it logs, which weights are the best by it, and that its failures end no run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.trainer.tiny_runs import PPO
from trainer.__main__ import main
from trainer.checkpoint import CheckpointStore
from trainer.telemetry.metrics_file import read_metrics

RUN = [*PPO, "env=gym", "env.workers=1", "run.mode=inline", "run.picture_minutes=0", "run.loggers=[]"]
EVALUATE = ["evaluate.every_samples=100", "evaluate.episodes=2", "stop.samples=300"]


def test_evaluations_are_logged_at_their_samples_and_decide_what_is_best(tmp_path):
    run = tmp_path / "run"
    assert main([*RUN, "env.id=CartPole-v1", *EVALUATE, f"run.dir={run}"]) == 0
    samples, _, rewards = read_metrics(run).points("evaluation/reward")
    assert [int(at) // 100 for at in samples] == [1, 2, 3][: len(samples)]
    assert len(samples) >= 2
    best = CheckpointStore(run / "checkpoints").load_best()
    assert best.state["mean"] == pytest.approx(max(rewards), rel=1e-6)
    at_best = int(samples[int(np.argmax(rewards))])
    assert best.state["behaviors"]["CartPole-v1"]["samples"] == at_best
    assert (run / "models" / "CartPole-v1.onnx").exists()
    assert "Evaluation after" in (run / "train.log").read_text()
    assert json.loads((run / "summary.json").read_text())["samples"] >= 300


def test_without_evaluations_no_process_is_started(tmp_path):
    run = tmp_path / "run"
    assert main([*RUN, "env.id=CartPole-v1", "stop.samples=60", f"run.dir={run}"]) == 0
    assert not any(name.startswith("evaluation/") for name in read_metrics(run).found)


def test_an_evaluation_that_fails_ends_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.runtime.evaluator.play_evaluations", end_at_once)
    run = tmp_path / "run"
    assert main([*RUN, "env.id=CartPole-v1", *EVALUATE, "stop.samples=500", f"run.dir={run}"]) == 0
    log = (run / "train.log").read_text()
    assert log.count("samples failed: its process ended (exit status 3) Training goes on.") == 3
    assert log.count("There are no further evaluations.") == 1


def end_at_once(*_):
    raise SystemExit(3)
