"""What a run logs: where its time goes, and what it does on a disk that refuses."""

import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from envs.parameters import Parameters
from envs.process import whole_files
from envs.spec import Statistic, UserError
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.curriculum import Curriculum
from trainer.telemetry.console import Progress
from trainer.telemetry.run_logger import RunLogger
from trainer.telemetry.statistics import Episode

CARTPOLE = ["env=gym", "env.id=CartPole-v1"]


@contextmanager
def logging(folder, *overrides, state=None, curriculum=None):
    """A run logger with the progress that it shows."""
    with Progress("title", folder) as progress:
        config = compose([*(overrides or CARTPOLE)], TrainConfig, "config")
        made = RunLogger(config, folder, 0, state, progress, curriculum=curriculum)
        yield made
        made.close()


@pytest.fixture
def run_logger(tmp_path):
    with logging(tmp_path) as made:
        yield made


FULL = "[Errno 28] No space left on device"


def refuse(file, data):
    """Writes a file in part, as a disk that is full does."""
    file.write_bytes(data[:1])
    raise OSError(28, "No space left on device")


def test_a_summary_that_cannot_be_written_does_not_end_a_run_and_leaves_what_was_there(
    run_logger, tmp_path, monkeypatch
):
    (tmp_path / "summary.json").write_text("before")
    monkeypatch.setattr(whole_files, "write_flushed", refuse)
    run_logger.finish(100, {}, "samples")
    assert (tmp_path / "summary.json").read_text() == "before"
    assert not (tmp_path / ".aside-summary.json").exists()
    log = (tmp_path / "train.log").read_text()
    assert f"summary.json could not be written: {FULL}. An earlier one is kept." in log
    assert "The run ended (samples) after 100 samples" in log


def test_the_summary_has_the_keys_that_users_count_on(run_logger, tmp_path):
    figures = {"update/count": 7, "update/achieved": 0.5, "update/dropped_samples": 3}
    run_logger.add_episodes("A", [Episode(0, 90, 0.5, 9, {})])
    run_logger.finish(100, {"A": SimpleNamespace(seconds=1.0, updates=7, metrics=lambda: figures)}, "samples")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary.pop("seconds") > 0
    assert summary == {
        "samples": 100,
        "samples_per_second": 0.0,
        "env_utilization": None,
        "episodes": 1,
        "episode_reward_mean": 0.5,
        "ratings": {},
        "stopped_by": "samples",
        "goal_samples": None,
        "goal_seconds": None,
        "goal_windows": {},
        "updates": {"A": 7},
        "updates_achieved": {"A": 0.5},
        "dropped": {"A": 3},
        "diagnosis": {},
        "acting": {},
        "layout": "",
        "instances": {"samples": [], "spans": [], "busy": []},
    }
    assert not list(tmp_path.glob(".aside*"))


def test_a_log_on_a_full_disk_ends_nothing_and_prints_no_traceback(tmp_path, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is full")
    (tmp_path / "train.log").symlink_to("/dev/full")
    with logging(tmp_path, "env=basic", "algorithm=ppo") as run_logger:
        run_logger.finish(100, {}, "samples")
    assert capsys.readouterr().err.startswith("The run ended (samples) after 100 samples")


def test_updates_skipped_before_a_resume_are_not_reported_again(tmp_path):
    with logging(tmp_path) as before:
        before._warn_of_skipped("A", {"update/skipped_non_finite": 2.0})
        state = json.loads(json.dumps(before.state()))
    with logging(tmp_path, state=state) as later:
        later._warn_of_skipped("A", {"update/skipped_non_finite": 2.0})
        later._warn_of_skipped("A", {"update/skipped_non_finite": 5.0})
    warnings = [line for line in (tmp_path / "train.log").read_text().splitlines() if "skipped" in line]
    assert [line.partition("Behavior 'A': ")[2][:9] for line in warnings] == ["2 updates", "3 updates"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_left_out_and_reported_once_by_name(run_logger, tmp_path, value):
    run_logger.add_episodes("A", [Episode(0, n, 1.0, 9, {"wins": value, "shots": 2.0}) for n in (1, 2, 3)])
    run_logger.add_episodes("A", [Episode(0, 4, 1.0, 9, {"wins": 0.5})])
    sent = (("wins", 1.0), ("Heat", value), ("Heat", 3.0))
    run_logger.add_game_statistics(5, [Statistic(key, each, "average") for key, each in sent])
    assert run_logger._episodes.scalars() == {
        "episode/wins": 0.5,
        "episode/shots": 2.0,
        "episode/reward": 1.0,
        "episode/length": 9.0,
    }
    assert run_logger._game.take()[0] == {"game/wins": 1.0, "game/Heat": 3.0}
    log = (tmp_path / "train.log").read_text()
    assert log.count("no finite number") == 2
    assert f"wins is {value} in the info of a game" in log
    assert f"Heat is {value} in the statistics of a game" in log


def test_a_goal_that_is_not_finite_is_an_error_by_name(tmp_path):
    with logging(tmp_path, *CARTPOLE, "goal.metric=wins", "goal.at_least=1") as logger:
        logger.add_episodes("A", [Episode(0, 1, 1.0, 9, {"wins": 0.5, "shots": float("nan")})])
        with pytest.raises(UserError, match=r"goal\.metric=wins is nan in the info of a game"):
            logger.add_episodes("A", [Episode(0, 2, 1.0, 9, {"wins": float("nan")})])


def test_what_ends_a_run_goes_by_episodes_that_began_in_the_last_lessons(tmp_path):
    lessons = [{"value": 1, "until": {"above": 0.5, "episodes": 10}}, {"value": 2}]
    words = [*CARTPOLE, "goal.metric=reward", "goal.at_least=0.5", "goal.window_samples=10"]
    course = Curriculum(Parameters({"size": {"lessons": lessons}}))
    with logging(tmp_path, *words, curriculum=course) as made:

        def play(count, lessons, reward=1.0):
            made.add_episodes("A", [Episode(0, 100, reward, 1, {}, lessons)] * count)
            return made.reward_mean, made.goal_reached

        first = course.lessons
        assert play(100, first) == (1.0, False)
        for _ in range(10):
            course.add_episode("A", Episode(0, 100, 1.0, 1, {}, first), 0.0)
        made.begin_lessons()
        assert made._scalars({})["lesson/size"] == 2.0
        assert play(100, first) == (None, False)  # they end late
        assert play(99, course.lessons, 0.0) == (None, False)
        assert play(1, course.lessons, 10.0) == (0.1, False)
        state = made.state()
    with logging(tmp_path, *words, state=json.loads(json.dumps(state)), curriculum=course) as again:
        assert again.reward_mean == 0.1
