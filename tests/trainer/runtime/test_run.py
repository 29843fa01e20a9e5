"""Whole runs on toy environments: what the system as such promises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from algorithms.sac import sac
from envs.spec import UserError
from tests.trainer.started import END_SECONDS, interrupted_once
from tests.trainer.tiny_runs import PPO, SAC, newest, same_end, summary
from trainer.__main__ import main
from trainer.checkpoint import CheckpointStore
from trainer.config.compose import load_config
from trainer.evaluate.__main__ import main as evaluate_main
from trainer.evaluate.play import evaluate
from trainer.saved_policy import load_checkpoint

CARTPOLE = ["env=gym", "env.id=CartPole-v1"]
PENDULUM = ["env=gym", "env.id=Pendulum-v1"]
INLINE = ["env.workers=1", "run.mode=inline"]


REMEMBER = ["algorithm.network.memory.cell=lstm", "algorithm.network.memory.size=8"]
REMEMBER += ["algorithm.network.memory.sequence_length=6", "algorithm.network.memory.burn_in=2"]
CURIOUS = ["reward.curiosity.strength=0.1", "reward.rnd.strength=0.1", "reward.rnd.updates_per_sample=0.2"]


def test_a_run_without_a_sample_does_not_end_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    player = ["env=unity", "env.player=env=basic fault=die:4"]
    assert main([*player, *PPO, "stop.seconds=0.5", f"run.dir={tmp_path / 'run'}"]) == 2
    assert "the 0.5 s of stop.seconds were over before any agent had made a step" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [*PPO, *CARTPOLE],
        [*SAC, *CARTPOLE],
        [*SAC, *PENDULUM],
        [*PPO, *CARTPOLE, *REMEMBER, *CURIOUS],
        [*SAC, *CARTPOLE, *REMEMBER, *CURIOUS],
        [*SAC, *PENDULUM, *REMEMBER, *CURIOUS, "algorithm.n_step=3"],
    ],
    ids=["ppo", "sac", "sac-continuous", "ppo-all", "sac-all", "sac-continuous-all"],
)
def test_inline_resume_is_bit_for_bit(tmp_path: Path, arguments: list[str]) -> None:
    schedule = ["algorithm.learning_rate_end=1e-5", "algorithm.schedule_samples=1000"]
    arguments = [*arguments, *schedule, "run.mode=inline"]
    assert main([*arguments, f"run.dir={tmp_path / 'whole'}", "stop.samples=280"]) == 0
    # After 65 or 66 updates of SAC, more than actors have, or 2 of PPO, which they have.
    assert main([*arguments, f"run.dir={tmp_path / 'parts'}", "stop.samples=176"]) == 0
    saved = newest(tmp_path / "parts").tensors
    updates, version = (
        int(next(value for name, value in saved.items() if name.endswith(end)))
        for end in ("/updates", "/published/version")
    )
    every = sac.SAC.publish_every if "algorithm=sac" in arguments else 1
    assert version == updates - updates % every + 1
    assert every == 1 or updates % every
    assert main([f"resume={tmp_path / 'parts'}", "stop.samples=280"]) == 0
    whole = same_end(tmp_path / "whole", tmp_path / "parts").tensors
    learned = ["/updates", *(["/weights/temperatures"] if "algorithm=sac" in arguments else [])]
    for name in learned:
        (key,) = (key for key in whole if key.endswith(name) and "rewards" not in key)
        assert (whole[key] != saved[key]).all()


def test_asynchronous_resume_forgets_nothing_but_open_episodes(tmp_path: Path) -> None:
    assert main([*SAC, *CARTPOLE, f"run.dir={tmp_path}", "stop.samples=300"]) == 0
    before, saved = summary(tmp_path), newest(tmp_path)
    assert main([f"resume={tmp_path}", "stop.samples=600"]) == 0
    after, resumed = summary(tmp_path), newest(tmp_path)
    assert 300 <= before["samples"] < 306
    assert 600 <= after["samples"] < 606
    assert after["episodes"] > before["episodes"]
    assert after["seconds"] > before["seconds"]
    assert resumed.state["collector"]["manager"]["begun"] > saved.state["collector"]["manager"]["begun"]
    replay = resumed.replay["CartPole-v1"]
    assert int(replay.index["samples"]) == after["samples"]
    assert int(replay.index["oldest"]) == 1
    updates = [int(checkpoint.tensors["CartPole-v1/updates"]) for checkpoint in (saved, resumed)]
    assert 0 < updates[0] < updates[1] <= 0.5 * (after["samples"] - 40) + 1


def test_resume_without_the_replay_collects_anew_and_owes_nothing(tmp_path: Path) -> None:
    arguments = [*SAC, *CARTPOLE, *INLINE, f"run.dir={tmp_path}", "checkpoint.replay=false"]
    assert main([*arguments, "stop.samples=300"]) == 0
    samples, updates = summary(tmp_path)["samples"], int(newest(tmp_path).tensors["CartPole-v1/updates"])
    assert main([f"resume={tmp_path}", f"stop.samples={samples + 20}"]) == 0
    new = summary(tmp_path)["samples"] - samples
    assert int(newest(tmp_path).tensors["CartPole-v1/updates"]) - updates <= max(0, 0.5 * (new - 40)) + 1
    assert newest(tmp_path).replay == {}


def test_a_run_with_masks_is_resumed(tmp_path: Path) -> None:
    masked = [*SAC, "env=gym", "env.id=tests.toys:Mixed-v0", *INLINE, "checkpoint.replay=false"]
    assert main([*masked, f"run.dir={tmp_path}", "stop.samples=60"]) == 0
    assert main([f"resume={tmp_path}", "stop.samples=90"]) == 0
    assert summary(tmp_path)["samples"] >= 90


def test_resuming_a_run_that_has_ended_changes_nothing(tmp_path: Path) -> None:
    assert main([*PPO, *CARTPOLE, *INLINE, f"run.dir={tmp_path}", "stop.samples=100"]) == 0
    before, checkpoints = summary(tmp_path), CheckpointStore(tmp_path / "checkpoints").all()
    assert main([f"resume={tmp_path}"]) == 0
    assert summary(tmp_path) == before
    assert CheckpointStore(tmp_path / "checkpoints").all() == checkpoints


def test_init_takes_the_weights_and_nothing_else(tmp_path: Path) -> None:
    inline = [*PPO, *CARTPOLE, *INLINE]
    assert main([*inline, f"run.dir={tmp_path / 'a'}", "stop.samples=200"]) == 0
    assert main([*inline, f"run.dir={tmp_path / 'b'}", f"init={tmp_path / 'a'}", "stop.samples=3"]) == 0
    a, b = newest(tmp_path / "a"), newest(tmp_path / "b")
    np.testing.assert_array_equal(a.tensors["CartPole-v1/weights/policy"], b.tensors["CartPole-v1/weights/policy"])
    assert int(b.tensors["CartPole-v1/updates"]) == 0
    assert not b.tensors["CartPole-v1/optimizer/mean"].any()


def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_starts(tmp_path: Path, capsys) -> None:
    toy = ["env=gym", "env.id=tests.toys:Faulty-v0", "env.kwargs.fault=none"]
    assert main([*SAC, *toy, *INLINE, f"run.dir={tmp_path / 'a'}", "stop.samples=3"]) == 0
    capsys.readouterr()
    for other, words in [
        (CARTPOLE, "holds no behavior 'CartPole-v1'; it has Faulty-v0"),
        ([*toy, "env.wrappers=[tests.toys:Flags]"], "uint8[3], not float32[4]"),
    ]:
        assert main([*SAC, *other, f"run.dir={tmp_path / 'b'}", f"init={tmp_path / 'a'}"]) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "b").exists()


def test_lockstep_lag_zero_uses_every_sample_with_the_policy_that_made_it(tmp_path: Path) -> None:
    arguments = [*PPO, *CARTPOLE, "env.stepping=lockstep", "algorithm.max_lag=0", f"run.dir={tmp_path}"]
    assert main([*arguments, "stop.samples=700"]) == 0
    assert summary(tmp_path)["dropped"] == {"CartPole-v1": 0}
    assert summary(tmp_path)["updates"]["CartPole-v1"] >= 9


def test_a_run_ends_at_its_goal_and_says_when(tmp_path: Path) -> None:
    goal = ["goal.metric=length", "goal.at_least=1", "goal.window_samples=50", "goal.also_window_samples=[20]"]
    assert main([*PPO, *CARTPOLE, *INLINE, *goal, f"run.dir={tmp_path}", "stop.samples=100000"]) == 0
    seen = summary(tmp_path)
    assert seen["stopped_by"] == "goal"
    assert 50 <= seen["goal_samples"] < 1000
    assert 20 <= seen["goal_windows"]["20"]["samples"] <= seen["goal_samples"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_pictures_of_play_lie_in_the_runs_folder(tmp_path: Path) -> None:
    pictured = ["env=gym", "env.id=tests.toys:Oracle-v0", "run.picture_minutes=0.001"]
    with interrupted_once(lambda: list((tmp_path / "pictures").glob("*.gif"))):
        assert main([*PPO, *pictured, f"run.dir={tmp_path}"]) == 130


def test_evaluation_does_not_depend_on_how_instances_are_spread(tmp_path: Path) -> None:
    assert main([*PPO, *CARTPOLE, *INLINE, f"run.dir={tmp_path}", "stop.samples=100"]) == 0
    config, checkpoint = load_config(tmp_path), load_checkpoint(str(tmp_path))
    rewards = []
    for workers in (1, 3):
        spread = replace(config, env=replace(config.env, workers=workers))
        rewards.append(sorted(p.reward for p in evaluate(spread, checkpoint, 7, seed=5)))
    assert rewards[0] == rewards[1]
    assert len(rewards[0]) == 7


def test_unity_players_train_two_behaviors_and_are_resumed_and_evaluated(tmp_path: Path, capsys) -> None:
    player = ["env=unity", "env.player=env=basic agents=2 late=Extra:40", "env.instances=2"]
    late = ["algorithm.name=sac", "algorithm.buffer_memory_mib=8", *SAC[1:4]]
    behaviors = ["behaviors.default={}", *(f"behaviors.Extra.{override}" for override in late)]
    assert main([*PPO, *player, *behaviors, f"run.dir={tmp_path}", "stop.samples=600"]) == 0
    before = summary(tmp_path)
    assert set(before["updates"]) == {"Basic-v0", "Extra"}
    assert all(updates > 0 for updates in before["updates"].values())
    assert list((tmp_path / "players").glob("player_[01].log"))
    assert main([f"resume={tmp_path}", "stop.samples=900"]) == 0
    assert summary(tmp_path)["updates"]["Extra"] > before["updates"]["Extra"]
    capsys.readouterr()
    assert evaluate_main([f"run={tmp_path}", "episodes=6"]) == 0
    assert ": 6 episodes" in capsys.readouterr().out


def test_an_env_that_keeps_failing_ends_the_run_with_its_traceback_and_a_checkpoint(tmp_path: Path, capsys) -> None:
    faulty = ["env=gym", "env.id=tests.toys:Faulty-v0", "env.restarts=1", "env.kwargs.fault=step"]
    assert main([*PPO, *faulty, f"run.dir={tmp_path}"]) == 2
    assert "the game has crashed" in capsys.readouterr().err
    assert newest(tmp_path).tensors
    assert summary(tmp_path)["stopped_by"] == "error"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_terminal_that_is_closed_ends_a_run_which_saves_and_leaves_nothing_behind(tmp_path: Path) -> None:
    run, family = started(tmp_path)
    os.killpg(run.pid, signal.SIGHUP)
    assert run.wait(END_SECONDS) == 128 + signal.SIGHUP
    assert summary(tmp_path)["stopped_by"] == "interrupted"
    assert newest(tmp_path).tensors
    assert not psutil.wait_procs(family, timeout=END_SECONDS)[1]


def started(folder: Path) -> tuple[subprocess.Popen, list[psutil.Process]]:
    """A run in a process of its own that has begun to learn, and all its descendants."""
    command = [sys.executable, "-m", "trainer", *SAC, *CARTPOLE, f"run.dir={folder}", "checkpoint.every_seconds=0.5"]
    run = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": "."}, start_new_session=True
    )
    while not any((folder / "checkpoints").glob("0*")):
        assert run.poll() is None
        time.sleep(0.1)
    family = psutil.Process(run.pid).children(recursive=True)
    assert len(family) >= 2
    return run, family


def test_user_errors_are_not_lost_between_processes() -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        load_checkpoint("/nonexistent")
