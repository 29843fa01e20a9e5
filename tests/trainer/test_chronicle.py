"""What a run tells: where its time goes, and what it does on a disk that refuses."""

from types import SimpleNamespace

import pytest

from trainer.chronicle import Chronicle
from trainer.compose import compose
from trainer.config import TrainConfig


@pytest.fixture
def chronicle(tmp_path):
    made = Chronicle(compose(["env=gym", "env.id=CartPole-v1"], TrainConfig, "config"), tmp_path, 0, None)
    yield made
    made.close()


def test_learners_time_is_told_as_updating_and_waiting_since_the_last_line(chronicle):
    learners = {"A": SimpleNamespace(seconds=3.0), "B": SimpleNamespace(seconds=1.0)}
    began, chronicle.waited = chronicle._began, 6.0
    assert chronicle._status(began + 10, 0, learners).shares == pytest.approx(
        {"updating": 0.4, "waiting for samples": 0.6}, rel=1e-3
    )
    chronicle._logged = began + 10, 0, chronicle._statistics, chronicle._learner_seconds(learners)
    learners["A"].seconds, chronicle.waited = 4.0, 7.5
    assert chronicle._status(began + 15, 0, learners).shares == pytest.approx(
        {"updating": 0.2, "waiting for samples": 0.3}, rel=1e-3
    )


class FullDisk:
    """What stands in for TensorBoard on a disk that refuses."""

    def scalars(self, samples, values):
        raise OSError(28, "No space left on device")

    close = flush = lambda self: self.scalars(0, {})


def test_events_that_cannot_be_written_do_not_end_a_run(tmp_path):
    chronicle = Chronicle(compose(["env=basic", "algorithm=ppo"], TrainConfig, "config"), tmp_path, 0, None)
    chronicle._board.close()
    chronicle._board = FullDisk()
    chronicle.finish(0, {}, "samples")
    chronicle.close()
    assert (tmp_path / "summary.json").exists()
    assert "events cannot be written any more" in (tmp_path / "train.log").read_text()


def test_events_that_cannot_be_finished_do_not_end_a_run(tmp_path):
    chronicle = Chronicle(compose(["env=basic", "algorithm=ppo"], TrainConfig, "config"), tmp_path, 0, None)
    chronicle._board.close()
    chronicle._board = FullDisk()
    chronicle.close()
