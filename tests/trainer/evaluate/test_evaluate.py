"""Evaluation on a manager that stands in for Unity players."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from envs.api import InstanceEvent
from envs.spec import BehaviorSpec, Decisions, Ready, StepResults, UserError
from envs.unity.config import UnityConfig
from tests.trainer.several import Several
from trainer.config.compose import compose, load_config, save_config
from trainer.config.schema import EvaluateConfig, TrainConfig
from trainer.evaluate.__main__ import _Progress, main
from trainer.evaluate.play import PolicyAgent, play
from trainer.evaluate.results import PlayedEpisode
from trainer.runtime.start import train
from trainer.saved_policy import load_checkpoint, trained_policy

TINY = ["algorithm.network.hidden=[8]", "algorithm.buffer_memory_mib=1", "run.mode=inline", "stop.samples=100"]


def trained(folder: Path, toy: Several, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = compose(["env=unity", "env.player=env=basic", *TINY], TrainConfig, "config")
    monkeypatch.setattr(UnityConfig, "make_manager", lambda *_: toy)
    monkeypatch.setattr(UnityConfig, "check", lambda env: None)
    save_config(config, folder)
    train(config, folder)
    return folder


def test_episodes_are_reported_by_behavior_where_there_are_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path, Several(late=0), monkeypatch)
    asked = []

    def make(env, setup):
        asked.append((env.instances, setup.seed, setup.logs))
        return Several(late=0)

    monkeypatch.setattr(UnityConfig, "make_manager", make)
    capsys.readouterr()
    assert main([f"run={folder}", "episodes=4", "env.instances=2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert asked == [(2, 1_000_000, folder / "players" / "evaluation")]
    assert out[0].endswith(": 4 episodes")
    assert out[1] == "Early: 4 episodes"
    assert " ".join(out[2].split()) == "reward mean 5 ± 0 (95 %) deviation 0 min 5 max 5"
    assert out[4] == "Late: 4 episodes"
    assert " ".join(out[5].split()) == "reward mean 10 ± 0 (95 %) deviation 0 min 10 max 10"


class Uneven:
    """One instance whose agent 0 ends its episodes after each step, and agent 1 after its fifth."""

    instances = 1
    specs: ClassVar = {"Toy": None}

    def __init__(self) -> None:
        self.events: deque[InstanceEvent] = deque()
        self.turn = 0

    def recv(self, timeout: float | None) -> dict[str, Ready]:
        agents = np.array([0, 1])
        closing = agents if self.turn else agents[:0]
        ended = np.array([True, self.turn % 5 == 0])[: len(closing)]
        none: tuple[np.ndarray, ...] = ()
        results = StepResults(
            closing, closing, np.ones(len(closing), np.float32), ended, ended & False, none, np.zeros((0, 0), bool)
        )
        self.turn += 1
        return {"Toy": Ready(results, Decisions(agents * 0, agents, none, np.zeros((2, 0), bool)), agents[:0], {})}

    def send(self, *_: object) -> None:
        pass


def test_episodes_that_begin_first_count_however_long_they_are() -> None:
    played = play(cast(Any, Uneven()), lambda _: lambda *_: (np.zeros((2, 0)), np.zeros((2, 0))), 3)
    assert [len(each.rewards) for each in played] == [1, 1, 5]


def test_a_behavior_that_the_checkpoint_does_not_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path, Several(late=None), monkeypatch)
    monkeypatch.setattr(UnityConfig, "make_manager", lambda *_: Several(late=3))
    assert main([f"run={folder}", "episodes=4"]) == 2
    assert "holds no behavior 'Late'; it has Early" in capsys.readouterr().err


def test_another_env_is_checked_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path, Several(late=None), monkeypatch)
    capsys.readouterr()

    def refuse(env):
        raise UserError(f"no {env.executable}")

    monkeypatch.setattr(UnityConfig, "check", refuse)
    assert main([f"run={folder}", "env=unity", "env.executable=Builds/Game"]) == 2
    assert capsys.readouterr().err == "error: no Builds/Game\n"


def test_evaluations_own_env_is_whole() -> None:
    config = compose(["run=a", "env=basic"], EvaluateConfig, "evaluate")
    assert config.env is not None
    assert config.env.instances == 16


def test_a_policy_of_other_networks_is_refused_by_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained(tmp_path, Several(late=0), monkeypatch)
    config, checkpoint = load_config(folder), load_checkpoint(str(folder))
    spec = BehaviorSpec.from_dict(next(iter(checkpoint.state["behaviors"].values()))["spec"])
    config.algorithm.network.hidden.append(7)
    with pytest.raises(UserError, match=r"numbers, by the run's settings it would have .*: it was saved by another"):
        trained_policy(config, checkpoint, spec)


def test_progress_is_said_in_one_line_on_a_terminal_and_now_and_then_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = PlayedEpisode("A", 2.0, 3, {})
    progress = _Progress(4)
    progress.add(one)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("trainer.evaluate.__main__._PROGRESS_SECONDS", 0)
    progress.add(PlayedEpisode("B", 4.0, 3, {}))
    progress.end()
    assert capsys.readouterr().err == "2 of 8 episodes, mean reward 3\n"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    progress = _Progress(4)
    progress.add(one)
    progress.end()
    assert capsys.readouterr().err == "\r1 of 4 episodes, mean reward 2\x1b[K\r\x1b[K"


def test_a_policy_that_plays_leaves_cores_to_the_games(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    PolicyAgent(cast(Any, None), seed=0, deterministic=True)
    assert asked == [1]
