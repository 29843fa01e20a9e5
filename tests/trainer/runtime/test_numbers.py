"""NaN and infinity in losses, weights and actions: named, and kept from games, buffers and checkpoints."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import algorithms.sac.update
from algorithms.sac.sac import SAC
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec
from tests.trainer.started import ORACLE, audit, saved_rows
from tests.trainer.tiny_runs import SAC as TINY
from tests.trainer.tiny_runs import newest, summary
from trainer.__main__ import main

INLINE = [*TINY, "run.mode=inline", "checkpoint.every_seconds=0.1", *ORACLE, "env.time_scale=0"]


def test_weights_that_are_none_reach_neither_actors_nor_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    update = SAC.update

    def spoiled(sac: SAC) -> None:
        update(sac)
        if sac.updates == 200:
            sac.policy.flat[3] = torch.nan

    monkeypatch.setattr(SAC, "update", spoiled)
    assert main([*INLINE, "stop.samples=5000", f"run.dir={tmp_path}"]) == 2
    assert "behavior 'Oracle-v0': weight 3 of its policy is nan after " in capsys.readouterr().err
    log = (tmp_path / "train.log").read_text()
    assert "No checkpoint is written, because weights are not finite. The one before is kept." in log
    assert summary(tmp_path)["stopped_by"] == "error"
    saved = newest(tmp_path).tensors
    assert all(np.isfinite(tensor).all() for tensor in saved.values())
    assert 0 < int(saved["Oracle-v0/updates"]) < 200


def test_losses_that_are_not_finite_are_skipped_and_reported_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    critic_loss, calls = algorithms.sac.update.critic_loss, []

    def spoiled(*args: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return critic_loss(*args) * (torch.nan if len(calls) in (50, 60) else 1.0)

    monkeypatch.setattr(algorithms.sac.update, "critic_loss", spoiled)
    options = ["algorithm.accelerate=false", "stop.samples=400", "run.log_seconds=1000"]
    assert main([*INLINE, *options, f"run.dir={tmp_path}"]) == 0
    log = (tmp_path / "train.log").read_text()
    words = "Behavior 'Oracle-v0': 2 updates skipped, because the gradient was not finite; neither was loss/critic."
    assert log.count("skipped") == 1
    assert words in log
    assert all(np.isfinite(tensor).all() for tensor in newest(tmp_path).tensors.values())


class Spoils(nn.Module):
    """A network that gives NaN in a collector's fiftieth pass."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__()
        self.layer, self.left, self.features = nn.Linear(4, 8), 50, 8

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        self.left -= 1
        seen: torch.Tensor = self.layer(inputs[0])
        return seen * torch.nan if multiprocessing.current_process().name == "collector" and not self.left else seen


def test_a_policy_that_gives_none_ends_the_run_before_a_game_or_the_buffer_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = "algorithm.network.custom=tests.trainer.runtime.test_numbers:Spoils"
    assert main([*TINY, *ORACLE, network, f"run.dir={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert "behavior 'Oracle-v0': its policy (version " in said
    assert "the log-probability nan, which no game can take" in said
    audit(tmp_path)
    rows = saved_rows(tmp_path)
    for field in ("observation_0", "log_prob", "continuous", "reward"):
        assert np.isfinite(rows.fields[field][1 : rows.head + 1]).all()
