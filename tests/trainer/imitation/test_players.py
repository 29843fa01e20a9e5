"""Several behaviors and demonstrations: of one among two, and of one that they do not fit."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from algorithms.imitation.cloning import Cloning
from envs.spec import BehaviorSpec, ObservationSpec
from envs.unity.config import UnityConfig
from tests.trainer.imitation.toys import family, write_demo
from tests.trainer.several import SPECS, Several
from tests.trainer.tiny_runs import PPO, SAC, newest, summary
from trainer.__main__ import main
from trainer.config.compose import compose, save_config
from trainer.config.schema import TrainConfig
from trainer.runtime.start import train

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
    seen = summary(run)
    assert seen["stopped_by"] == "samples"
    assert all(seen["updates"][name] > 0 for name in ("Basic-v0", "Extra"))
    tags = EventAccumulator(str(run)).Reload().Tags()["scalars"]
    assert {tag.split("/")[0] for tag in tags if "/gail/" in tag or "/cloning/" in tag} == {"Extra"}
    saved = newest(run).tensors
    assert int(saved["Extra/cloning/updates_left"]) == 0
    assert int(saved["Extra/rewards/gail/optimizer/steps"]) > 0
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


def test_what_a_late_behavior_has_cloned_is_kept_by_an_interrupt(tmp_path, monkeypatch):
    run, toys, made = tmp_path / "run", [Several(late=3), Several(late=3)], []
    update, stop_at = Cloning.update, 25

    def interrupted(self):
        made.append([toy.steps for toy in toys])
        if len(made) == stop_at:
            signal.raise_signal(signal.SIGINT)
        update(self)

    monkeypatch.setattr(Cloning, "update", interrupted)
    monkeypatch.setattr(UnityConfig, "make_manager", lambda *_: toys[len(made) > 0])
    file = write_demo(tmp_path / "late.demo", SPECS["Late"])
    late = [f"behaviors.Late.algorithm.cloning.demos={file}", "behaviors.Late.algorithm.cloning.updates_before=50"]
    words = ["env=unity", *PPO, "behaviors.default={}", *late, "stop.samples=100"]
    config = compose([*words, "run.mode=inline"], TrainConfig, "config")
    run.mkdir()
    save_config(config, run)

    assert train(config, run) == 130
    assert 25 <= len(made) < 50
    assert set(newest(run).state["behaviors"]) == {"Early", "Late"}
    assert int(newest(run).tensors["Late/cloning/updates_left"]) == 50 - len(made)
    assert train(replace(config, resume=str(run)), run) == 0
    assert len(made) == 50
    # Games stood still meanwhile, at the step in which it first appeared.
    assert {tuple(steps) for steps in made} == {(4, 0), (4, 4)}
    assert newest(run).state["behaviors"]["Late"]["samples"] > 0
