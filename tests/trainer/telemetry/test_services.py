"""Weights & Biases and MLflow, with the real libraries and without a network."""

from __future__ import annotations

import pytest

from envs.spec import UserError
from tests.trainer.tiny_runs import PPO
from trainer.__main__ import main

pytestmark = pytest.mark.extras
RUN = [*PPO, "env=basic", "run.mode=inline", "run.picture_minutes=0", "run.log_samples=100"]


def test_mlflow_goes_on_in_the_same_curves_after_a_resume(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = tmp_path / "run"
    assert main([*RUN, "run.loggers=[mlflow]", "stop.samples=200", f"run.dir={run}"]) == 0
    assert main([f"resume={run}", "stop.samples=400"]) == 0
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("outstep").experiment_id])
    steps = [point.step for point in client.get_metric_history(found.info.run_id, "update/count")]
    assert steps == sorted(steps)
    assert steps[-1] >= 400 > 200 >= steps[0]
    assert found.info.status == "FINISHED"
    assert found.data.tags["overridden.stop.samples"] == "200"


def test_wandb_goes_on_with_the_same_run_after_a_resume(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / "run"
    assert main([*RUN, "run.loggers=[wandb]", "stop.samples=200", f"run.dir={run}"]) == 0
    known = (run / "wandb.id").read_text()
    assert main([f"resume={run}", "stop.samples=400"]) == 0
    assert (run / "wandb.id").read_text() == known
    parts = list((run / "wandb").glob(f"offline-run-*-{known}"))
    assert len(parts) == 2
    assert all((part / f"run-{known}.wandb").stat().st_size > 1000 for part in parts)
    assert "left off" not in (run / "train.log").read_text()


def test_wandb_without_a_key_is_refused_before_the_run(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from trainer.telemetry.writers import find_writers

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(type(wandb.api), "api_key", None)
    with pytest.raises(UserError, match="wandb has no key"):
        find_writers(["wandb"])
