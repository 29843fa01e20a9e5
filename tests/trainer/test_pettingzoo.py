"""Whole runs on games of several agents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.trainer.tiny_runs import PPO, SAC, newest, same_end, summary
from trainer.__main__ import main
from trainer.evaluate.__main__ import main as evaluate_main

MEETING = ["env=pettingzoo", "env.id=tests.games:Meeting", "env.behaviors={red_*: Red, *: Other}"]
NIM = ["env=pettingzoo", "env.id=tests.games:Nim"]


@pytest.mark.parametrize(
    "arguments", [[*PPO, *MEETING], [*PPO, *NIM], [*SAC, *NIM]], ids=["ppo-parallel", "ppo-turns", "sac-turns"]
)
def test_inline_resume_is_bit_for_bit(tmp_path: Path, arguments: list[str]) -> None:
    arguments = [*arguments, "run.mode=inline", "env.workers=1"]
    assert main([*arguments, f"run.dir={tmp_path / 'whole'}", "stop.samples=280"]) == 0
    assert main([*arguments, f"run.dir={tmp_path / 'parts'}", "stop.samples=176"]) == 0
    assert main([f"resume={tmp_path / 'parts'}", "stop.samples=280"]) == 0
    same_end(tmp_path / "whole", tmp_path / "parts")


def test_two_behaviors_learn_at_once_and_are_evaluated(tmp_path: Path) -> None:
    assert main([*PPO, *MEETING, "run.picture_minutes=0.001", f"run.dir={tmp_path}", "stop.samples=400"]) == 0
    assert summary(tmp_path)["samples"] >= 400
    assert {name.split("/")[0] for name in newest(tmp_path).tensors} >= {"Red", "Other"}
    assert {path.name for path in (tmp_path / "models").iterdir()} >= {"Red.onnx", "Other.onnx"}
    assert evaluate_main([f"run={tmp_path}", "episodes=4"]) == 0
    found = [json.loads(path.read_text()) for path in (tmp_path / "evaluation").rglob("results.json")]
    assert {each["behavior"] for one in found for each in one["episodes"]} == {"Red", "Other"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["env.behaviors={red_*: Red}"], "env.behaviors: no pattern fits agent blue_0; there is red_*"),
        (["env.teams={green_*: 1}"], "env.teams: no agent is called green_*; there are red_0, red_1, blue_0, late_0"),
        (["env.groups={red_*: -1}"], "env.groups.red_*=-1 must lie between 0 and"),
        (["+env.kwargs.fault=unlike"], "agents 'red_0' and 'red_1' have one behavior, 'red', and other spaces"),
        (["+env.kwargs.fault=vanishes"], "has left `agents`, and was neither terminated nor truncated"),
        (["+env.kwargs.wrong=1"], "Environment 'tests.games:Meeting' (env.kwargs) cannot be made"),
        (["env.id=tests.toys:Oracle"], "Oracle is no PettingZoo environment: neither a ParallelEnv nor an AECEnv"),
        (["env.id=tests.games:Nowhere"], "module tests.games has no Nowhere"),
        (["env.id=tests.seats"], "No module named 'tests.seats'"),
        (["env.id=tests.games"], "this module has neither parallel_env nor env"),
    ],
)
def test_what_does_not_fit_is_one_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, settings: list[str], message: str
) -> None:
    arguments = [*PPO, "env=pettingzoo", "env.id=tests.games:Meeting", *settings, "stop.samples=200"]
    assert main([*arguments, f"run.dir={tmp_path}/run"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("changes", "agent 'red_0' has changed its spaces, from [Box("),
        ("stranger", "agent 'stranger' has appeared, which is none of possible_agents"),
    ],
)
def test_a_game_that_breaks_its_word_is_named(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, fault: str, message: str
) -> None:
    settings = ["env.id=tests.games:Meeting", f"+env.kwargs.fault={fault}", "env.restarts=0"]
    assert main([*PPO, "env=pettingzoo", *settings, "stop.samples=200", f"run.dir={tmp_path / 'run'}"]) == 2
    assert message in capfd.readouterr().err


def test_videos_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*PPO, *NIM, f"run.dir={tmp_path}", "stop.samples=70"]) == 0
    assert evaluate_main([f"run={tmp_path}", "episodes=2", "video=true"]) == 2
    assert "video=true: tests.games:Nim cannot be filmed" in capsys.readouterr().err
