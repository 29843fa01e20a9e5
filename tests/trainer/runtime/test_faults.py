"""Processes of a run that are killed, stopped or broken: what is lost, what goes on, and what is left over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
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
from tests.trainer.started import END_SECONDS, ORACLE, PLAYERS, Started, audit, interrupted_once, saved_samples, start
from tests.trainer.tiny_runs import SAC, newest, summary
from trainer.__main__ import main
from trainer.runtime.collector_process import CollectorLost

__all__ = ["start"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


def test_a_killed_collector_is_replaced_and_only_its_open_rows_are_lost(start: Callable[..., Started]) -> None:
    run = start(*ORACLE)
    for killed in (1, 2):
        collector = run.collector
        family = [collector, *collector.children(recursive=True)]
        collector.kill()
        _, alive = psutil.wait_procs(family, timeout=END_SECONDS)
        assert not alive
        run.until(lambda killed=killed: run.log.count("The collector failed: ") >= killed)
        run.until_saved(2)
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(END_SECONDS) == 143
    run.nothing_is_left()
    assert (
        "The collector failed: its process was killed by SIGKILL; the system may have been out of memory. " in run.log
    )
    assert "agents are lost. Restart 1 of 10 follows in 0.25 s." in run.log
    assert "The collector failed: the same as before. The open steps of " in run.log
    audit(run.folder)
    instances = summary(run.folder)["instances"]
    assert sum(instances["samples"]) > 0.5 * summary(run.folder)["samples"]


def test_players_of_a_killed_collector_end_and_new_ones_take_their_places(start: Callable[..., Started]) -> None:
    run = start(*PLAYERS)
    collector = run.collector
    family = [collector, *collector.children(recursive=True)]
    assert len(family) >= 4  # the launcher and two players
    starts = newest(run.folder).state["collector"]["manager"]["begun"]
    collector.kill()
    _, alive = psutil.wait_procs(family, timeout=END_SECONDS)
    assert not alive
    run.until_saved(2)
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(END_SECONDS) == 143
    run.nothing_is_left()
    assert newest(run.folder).state["collector"]["manager"]["begun"] == [n + 1 for n in starts]


@pytest.mark.parametrize("kind", [ORACLE, PLAYERS], ids=["gymnasium", "unity"])
def test_whatever_is_killed_nothing_is_left_over(start: Callable[..., Started], kind: list[str]) -> None:
    run = start(*kind)
    for depth in (1, 2) if kind is PLAYERS else (1,):
        victim = run.collector
        for _ in range(depth):  # a worker or the launcher; a player
            victim = next(child for child in victim.children() if "resource_tracker" not in " ".join(child.cmdline()))
        before = run.log.count("starts again")
        victim.kill()
        run.until(lambda before=before: run.log.count("starts again") > before)
        run.until_saved(2)
    run.family()
    run.process.kill()
    run.process.wait()
    run.nothing_is_left()


def in_process(folder: Path, *overrides: str) -> int:
    return main([*SAC, *overrides, f"run.dir={folder}", "checkpoint.every_seconds=0.5"])


def test_a_stopped_collector_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.runtime.collector_process, "SILENT_SECONDS", 2.0)
    stopped: list[psutil.Process] = []
    before = 0

    def replaced() -> bool:
        """Whether there are more samples than a collector had saved that was stopped then."""
        nonlocal before
        if not stopped and saved_samples(tmp_path):
            with suppress(psutil.NoSuchProcess):  # one that had done its work
                stopped.extend(child for child in psutil.Process().children() if child.children())
            if not stopped:
                return False
            stopped[0].send_signal(signal.SIGSTOP)
            before = saved_samples(tmp_path)
        return bool(stopped) and not stopped[0].is_running() and saved_samples(tmp_path) > before + 100

    with interrupted_once(replaced):
        assert in_process(tmp_path, *ORACLE) == 130
    assert (
        "The collector failed: it did not answer within 2 s. The open steps of " in (tmp_path / "train.log").read_text()
    )
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


CUSTOM = "algorithm.network.custom=tests.trainer.runtime.test_faults:"


def test_an_error_of_ours_replaces_the_collector_until_the_budget_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.runtime.collector_process, "RESTARTS", 2)
    with pytest.raises(CollectorLost, match=r"more than 2 restarts allow: Traceback(.|\n)*ArithmeticError"):
        in_process(tmp_path, *ORACLE, f"{CUSTOM}Breaks")
    log = (tmp_path / "train.log").read_text()
    assert log.count("ArithmeticError: an error of ours") == 1
    assert log.count("The collector failed: the same as before") == 1
    assert summary(tmp_path)["stopped_by"] == "error"
    audit(tmp_path)


@pytest.mark.parametrize("mode", ["async", "inline"])
def test_instances_are_left_out_until_too_few_live(
    tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty = ["env=gym", "env.id=tests.toys:Faulty-v0", "env.kwargs.fault=step", "env.restarts=0"]
    assert in_process(tmp_path, *faulty, "env.min_instances=2", f"run.mode={mode}", "env.workers=3") == 2
    assert "failed once more than its 0 restarts (env.restarts) allow:" in capsys.readouterr().err
    assert (tmp_path / "train.log").read_text().count("and is left out; the other 2 go on") == 1


def test_a_collector_that_never_delivers_is_not_replaced_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.runtime.collector_process, "UNHEARD_RESTARTS", 1)
    with pytest.raises(CollectorLost, match=r"more than 1 restarts allow: its process ended \(exit status 5\)"):
        in_process(tmp_path, *ORACLE, f"{CUSTOM}Dies")
