"""A run in a process of its own, what becomes of its family, and what its rows hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from buffers.rows import Layout, Rows
from buffers.snapshot import restore
from envs.spec import BehaviorSpec
from tests.trainer.tiny_runs import SAC, newest, summary

ORACLE = ["env=gym", "env.id=tests.toys:Oracle-v0", "env.kwargs.duration=0.01"]
"""Games that take their time, so that a run that is waited for leaves the processor to others."""
END_SECONDS = 100.0
"""On a busy machine too, only what stays for ever is still there after so long."""
PLAYERS = ["env=unity", "env.player=env=basic", "env.instances=2"]


class Started:
    """A run in a process of its own."""

    module = "trainer"
    """What is run."""

    def __init__(self, folder: Path, *overrides: str, saved: int = 2) -> None:
        self.folder = folder
        words = [*SAC, *overrides, f"run.dir={folder}", "checkpoint.every_seconds=0.5"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, *words],
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": "."},
            start_new_session=True,
        )
        self.seen: set[psutil.Process] = {psutil.Process(self.process.pid)}
        self.until_saved(saved)

    def family(self) -> list[psutil.Process]:
        """All its processes; those ever seen are remembered."""
        found = []
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).children(recursive=True)
        self.seen.update(found)
        return found

    def words(self) -> list[str]:
        """The command lines of all its processes."""
        lines = []
        for process in self.family():
            with suppress(psutil.Error):
                lines.append(" ".join(process.cmdline()))
        return lines

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
        """All that it ever started ends, and its shared memory with it."""
        _, alive = psutil.wait_procs(self.seen, timeout=END_SECONDS)
        assert not alive
        names = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
        assert not [name for name in names for process in self.seen if f"-{process.pid}-" in name]


def saved_samples(folder: Path) -> int:
    return max((int(path.name.partition("-")[2]) for path in (folder / "checkpoints").glob("0*")), default=0)


@contextmanager
def interrupted_once(condition: Callable[[], object]) -> Iterator[None]:
    """Presses Ctrl+C in this process once a condition holds, or cannot be looked at: what it raised is raised here."""
    over, failed = threading.Event(), []

    def press() -> None:
        try:
            while not condition():
                if over.wait(0.05):
                    return
        except Exception as error:
            failed.append(error)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if failed:
            raise failed[0]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    runs: list[Started] = []

    def begin(*overrides: str, saved: int = 2) -> Started:
        runs.append(Started(tmp_path / "run", *overrides, saved=saved))
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
    assert rows.sampleable == np.count_nonzero(links >= 0)
    linked = np.flatnonzero(links > 0)
    np.testing.assert_array_equal(seen[links[linked] - 1, :2], seen[linked, :2])
    np.testing.assert_array_equal(seen[links[linked] - 1, 2], seen[linked, 2] + 1)
