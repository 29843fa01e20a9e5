"""Metric writers: how they are chosen, and that none of them ends a run."""

from __future__ import annotations

import logging

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from envs.process import whole_files
from envs.spec import UserError
from tests.docs.blocks import command, file_of
from tests.trainer.tiny_runs import PPO, newest
from trainer.__main__ import main
from trainer.telemetry.csv_file import CsvFile
from trainer.telemetry.metrics_file import read_metrics
from trainer.telemetry.mlagents_tags import mlagents_tag
from trainer.telemetry.tensorboard import TensorBoard
from trainer.telemetry.writers import WRITERS, MetricWriter, Writers, find_writers

HERE = __name__
FULL = "[Errno 28] No space left on device"
CARTPOLE = [*PPO, "env=gym", "env.id=CartPole-v1", "env.workers=1", "run.mode=inline", "stop.samples=100"]


class Broken(MetricWriter):
    """A writer with a fault of its own."""

    def values(self, samples, seconds, values):
        raise KeyError("lost")


class Leaves(Broken):
    """A writer that would end the process."""

    def __init__(self, folder, samples):
        raise SystemExit(3)


class Unfinished(MetricWriter):
    """A writer that lacks what every writer needs."""


class Notes(MetricWriter):
    """A writer that notes what it gets, and fails while `refuses` is set."""

    made: list[Notes] = []  # noqa: RUF012
    refuses = False

    def __init__(self, folder, samples):
        self.notes, self.began, self.closed = [], samples, False
        self.made.append(self)

    def values(self, samples, seconds, values):
        if self.refuses:
            raise OSError(28, "No space left on device")
        self.notes.append((samples, seconds, values))

    def settings(self, samples, config, overridden):
        self.notes.append((samples, config, overridden))

    def close(self):
        self.closed = True
        raise OSError(28, "No space left on device")


@pytest.fixture
def notes(monkeypatch) -> type[Notes]:
    monkeypatch.setattr(Notes, "made", [])
    monkeypatch.setattr(Notes, "refuses", False)
    return Notes


def values(samples: int):
    return lambda writer: writer.values(samples, 0.5 * samples, {"x": 1.0})


def test_a_writer_that_is_refused_is_reported_once_and_made_again(tmp_path, notes, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    writers = Writers(find_writers([f"{HERE}:Notes"]), tmp_path)
    writers.write(50, values(50))
    monkeypatch.setattr(Notes, "refuses", True)
    for samples in (100, 200):
        writers.write(samples, values(samples))
    monkeypatch.setattr(Notes, "refuses", False)
    for samples in (300, 400):
        writers.write(samples, values(samples))
    writers.close()
    assert caplog.messages == [
        f"The metric writer {HERE}:Notes cannot write: {FULL}. Later figures are tried again.",
        f"The metric writer {HERE}:Notes writes again, from 300 samples on.",
    ]
    assert [(each.began, each.closed, [note[0] for note in each.notes]) for each in notes.made] == [
        (50, False, [50]),
        (200, False, []),
        (300, True, [300, 400]),
    ]


def test_tensorboards_events_go_on_once_the_disk_has_room(tmp_path, caplog, monkeypatch):
    def refuse(file, data):
        raise OSError(28, "No space left on device")

    writers = Writers(find_writers(["tensorboard"]), tmp_path)
    with monkeypatch.context() as full:
        full.setattr(whole_files, "write_flushed", refuse)
        writers.write(100, values(100))
    for samples in (200, 300):
        writers.write(samples, values(samples))
    writers.close()
    assert caplog.messages[0] == f"The metric writer tensorboard cannot write: {FULL}. Later figures are tried again."
    assert [each.step for each in EventAccumulator(str(tmp_path)).Reload().Scalars("x")] == [200, 300]


def test_a_writer_with_a_fault_is_left_off_and_the_run_and_other_writers_go_on(tmp_path, notes):
    loggers = ",".join(f"{HERE}:{name}" for name in ("Broken", "Leaves", "Notes"))
    assert main([*CARTPOLE, f"run.loggers=[{loggers}]", f"run.dir={tmp_path}", "run.log_seconds=0.01"]) == 0
    log = (tmp_path / "train.log").read_text()
    for fault in ("Broken failed (KeyError: 'lost').", "Leaves failed (SystemExit: 3)."):
        assert log.count(f"The metric writer {HERE}:{fault} It is left off for the rest of the run.") == 1
    (noted,) = notes.made
    at, config, overridden = noted.notes[0]
    assert (at, config["env"]["id"]) == (0, "CartPole-v1")
    assert {"env": "gym", "env.id": "CartPole-v1", "stop.samples": "100"}.items() <= overridden.items()
    assert noted.notes[-1][0] == 102
    assert noted.notes[-1][2]["update/count"] > 0
    assert noted.closed
    assert not list(tmp_path.glob("events*"))


def test_a_resumed_run_may_have_other_writers(tmp_path, notes):
    assert main([*CARTPOLE, f"run.dir={tmp_path}"]) == 0
    assert list(tmp_path.glob("events*"))
    assert main([f"resume={tmp_path}", f"run.loggers=[{HERE}:Notes]", "stop.samples=200"]) == 0
    assert notes.made[0].began == 102
    assert newest(tmp_path).state["behaviors"]["CartPole-v1"]["samples"] >= 200
    assert len(list(tmp_path.glob("events*"))) == 1


@pytest.mark.parametrize(
    ("loggers", "message"),
    [
        ("tensorbord", "run.loggers=tensorbord: unknown metric writer; did you mean tensorboard?"),
        ("tensorboard,tensorboard", "run.loggers=[tensorboard, tensorboard] names tensorboard twice"),
        ("tests.nowhere:Csv", "run.loggers: tests.nowhere:Csv cannot be imported (ModuleNotFoundError"),
        (f"{HERE}:Nothing", f"run.loggers: {HERE}:Nothing: module {HERE} has no Nothing"),
        (f"{HERE}:values", f"run.loggers: {HERE}:values is not a subclass of trainer.telemetry.writers.MetricWriter"),
        (f"{HERE}:Unfinished", f"run.loggers: {HERE}:Unfinished lacks values: every metric writer needs it"),
    ],
)
def test_writers_that_cannot_be_are_refused_before_anything_starts(tmp_path, capsys, loggers, message):
    assert main([*CARTPOLE, f"run.loggers=[{loggers}]", f"run.dir={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_writer_may_refuse_a_run(tmp_path, capsys, monkeypatch):
    def refuse():
        raise UserError("run.loggers: no key")

    monkeypatch.setattr(Notes, "check", refuse)
    assert main([*CARTPOLE, f"run.loggers=[{HERE}:Notes]", f"run.dir={tmp_path / 'run'}"]) == 2
    assert capsys.readouterr().err == "error: run.loggers: no key\n"


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_writer_whose_library_is_missing_names_the_extra(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"{name} is not installed: pip install 'outstep\[{name}\]'"):
        find_writers([name])


def test_built_in_writers_are_writers():
    for name in ("tensorboard", "csv"):
        assert issubclass(WRITERS.find(name, "run.loggers"), MetricWriter)


def test_tensorboard_shows_the_configuration_and_what_was_overridden(tmp_path):
    board = TensorBoard(tmp_path)
    board.settings(0, {"algorithm": {"clip": 0.3}}, {"algorithm.clip": "0.3", "env": "gym"})
    board.values(100, 1.0, {"episode/reward": 2.0})
    board.close()
    (file,) = tmp_path.glob("events*")
    values = [value for event in EventFileLoader(str(file)).Load() for value in event.summary.value]
    texts = [value.tensor.string_val[0].decode() for value in values if value.tag == "config/text_summary"]
    assert "clip: 0.3" in texts[0]
    (begin,) = [value for value in values if value.tag == "_hparams_/session_start_info"]
    content = HParamsPluginData.FromString(begin.metadata.plugin_data.content)
    assert content.session_start_info.hparams["algorithm.clip"].string_value == "0.3"


def test_csv_gains_columns_and_loses_what_a_resume_has_undone(tmp_path):
    first = CsvFile(tmp_path)
    first.values(100, 1.0, {"episode/reward": 0.5})
    first.values(200, 2.0, {"episode/reward": 1.5, "loss/policy": 0.25})
    first.close()
    resumed = CsvFile(tmp_path, 100)
    resumed.values(150, 1.5, {"loss/policy": 1 / 3})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "samples,seconds,episode/reward,loss/policy",
        "100,1.000,0.5,",
        "150,1.500,,0.3333333",
    ]


def test_mlagents_names_stand_behind_the_behavior_and_others_stay():
    names = ["episode/reward", "A/B/loss/policy", "game/Score", "A/game/x", "run/seconds", "lesson/wall"]
    assert [mlagents_tag(name, ["A", "A/B"]) for name in names] == [
        "Environment/Cumulative Reward",
        "A/B/Losses/Policy Loss",
        "Score",
        "A/x",
        "run/seconds",
        "Environment/Lesson Number/wall",
    ]


def test_runs_write_mlagents_names_and_their_own_to_metrics_jsonl(tmp_path):
    words = ["run.loggers=[csv]", "run.tags=mlagents", "run.log_samples=50"]
    assert main([*CARTPOLE, *words, f"run.dir={tmp_path}"]) == 0
    metrics = read_metrics(tmp_path)
    assert [int(at) // 50 for at in metrics.samples] == [1, 2]
    assert metrics.points("update/count")[2][-1] > 0
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert "Environment/Cumulative Reward" in header
    assert "episode/reward" not in header


def test_the_pages_writer_takes_fifteen_lines_and_writes_a_run(tmp_path, monkeypatch):
    code = file_of("docs/extending.md", "my_writers.py")
    assert code.count("\n") <= 15
    assert "run.loggers=[tensorboard,my_writers:Csv]" in command("docs/extending.md", "my_writers:")
    (tmp_path / "my_writers.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = tmp_path / "run"
    words = [*PPO, "env=basic", "run.mode=inline", "run.loggers=[tensorboard,my_writers:Csv]", "stop.samples=200"]
    assert main([*words, f"run.dir={run}"]) == 0
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    last = {name: float(value) for samples, _, name, value in rows if int(samples) >= 200}
    assert last["update/count"] >= 2
    assert "episode/reward" in last
    assert list(run.glob("events*"))
