"""Processes of a run that are killed, stopped or broken: what is lost, what goes on, and what is left over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import nn

import trainer.remote
from algorithms.settings import NetworkSettings
from buffers.rows import Layout, Rows
from buffers.snapshot import restore
from envs.spec import BehaviorSpec
from tests.trainer.tiny_runs import SAC, newest, summary
from trainer.__main__ import main
from trainer.remote import CollectorLost

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

ORACLE = ["env=gym", "env.id=tests.toys:Oracle-v0", "env.time_scale=0", "env.kwargs.duration=0.002"]
PLAYERS = ["env=unity", "env.player=env=basic", "env.instances=2"]


class Started:
    """A run in a process of its own."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "trainer", *SAC, *overrides, f"run.dir={folder}", "checkpoint.every_seconds=1"]
        self.process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": "."}, start_new_session=True
        )
        self.seen: set[psutil.Process] = {psutil.Process(self.process.pid)}
        self.until_saved(2)

    def family(self) -> list[psutil.Process]:
        """All its processes; those ever seen are remembered."""
        found = []
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).children(recursive=True)
        self.seen.update(found)
        return found

    @property
    def collector(self) -> psutil.Process:
        (found,) = [child for child in psutil.Process(self.process.pid).children() if child.children()]
        return found

    def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            assert self.process.poll() is None, self.log
            self.family()
            time.sleep(0.1)

    def until_saved(self, more: int) -> None:
        """Waits for so many checkpoints, each with more samples than the one before."""
        for _ in range(more):
            before = saved_samples(self.folder)
            self.until(lambda before=before: saved_samples(self.folder) > before)

    @property
    def log(self) -> str:
        return (self.folder / "train.log").read_text() if (self.folder / "train.log").exists() else ""

    def nothing_is_left(self) -> None:
        """All that it ever started ends within 5 s, and its shared memory with it."""
        _, alive = psutil.wait_procs(self.seen, timeout=5)
        assert not alive
        names = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
        assert not [name for name in names for process in self.seen if f"-{process.pid}-" in name]


def saved_samples(folder: Path) -> int:
    return max((int(path.name.partition("-")[2]) for path in (folder / "checkpoints").glob("0*")), default=0)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    runs: list[Started] = []

    def begin(*overrides: str) -> Started:
        runs.append(Started(tmp_path / "run", *overrides))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.kill()
        run.process.wait()


def saved_rows(folder: Path) -> Rows:
    """The rows of the newest checkpoint's one behavior."""
    saved = newest(folder)
    ((name, replay),) = saved.replay.items()
    layout = Layout(BehaviorSpec.from_dict(saved.state["behaviors"][name]["spec"]))
    capacity = 2 * int(replay.index["head"])
    rows = Rows(layout, bytearray(layout.memory_bytes(capacity)), capacity)
    restore(rows, replay.index, replay.chunks())
    return rows


def audit(folder: Path) -> None:
    """Every step of every episode is in the buffer once, is counted, and leads to the step after it."""
    rows = saved_rows(folder)
    numbers = np.arange(1, rows.head + 1)
    seen, final, links = rows.gather(numbers, ("observation_0", "final", "next"))
    steps = [tuple(step) for step in seen[~final][:, :3].astype(int).tolist()]
    assert len(set(steps)) == len(steps) == rows.samples == summary(folder)["samples"]
    assert rows.drawable == np.count_nonzero(links >= 0)
    linked = np.flatnonzero(links > 0)
    np.testing.assert_array_equal(seen[links[linked] - 1, :2], seen[linked, :2])
    np.testing.assert_array_equal(seen[links[linked] - 1, 2], seen[linked, 2] + 1)


def test_a_killed_collector_is_replaced_and_only_its_open_rows_are_lost(start: Callable[..., Started]) -> None:
    run = start(*ORACLE)
    for killed in (1, 2):
        collector = run.collector
        family = [collector, *collector.children(recursive=True)]
        collector.kill()
        _, alive = psutil.wait_procs(family, timeout=5)
        assert not alive
        run.until(lambda killed=killed: run.log.count("The collector: ") == killed)
        run.until_saved(2)
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(60) == 143
    run.nothing_is_left()
    assert "The collector: its process ended (exit status -9). Lost: rows of " in run.log
    assert "agents that were open. Restart 1 of 10 in 0.25 s." in run.log
    assert "The collector: the same as before. Lost: rows of " in run.log
    audit(run.folder)
    instances = summary(run.folder)["instances"]
    assert sum(instances["samples"]) > 0.5 * summary(run.folder)["samples"]


def test_players_of_a_killed_collector_end_and_new_ones_take_their_places(start: Callable[..., Started]) -> None:
    run = start(*PLAYERS)
    collector = run.collector
    family = [collector, *collector.children(recursive=True)]
    assert len(family) >= 4  # the warden and two players
    starts = newest(run.folder).state["collector"]["manager"]["launches"]
    collector.kill()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    run.until_saved(2)
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(60) == 143
    run.nothing_is_left()
    assert newest(run.folder).state["collector"]["manager"]["launches"] == [n + 1 for n in starts]


@pytest.mark.parametrize("kind", [ORACLE, PLAYERS], ids=["gymnasium", "unity"])
def test_whatever_is_killed_nothing_is_left_over(start: Callable[..., Started], kind: list[str]) -> None:
    run = start(*kind)
    for depth in (1, 2) if kind is PLAYERS else (1,):
        victim = run.collector
        for _ in range(depth):  # a worker or the warden; a player
            victim = next(child for child in victim.children() if "resource_tracker" not in " ".join(child.cmdline()))
        before = run.log.count("starts anew")
        victim.kill()
        run.until(lambda before=before: run.log.count("starts anew") > before)
        run.until_saved(2)
    run.family()
    run.process.kill()
    run.process.wait()
    run.nothing_is_left()


def in_process(folder: Path, *overrides: str) -> int:
    return main([*SAC, *overrides, f"run.dir={folder}", "checkpoint.every_seconds=1"])


def test_a_stopped_collector_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.remote, "SILENT_SECONDS", 2.0)
    stopped: list[psutil.Process] = []

    def stop() -> None:
        while not saved_samples(tmp_path):
            time.sleep(0.05)
        me = psutil.Process()
        stopped.extend(child for child in me.children() if child.children())
        stopped[0].send_signal(signal.SIGSTOP)

    thread = threading.Thread(target=stop)
    thread.start()
    assert in_process(tmp_path, *ORACLE, "stop.samples=20000") == 0
    thread.join()
    assert "The collector: it did not answer within 2 s. Lost: rows of " in (tmp_path / "train.log").read_text()
    assert not stopped[0].is_running()
    audit(tmp_path)


def collects() -> bool:
    return multiprocessing.current_process().name == "collector"


class Breaks(nn.Module):
    """A network that fails in a collector's fiftieth pass."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__()
        self.layer, self.left, self.features = nn.Linear(4, 8), 50, 8

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        self.left -= 1
        if collects() and not self.left:
            raise ArithmeticError("an error of ours")
        seen: torch.Tensor = self.layer(inputs[0])
        return seen


class Dies(Breaks):
    """A network whose making ends a collector."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__(spec, settings)
        if collects():
            os._exit(5)


CUSTOM = "algorithm.network.custom=tests.trainer.test_faults:"


def test_an_error_of_ours_replaces_the_collector_until_the_budget_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.remote, "RESTARTS", 2)
    with pytest.raises(CollectorLost, match=r"more than 2 restarts allow: Traceback(.|\n)*ArithmeticError"):
        in_process(tmp_path, *ORACLE, f"{CUSTOM}Breaks")
    log = (tmp_path / "train.log").read_text()
    assert log.count("ArithmeticError: an error of ours") == 1
    assert log.count("The collector: the same as before") == 1
    assert summary(tmp_path)["stopped_by"] == "error"
    audit(tmp_path)


def test_a_collector_that_never_delivers_is_not_replaced_for_ever(tmp_path: Path) -> None:
    with pytest.raises(CollectorLost, match=r"more than 2 restarts allow: its process ended \(exit status 5\)"):
        in_process(tmp_path, *ORACLE, f"{CUSTOM}Dies")
