"""What a run logs: where its time goes, and what it does on a disk that refuses."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from envs.parameters import Parameters
from envs.process import whole_files
from envs.spec import Statistic, UserError
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.curriculum import Curriculum
from trainer.telemetry.run_logger import RunLogger
from trainer.telemetry.statistics import Episode


@pytest.fixture
def run_logger(tmp_path):
    made = RunLogger(compose(["env=gym", "env.id=CartPole-v1"], TrainConfig, "config"), tmp_path, 0, None)
    yield made
    made.close()


def test_learners_time_is_shown_as_updating_and_waiting_since_the_last_line(run_logger):
    learners = {"A": SimpleNamespace(seconds=3.0), "B": SimpleNamespace(seconds=1.0)}
    began, run_logger.waited = run_logger._began, 6.0
    assert run_logger._status(began + 10, 0, learners).shares == pytest.approx(
        {"updating": 0.4, "waiting for samples": 0.6}, rel=1e-3
    )
    run_logger._logged = began + 10, 0, run_logger.statistics, run_logger._learner_seconds(learners)
    learners["A"].seconds, run_logger.waited = 4.0, 7.5
    assert run_logger._status(began + 15, 0, learners).shares == pytest.approx(
        {"updating": 0.2, "waiting for samples": 0.3}, rel=1e-3
    )


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
    run_logger.close()
    assert (tmp_path / "summary.json").read_text() == "before"
    assert not (tmp_path / ".aside-summary.json").exists()
    log = (tmp_path / "train.log").read_text()
    assert f"summary.json could not be written: {FULL}. An earlier one is kept." in log
    assert "The run ended (samples) after 100 samples" in log


def test_the_summary_has_the_keys_that_users_count_on(run_logger, tmp_path):
    figures = {"update/count": 7, "update/achieved": 0.5, "update/dropped_samples": 3}
    run_logger.add_episodes("A", [Episode(0, 90, 0.5, 9, {})])
    run_logger.finish(100, {"A": SimpleNamespace(seconds=1.0, metrics=lambda: figures)}, "samples")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary.pop("seconds") > 0
    assert summary == {
        "samples": 100,
        "samples_per_second": 0.0,
        "env_utilization": None,
        "episodes": 1,
        "episode_reward_mean": 0.5,
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
    run_logger = RunLogger(compose(["env=basic", "algorithm=ppo"], TrainConfig, "config"), tmp_path, 0, None)
    run_logger.finish(100, {}, "samples")
    run_logger.close()
    assert capsys.readouterr().err.startswith("The run ended (samples) after 100 samples")


def test_updates_skipped_before_a_resume_are_not_reported_again(run_logger, tmp_path):
    run_logger._warn_of_skipped("A", {"update/skipped_non_finite": 2.0})
    state = json.loads(json.dumps(run_logger.state()))
    run_logger.close()
    later = RunLogger(compose(["env=gym", "env.id=CartPole-v1"], TrainConfig, "config"), tmp_path, 0, state)
    later._warn_of_skipped("A", {"update/skipped_non_finite": 2.0})
    later._warn_of_skipped("A", {"update/skipped_non_finite": 5.0})
    later.close()
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
    run_logger.close()
    log = (tmp_path / "train.log").read_text()
    assert log.count("no finite number") == 2
    assert f"wins is {value} in the info of a game" in log
    assert f"Heat is {value} in the statistics of a game" in log


def test_a_goal_that_is_not_finite_is_an_error_by_name(tmp_path):
    goal = ["goal.metric=wins", "goal.at_least=1"]
    logger = RunLogger(compose(["env=gym", "env.id=CartPole-v1", *goal], TrainConfig, "config"), tmp_path, 0, None)
    logger.add_episodes("A", [Episode(0, 1, 1.0, 9, {"wins": 0.5, "shots": float("nan")})])
    with pytest.raises(UserError, match=r"goal\.metric=wins is nan in the info of a game"):
        logger.add_episodes("A", [Episode(0, 2, 1.0, 9, {"wins": float("nan")})])
    logger.close()


def test_what_ends_a_run_goes_by_episodes_that_began_in_the_last_lessons(tmp_path):
    lessons = [{"value": 1, "until": {"above": 0.5, "episodes": 10}}, {"value": 2}]
    words = ["env=gym", "env.id=CartPole-v1", "goal.metric=reward", "goal.at_least=0.5", "goal.window_samples=10"]
    config = compose(words, TrainConfig, "config")
    course = Curriculum(Parameters({"size": {"lessons": lessons}}))
    made = RunLogger(config, tmp_path, 0, None, curriculum=course)

    def play(count, lessons, reward=1.0):
        made.add_episodes("A", [Episode(0, 100, reward, 1, {}, lessons)] * count)
        return made.reward_mean, made.goal_reached

    first = course.lessons
    assert play(100, first) == (1.0, False)
    for _ in range(10):
        course.add_episode("A", Episode(0, 100, 1.0, 1, {}, first), 0.0)
    made.begin_lessons()
    status = made._status(made._began + 1, 100, {})
    assert (status.lessons, made._scalars(status, {})["lesson/size"]) == ({"size": "2 of 2"}, 2.0)
    assert play(100, first) == (None, False)  # they end late
    assert play(99, course.lessons, 0.0) == (None, False)
    assert play(1, course.lessons, 10.0) == (0.1, False)
    state = made.state()
    made.close()
    again = RunLogger(config, tmp_path, 0, json.loads(json.dumps(state)), curriculum=course)
    assert again.reward_mean == 0.1
    again.close()
