"""What an evaluation leaves in the run's folder, played by a tiny policy on toys."""

from __future__ import annotations

import json
import shutil
import statistics
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from envs.gym import video
from envs.gym.config import GymConfig
from envs.unity.config import UnityConfig
from tests.envs.gym.decoding import decoded
from tests.trainer.evaluate.test_evaluate import trained as trained_on_several
from tests.trainer.several import Several
from tests.trainer.tiny_runs import PPO, newest
from trainer.__main__ import main as train
from trainer.config.compose import load_config
from trainer.evaluate.__main__ import main
from trainer.evaluate.results import (
    Evaluation,
    PlayedEpisode,
    load_evaluations,
    mean_interval,
    save_evaluation,
    share_interval,
)

ORACLE = ["env=gym", "env.id=tests.toys:Oracle-v0", "env.workers=1", "run.mode=inline", "stop.samples=64"]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory) -> Path:
    """A run on the oracle, whose rewards tell of each action."""
    folder = tmp_path_factory.mktemp("runs") / "oracle"
    assert train([*PPO, *ORACLE, f"run.dir={folder}"]) == 0
    return folder


@pytest.fixture
def run(oracle, tmp_path) -> Path:
    return shutil.copytree(oracle, tmp_path / "run")


@pytest.fixture(scope="module")
def filmed(oracle, tmp_path_factory) -> tuple[Path, str]:
    """That run after an evaluation with videos, and what this has printed."""
    run = shutil.copytree(oracle, tmp_path_factory.mktemp("filmed") / "run")
    with redirect_stdout(StringIO()) as out:
        assert main([f"run={run}", "episodes=4", "video=true"]) == 0
    return run, out.getvalue()


def test_an_evaluation_leaves_figures_videos_and_a_point_in_tensorboard(filmed):
    run, out = filmed
    ((folder, found),) = load_evaluations(run)
    assert folder == run / "evaluation" / "deterministic" / found.checkpoint
    assert (run / "checkpoints" / found.checkpoint).is_dir()
    assert (found.samples, found.deterministic, found.seed) == (
        newest(run).state["behaviors"]["Oracle-v0"]["samples"],
        True,
        1_000_000,
    )
    assert {each.metrics["steps"] == each.length for each in found.episodes} == {True}
    assert "video_number" not in out
    names = [f"episode-{place}{video.SUFFIX}" for place in range(1, 5)]
    assert [each.video for each in found.episodes] == names
    assert sorted(path.name for path in folder.iterdir()) == [*names, "results.json"]
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]
    reward = found.figures["Oracle-v0"]["reward"]
    mean, least, most, deviation, low, high = reward
    rewards = [each.reward for each in found.episodes]
    assert (mean, least, most) == (pytest.approx(sum(rewards) / 4), min(rewards), max(rewards))
    assert deviation == pytest.approx(statistics.stdev(rewards))
    margin = pytest.approx(3.182 * deviation / 2)  # with 3 degrees of freedom
    assert (high - mean, mean - low) == (margin, margin)
    content = json.loads((folder / "results.json").read_text())
    assert (content["figures"]["Oracle-v0"]["reward"], content["wins"]) == (reward._asdict(), {})
    spread = f"mean {mean:.4g} ± {high - mean:.2g} (95 %)  deviation {deviation:.4g}"
    assert f"reward  {spread}  min {least:.4g}  max {most:.4g}" in out
    assert "wins" not in out
    events = EventAccumulator(str(folder.parent)).Reload()
    (point,) = events.Scalars("episode/reward")
    assert (point.step, point.value) == (found.samples, pytest.approx(mean))
    assert {"episode/reward_min", "episode/length_max", "episode/steps"} <= set(events.Tags()["scalars"])


def test_the_video_is_of_the_episode_that_was_scored(filmed):
    pytest.importorskip("imageio_ffmpeg")
    ((folder, found),) = load_evaluations(filmed[0])
    for episode in found.episodes:
        assert len(decoded(folder / episode.video).frames) == episode.length + 1


@pytest.mark.parametrize("deterministic", ["true", "false"])
def test_the_same_seed_plays_the_same_episodes(run, deterministic):
    command = [f"run={run}", "episodes=9", f"deterministic={deterministic}", "env.workers=2"]
    played = []
    for seed in (5, 5, 6):
        assert main([*command, f"seed={seed}"]) == 0
        ((_, found),) = load_evaluations(run)
        played.append(found.episodes)
    assert played[0] == played[1] != played[2]


def test_likeliest_and_drawn_actions_stand_side_by_side_and_the_newest_of_each_stays(filmed, tmp_path):
    run = shutil.copytree(filmed[0], tmp_path / "run")
    assert main([f"run={run}", "episodes=2", "deterministic=false"]) == 0
    assert main([f"run={run}", "episodes=2"]) == 0
    found = {each.deterministic: (folder, each) for folder, each in load_evaluations(run)}
    assert [len(found[key][1].episodes) for key in (True, False)] == [2, 2]
    assert [path.name for path in found[True][0].iterdir()] == ["results.json"]


def test_another_env_is_kept_beside_the_results(run):
    assert main([f"run={run}", "episodes=1", "env.kwargs.length=4"]) == 0
    ((_, found),) = load_evaluations(run)
    assert found.env["kwargs"] == {"length": 4}
    assert found.env["id"] == load_config(run).env.id


def test_results_that_cannot_be_read_are_left_out(run):
    assert main([f"run={run}", "episodes=1"]) == 0
    for name, content in {"cut": '{"seed": 1', "strange": "[]", "old": '{"figures": {}, "episodes": []}'}.items():
        folder = run / "evaluation" / "deterministic" / name
        folder.mkdir()
        (folder / "results.json").write_text(content)
    assert len(load_evaluations(run)) == 1


def test_unity_cannot_be_filmed(tmp_path, monkeypatch, capsys):
    folder = trained_on_several(tmp_path, Several(late=None), monkeypatch)
    capsys.readouterr()
    assert main([f"run={folder}", "video=true"]) == 2
    reported = "error: video=true: a Unity player draws in a window of its own, which cannot be filmed from here\n"
    assert capsys.readouterr().err == reported
    assert not (folder / "evaluation").exists()


def test_behaviors_have_curves_of_their_own(tmp_path, monkeypatch):
    folder = trained_on_several(tmp_path, Several(late=0), monkeypatch)
    monkeypatch.setattr(UnityConfig, "make_manager", lambda *_: Several(late=0))
    assert main([f"run={folder}", "episodes=4"]) == 0
    events = EventAccumulator(str(folder / "evaluation" / "deterministic")).Reload()
    assert [events.Scalars(f"{name}/episode/reward")[0].value for name in ("Early", "Late")] == [5, 10]


def test_an_env_that_draws_no_pictures_is_refused_by_one_message(run, capsys):
    assert main([f"run={run}", "video=true", "env=recall"]) == 2
    reported = capsys.readouterr().err
    assert reported == "error: Recall-v0 cannot be filmed: that takes the render mode rgb_array, it has none\n"
    assert load_evaluations(run) == []


def test_a_run_where_nothing_can_be_written_is_refused_before_anything_is_played(run, capsys, monkeypatch):
    (run / "evaluation").write_text("in the way")
    monkeypatch.setattr(GymConfig, "make_manager", None)
    assert main([f"run={run}", "episodes=1"]) == 2
    assert "the results of the evaluation cannot be written to" in capsys.readouterr().err


def evaluation_of(*episodes: PlayedEpisode) -> Evaluation:
    return Evaluation("000001-9", 9, True, 0, "2026-01-31T00:00:00+00:00", {}, list(episodes))


def test_wins_are_counted_where_episodes_say_whether_they_were_won(tmp_path):
    won, lost = {"is_success": 1.0, "score": 3.0}, {"success": 0.0}
    episodes = [PlayedEpisode("A", 1.0, 2, metrics) for metrics in (won, won, lost, {"score": 1.0})]
    evaluation = evaluation_of(*episodes, PlayedEpisode("B", 1.0, 2, {}))
    assert {name: wins[:2] for name, wins in evaluation.wins.items()} == {"A": (2, 3)}
    folder = save_evaluation(evaluation, tmp_path, {})
    assert json.loads((folder / "results.json").read_text())["wins"]["A"]["won"] == 2
    assert load_evaluations(tmp_path) == [(folder, evaluation)]


def test_one_episode_has_neither_deviation_nor_interval():
    assert evaluation_of(PlayedEpisode("A", 1.0, 2, {})).figures["A"]["reward"] == (1, 1, 1, None, None, None)


@pytest.mark.parametrize(("count", "quantile"), [(2, 12.706), (11, 2.228), (12, 2.201), (20, 2.093), (101, 1.984)])
def test_the_interval_of_a_mean_is_students(count, quantile):
    values = [float(each % 7) for each in range(count)]
    low, high = mean_interval(values)
    assert (low + high) / 2 == pytest.approx(statistics.mean(values))
    assert (high - low) / 2 == pytest.approx(quantile * statistics.stdev(values) / count**0.5, rel=1e-3)


def test_the_interval_of_a_share_stays_within_its_bounds():
    assert share_interval(18, 20) == pytest.approx((0.699, 0.972), abs=1e-3)
    assert share_interval(20, 20) == pytest.approx((0.839, 1), abs=1e-3)
    assert share_interval(0, 20) == pytest.approx((0, 0.161), abs=1e-3)
