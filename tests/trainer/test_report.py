"""What a run tells of where its time goes."""

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
