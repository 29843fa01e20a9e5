"""What a run logs: where its time goes, and what it does on a disk that refuses."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
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


def refuse(file):
    """Makes a file one that has no room, until it is removed."""
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is full")
    file.symlink_to("/dev/full")


def test_a_summary_that_cannot_be_written_does_not_end_a_run_and_leaves_what_was_there(run_logger, tmp_path):
    (tmp_path / "summary.json").write_text("before")
    refuse(tmp_path / ".aside-summary.json")
    run_logger.finish(100, {}, "samples")
    run_logger.close()
    assert (tmp_path / "summary.json").read_text() == "before"
    assert not (tmp_path / ".aside-summary.json").is_symlink()
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
    refuse(tmp_path / "train.log")
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
