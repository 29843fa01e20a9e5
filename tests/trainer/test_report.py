"""What a run tells: where its time goes, and what it does on a disk that refuses."""

from types import SimpleNamespace

import pytest

from trainer.compose import compose
from trainer.config import TrainConfig
from trainer.report import Report


@pytest.fixture
def report(tmp_path):
    made = Report(compose(["env=gym", "env.id=CartPole-v1"], TrainConfig, "config"), tmp_path, 0, None)
    yield made
    made.close()


def test_learners_time_is_told_as_updating_and_waiting_since_the_last_line(report):
    learners = {"A": SimpleNamespace(seconds=3.0), "B": SimpleNamespace(seconds=1.0)}
    began, report.waited = report._began, 6.0
    assert report._status(began + 10, 0, learners).shares == pytest.approx(
        {"updating": 0.4, "waiting for samples": 0.6}, rel=1e-3
    )
    report._logged = began + 10, 0, report._statistics, report._learner_seconds(learners)
    learners["A"].seconds, report.waited = 4.0, 7.5
    assert report._status(began + 15, 0, learners).shares == pytest.approx(
        {"updating": 0.2, "waiting for samples": 0.3}, rel=1e-3
    )


class FullDisk:
    """What stands in for TensorBoard on a disk that refuses."""

    def scalars(self, samples, values):
        raise OSError(28, "No space left on device")

    close = flush = lambda self: self.scalars(0, {})


def test_events_that_cannot_be_written_do_not_end_a_run(tmp_path):
    report = Report(compose(["env=basic", "algorithm=ppo"], TrainConfig, "config"), tmp_path, 0, None)
    report._board.close()
    report._board = FullDisk()
    report.finish(0, {}, "samples")
    report.close()
    assert (tmp_path / "summary.json").exists()
    assert "events cannot be written any more" in (tmp_path / "train.log").read_text()


def test_events_that_cannot_be_finished_do_not_end_a_run(tmp_path):
    report = Report(compose(["env=basic", "algorithm=ppo"], TrainConfig, "config"), tmp_path, 0, None)
    report._board.close()
    report._board = FullDisk()
    report.close()
