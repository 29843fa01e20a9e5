"""Traces of a run: what they hold, how much of it, and that none is made unasked."""

import gzip
import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.trainer.tiny_runs import SAC
from trainer.__main__ import main
from trainer.config.schema import RunConfig
from trainer.runtime.collector_process import _turns
from trainer.runtime.ipc import Message
from trainer.telemetry import profiler as profile
from trainer.telemetry.profiler import tracer

ASKED = RunConfig(profile=True)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """What time it is, in its only item."""
    now = [0.0]
    monkeypatch.setattr(profile.time, "perf_counter", lambda: now[0])
    return now


def traced(file: Path) -> list[str]:
    """Names of the events in a trace."""
    with gzip.open(file, "rt") as events:
        return [event.get("name", "") for event in json.load(events)["traceEvents"]]


def test_trace_begins_warm_and_holds_a_bounded_number_of_turns(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(profile, "_TURNS", 3)
    turned = tracer(ASKED, tmp_path, "learner")
    for operation, seconds in ((torch.sin, 1.0), (torch.cos, 0.01), (torch.tan, 0.01)):
        for _ in range(5):
            operation(torch.zeros(1))
            clock[0] += seconds
            turned()
        clock[0] += 5.0 if operation is torch.sin else 0.0
    (file,) = (tmp_path / "profile").iterdir()
    assert file.name == "learner.pt.trace.json.gz"
    names = traced(file)
    # The turn that ends the warm-up is not in it any more, and three are.
    assert [names.count(f"aten::{name}") for name in ("sin", "cos", "tan")] == [0, 3, 0]


def test_trace_ends_after_a_second_however_few_turns_that_were(tmp_path, clock):
    turned = tracer(ASKED, tmp_path, "learner")
    for seconds in (0.0, 5.0, 0.6):
        clock[0] += seconds
        turned()
    assert not (tmp_path / "profile").exists()
    clock[0] += 0.6
    turned()
    assert (tmp_path / "profile" / "learner.pt.trace.json.gz").exists()


def test_nothing_is_traced_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr(profile, "_WARM_UP_SECONDS", 0.0)
    turned = tracer(RunConfig(), tmp_path, "learner")
    for _ in range(200):
        turned()
    assert not list(tmp_path.iterdir())


def test_run_is_traced_from_updates_down_to_operations(tmp_path, monkeypatch):
    monkeypatch.setattr(profile, "_WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(profile, "_TURNS", 3)
    words = [
        *SAC,
        "env=gym",
        "env.id=CartPole-v1",
        "env.workers=1",
        "run.mode=inline",
        "run.profile=true",
        "stop.samples=60",
    ]
    assert main([*words, f"run.dir={tmp_path}"]) == 0
    names = traced(tmp_path / "profile" / "learner.pt.trace.json.gz")
    assert sum("learner.py" in name and name.endswith(": update") for name in names) == 3
    assert any("collector.py" in name and name.endswith(": turn") for name in names)
    assert any(name.startswith("aten::") for name in names)


def test_every_turn_of_a_collector_is_one_of_its_trace():
    reported = [[], [], [Message("stop", "", None)]]
    link = SimpleNamespace(receive=lambda: reported.pop(0))
    collector = SimpleNamespace(throttled=False, turn=lambda timeout: None, channels={})
    turns = []
    side = SimpleNamespace(report=lambda: turns.append("reported"))
    _turns(side, collector, link, defaultdict(int), lambda: turns.append("traced"))
    assert turns == ["reported", "traced"] * 2
