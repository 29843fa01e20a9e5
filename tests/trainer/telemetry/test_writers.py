"""Metric writers: how they are chosen, and that none of them ends a run."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainer.tiny_runs import PPO, newest
from trainer.__main__ import main
from trainer.telemetry.writers import WRITERS, MetricWriter, Writers

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

    def text(self, samples, name, text):
        self.notes.append((samples, name, text))

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
    writers = Writers([f"{HERE}:Notes"], tmp_path)
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


def test_tensorboards_events_go_on_once_the_disk_has_room(tmp_path, caplog):
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is full")
    writers = Writers(["tensorboard"], tmp_path)
    (tmp_path / ".aside-events.tmp").symlink_to("/dev/full")
    writers.write(100, values(100))  # which removes it
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
    assert noted.notes[0][:2] == (0, "config")
    assert "id: CartPole-v1" in noted.notes[0][2]
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
        ("tensorbord", "run.loggers=tensorbord: unknown metric writer; did you mean tensorboard? there is tensorboard"),
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


def test_built_in_writers_are_writers():
    for name in WRITERS.names():
        assert issubclass(WRITERS.find(name, "run.loggers"), MetricWriter)


def test_the_pages_writer_takes_fifteen_lines_and_writes_a_run(tmp_path, monkeypatch):
    page = (Path(__file__).parents[3] / "docs" / "extending.md").read_text(encoding="utf-8")
    section = page.partition("## A metric writer\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert code.count("\n") <= 15
    assert "python -m trainer env=basic run.loggers=[tensorboard,my_writers:Csv]\n" in section
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
