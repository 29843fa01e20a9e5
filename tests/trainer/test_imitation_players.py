"""Players of our own that learn from demonstrations: of one behavior among two, and of one that they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from envs.spec import BehaviorSpec, ObservationSpec
from tests.trainer.imitation_toys import PPO, SAC, family, newest, summary, write_demo
from trainer.__main__ import main

PLAYERS = ["env=unity", "env.player=env=basic agents=2 late=Extra:40", *PPO, "env.instances=2"]
LATE_SAC = [
    "behaviors.default={}",
    "behaviors.Extra.algorithm.name=sac",
    "behaviors.Extra.algorithm.buffer_memory_mib=8",
    *(f"behaviors.Extra.{each}" for each in SAC[1:4]),
]
SMALL = BehaviorSpec("Other", (ObservationSpec("sight", (19,), "float32"),), branches=(3,))


@pytest.fixture
def demo(tmp_path) -> Path:
    return write_demo(tmp_path / "demos" / "right = all.demo")


def test_one_behavior_imitates_beside_another_that_does_not(tmp_path, demo):
    run = tmp_path / "run"
    extra = [
        f"behaviors.Extra.reward.gail.demos={demo}",
        "behaviors.Extra.reward.gail.updates_per_sample=0.3",
        f"behaviors.Extra.algorithm.demos={demo}",
        f"behaviors.Extra.algorithm.cloning.demos={demo}",
        "behaviors.Extra.algorithm.cloning.updates_before=30",
    ]
    assert main([*PLAYERS, *LATE_SAC, *extra, f"run.dir={run}", "stop.samples=600"]) == 0
    before = summary(run)
    assert before["stopped_by"] == "samples"
    assert all(before["updates"][name] > 0 for name in ("Basic-v0", "Extra"))
    tags = EventAccumulator(str(run)).Reload().Tags()["scalars"]
    assert {tag.split("/")[0] for tag in tags if "/gail/" in tag or "/cloning/" in tag} == {"Extra"}
    saved = newest(run).tensors
    assert int(saved["Extra/cloning/updates_left"]) == 0
    assert int(saved["Extra/rewards/gail/optimizer/attempts"]) > 0
    assert main([f"resume={run}", "stop.samples=900"]) == 0
    assert summary(run)["updates"]["Extra"] > before["updates"]["Extra"]
    assert not family()


def test_demonstrations_that_do_not_fit_end_the_run_before_it_begins(tmp_path, capsys):
    run, file = tmp_path / "run", write_demo(tmp_path / "small.demo", SMALL)
    assert main([*PLAYERS, f"behaviors.default.reward.gail.demos={file}", f"run.dir={run}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    wrong = "its observation 'sight' is float32[19], not float32[20]"
    assert error == f"error: {file} does not fit behavior 'Basic-v0': {wrong}"
    assert "Traceback" not in (run / "train.log").read_text()
    assert not list(run.glob("checkpoints/*"))
    assert not family()


def test_a_late_behavior_whose_demonstrations_do_not_fit_leaves_what_the_other_learned(tmp_path, capsys, demo):
    run, file = tmp_path / "run", tmp_path / "file.demo"
    write_demo(file, SMALL)
    late = [*LATE_SAC, f"behaviors.Extra.algorithm.demos={file}"]
    assert main([*PLAYERS, *late, f"run.dir={run}", "stop.samples=300"]) == 2
    wrong = "its observation 'sight' is float32[19], not float32[20]"
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {file} does not fit behavior 'Extra': {wrong}"
    assert summary(run)["stopped_by"] == "error"
    saved = newest(run)
    assert list(saved.state["behaviors"]) == ["Basic-v0"]
    assert saved.state["behaviors"]["Basic-v0"]["samples"] > 0
    assert not family()
    # Once they fit, it goes on.
    file.write_bytes(demo.read_bytes())
    assert main([f"resume={run}", "stop.samples=500"]) == 0
    assert set(summary(run)["updates"]) == {"Basic-v0", "Extra"}
    assert np.isfinite(newest(run).tensors["Extra/weights/policy"]).all()
