"""Runs whose collectors are relays in processes of this machine: what is killed, lost, and left over."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.trainer.started import END_SECONDS, ORACLE, PLAYERS, Started, audit, saved_rows
from tests.trainer.tiny_runs import summary

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")
COLLECTORS = 2


class Farm(Started):
    """A run with two collectors."""

    module = "tests.trainer.cluster.run_here"

    @property
    def ingest(self) -> psutil.Process:
        return self.collector

    @property
    def relays(self) -> list[psutil.Process]:
        return [child for child in self.ingest.children() if child.children()]

    def part(self, kind: str) -> psutil.Process | None:
        """The ingest, or a relay, its collector or that one's worker; None while there is none."""
        with suppress(psutil.Error, ValueError, IndexError):
            if kind == "ingest":
                return self.ingest
            relay = self.relays[-1]
            if kind == "relay":
                return relay
            (collector,) = [child for child in relay.children() if child.children()]
            return collector if kind == "collector" else spawned(collector)[0]
        return None


def spawned(process: psutil.Process) -> list[psutil.Process]:
    return [each for each in process.children() if "spawn_main" in " ".join(each.cmdline())]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Farm]]:
    runs: list[Farm] = []

    def begin(*overrides: str, game: list[str] = ORACLE) -> Farm:
        runs.append(Farm(tmp_path / "run", *game, f"cluster.collectors={COLLECTORS}", *overrides))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.kill()
        run.process.wait()


def test_whatever_is_killed_rows_are_linked_right_and_counted_once(start: Callable[..., Farm]) -> None:
    run = start()
    for kind in ("worker", "collector", "relay", "ingest"):
        run.until(lambda kind=kind: run.part(kind))
        run.part(kind).kill()
        run.until_saved(2)
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(END_SECONDS) == 143
    run.nothing_is_left()
    audit(run.folder)
    assert "starts again" in run.log
    assert "Collector 1 on " in run.log
    assert "The collector failed: its process was killed by SIGKILL" in run.log
    rows = saved_rows(run.folder)
    agent, version = rows.gather(np.arange(1, rows.head + 1), ("agent", "version"))
    for collector in range(COLLECTORS):  # what was published is acted with on every host
        assert len(set(version[agent % COLLECTORS == collector].tolist())) > 2
    assert version.max() <= summary(run.folder)["updates"]["Oracle-v0"] + 1
    assert len(summary(run.folder)["instances"]["samples"]) == 3 * COLLECTORS


def test_a_learner_that_is_killed_leaves_nothing_behind(start: Callable[..., Farm]) -> None:
    run = start()
    assert len(run.family()) >= 1 + 3 * COLLECTORS
    run.process.kill()
    run.process.wait()
    run.nothing_is_left()


def test_pictures_of_all_hosts_in_turn_reach_the_runs_folder(start: Callable[..., Farm]) -> None:
    run = start("run.picture_minutes=0.001")
    run.until(lambda: len(list((run.folder / "pictures").glob("*.gif"))) > COLLECTORS)
    assert all(file.read_bytes()[:4] == b"GIF8" for file in (run.folder / "pictures").glob("*.gif"))


def test_players_logs_of_all_hosts_reach_the_runs_folder(start: Callable[..., Farm]) -> None:
    run = start(game=PLAYERS)
    folders = [run.folder / "players" / f"collector-{number}" for number in range(COLLECTORS)]
    run.until(lambda: all(len(list(folder.glob("*"))) == 2 for folder in folders))
    names = [sorted(file.name for file in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    assert all(file.stat().st_size for folder in folders for file in folder.iterdir())
