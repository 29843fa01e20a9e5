from trainer.compose import compose
from trainer.config import TrainConfig
from trainer.report import Report


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
