"""The real command: what it does about signals, whatever is under way, and with which status it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

import trainer.runtime.collector_process
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec
from tests.trainer.started import END_SECONDS, ORACLE, Started, audit, start
from tests.trainer.tiny_runs import SAC, newest, summary
from trainer.__main__ import main
from trainer.checkpoint import CheckpointStore
from trainer.runtime.saver import Saver
from trainer.telemetry.run_logger import RunLogger

__all__ = ["start"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


def learns() -> bool:
    return multiprocessing.current_process().name == "MainProcess"


class Slow(nn.Module):
    """A network whose pass takes an hour in the learner, once there is a file `hang` in the working directory."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__()
        self.layer, self.features = nn.Linear(4, 8), 8

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        updates = torch.is_grad_enabled() and not torch.onnx.is_in_onnx_export()  # models are written in between
        if updates and learns() and os.path.exists(os.environ.get("HANG", "")):
            Path(os.environ["HANG"] + ".now").touch()
            for _ in range(360_000):  # as a long update does: many short calls
                time.sleep(0.01)
        seen: torch.Tensor = self.layer(inputs[0])
        return seen


class SlowDisk(Slow):
    """The same network; where it is made in the learner, every checkpoint takes a second more."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__(spec, settings)
        if learns() and not hasattr(CheckpointStore, "quick"):
            CheckpointStore.quick = save = CheckpointStore.save  # type: ignore[attr-defined]

            def slow(*args, **kwargs) -> Path:
                time.sleep(1.0)
                return save(*args, **kwargs)

            CheckpointStore.save = slow  # type: ignore[method-assign]


class Lost(Slow):
    """The same network; where it is made in a collector, that ends, and the learner starts no other."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__(spec, settings)
        trainer.runtime.collector_process.UNHEARD_RESTARTS = 0
        if multiprocessing.current_process().name == "collector":
            os._exit(5)


NETWORK = "algorithm.network.custom=tests.trainer.runtime.test_signals:"


def test_statuses_are_those_that_are_documented_though_nobody_reads_the_output(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    def status(*overrides: str) -> int:
        command = [sys.executable, "-m", "trainer", *SAC, *ORACLE, *overrides]
        return subprocess.run(command, stderr=writer, env=os.environ | {"PYTHONPATH": "."}).returncode

    assert status(f"run.dir={tmp_path / 'a'}", "run.mode=inline", "stop.samples=10") == 0
    assert status(f"run.dir={tmp_path / 'b'}", "env.min_instances=4") == 2
    assert status(f"run.dir={tmp_path / 'c'}", f"{NETWORK}Lost") == 1  # an error that is not the user's
    os.close(writer)


@pytest.mark.parametrize(
    ("owner", "method", "number"),
    [
        (CheckpointStore, "save", signal.SIGTERM),
        (Saver, "_write_newest_models", signal.SIGTERM),
        (RunLogger, "finish", signal.SIGTERM),
        (RunLogger, "close", signal.SIGTERM),
        (RunLogger, "close", signal.SIGINT),
    ],
)
def test_a_signal_in_the_last_moment_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, method: str, number: int
) -> None:
    run = getattr(owner, method)

    def and_signal(*args: object) -> object:
        os.kill(os.getpid(), number)
        return run(*args)

    monkeypatch.setattr(owner, method, and_signal)
    words = [*SAC, "env=basic", "env.workers=1", "run.mode=inline", "stop.samples=20", "env.instances=1"]
    assert main([*words, f"run.dir={tmp_path}"]) == 128 + number
    assert summary(tmp_path)["samples"] == newest(tmp_path).state["behaviors"]["Basic-v0"]["samples"] == 20
    assert (tmp_path / "models" / "Basic-v0.onnx").exists()


def ends(run: Started, number: int, status: int, to_all: bool = False) -> None:
    """The run saves and leaves, and nothing is left over; a terminal sends `to_all` its processes."""
    before = newest(run.folder).path.name
    run.family()
    os.kill(-run.process.pid if to_all else run.process.pid, number)
    assert run.process.wait(END_SECONDS) == status
    run.nothing_is_left()
    assert summary(run.folder)["stopped_by"] == "interrupted"
    assert newest(run.folder).path.name > before  # numbered: there may be no new sample, as games are held back
    audit(run.folder)


@pytest.fixture
def hung(start: Callable[..., Started], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """A run in an update that takes an hour."""
    hang = tmp_path / "hang"
    monkeypatch.setenv("HANG", str(hang))
    run = start(*ORACLE, f"{NETWORK}Slow")
    hang.touch()
    run.until((tmp_path / "hang.now").exists)
    return run


def test_an_update_that_takes_long_is_broken_off(hung: Started) -> None:
    ends(hung, signal.SIGTERM, 143, to_all=True)  # as some schedulers do
    assert "An update was broken off" in hung.log


def test_ctrl_c_twice_leaves_at_once(hung: Started) -> None:
    before = CheckpointStore(hung.folder / "checkpoints").all()
    hung.family()
    while hung.process.poll() is None:  # twice, or more often where two arrive as one
        with suppress(ProcessLookupError):
            os.killpg(hung.process.pid, signal.SIGINT)  # as a terminal does
        time.sleep(0.2)
    assert hung.process.returncode == 130
    hung.nothing_is_left()
    assert CheckpointStore(hung.folder / "checkpoints").all() == before
    assert not (hung.folder / "summary.json").exists()


def test_a_slow_disk_and_a_stopped_collector_keep_no_run_from_saving(start: Callable[..., Started]) -> None:
    run = start(*ORACLE, f"{NETWORK}SlowDisk")
    run.collector.send_signal(signal.SIGSTOP)
    ends(run, signal.SIGINT, 130, to_all=True)


@pytest.mark.parametrize(("mode", "number", "status"), [("async", signal.SIGINT, 130), ("inline", signal.SIGTERM, 143)])
def test_a_start_that_takes_long_is_left(start: Callable[..., Started], mode: str, number: int, status: int) -> None:
    run = start("env=gym", "env.id=tests.toys:Asleep-v0", f"run.mode={mode}", saved=0)
    run.until(lambda: (run.folder / "in_use").exists() and any("spawn_main" in line for line in run.words()))
    run.process.send_signal(number)
    assert run.process.wait(END_SECONDS) == status
    run.nothing_is_left()
    assert not (run.folder / "checkpoints").exists()


def test_inline_a_game_that_hangs_keeps_the_checkpoint_before(start: Callable[..., Started]) -> None:
    run = start("env=gym", "env.id=tests.toys:Faulty-v0", "env.kwargs.fault=stop", "run.mode=inline", saved=0)
    run.until(lambda: any(each.status() == psutil.STATUS_STOPPED for each in run.family()))
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(END_SECONDS) == 143
    run.nothing_is_left()
    assert "No checkpoint is written, because steps are unfinished" in run.log
