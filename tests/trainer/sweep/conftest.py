"""Sweeps whose runs take no time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from outstep.__main__ import main

FAKE = (sys.executable, "-S", str(Path(__file__).with_name("fake_train.py")))
BASIC = ["env=basic", "algorithm=ppo", "stop.samples=1000"]
RATE = "algorithm.learning_rate=interval(0.1,1)"


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Makes a sweep of such runs in an empty folder, and returns its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainer.sweep.trial.TRAIN", FAKE)
    monkeypatch.setattr("trainer.sweep.plan.check_train", lambda config: None)
    monkeypatch.setattr("trainer.sweep.plan.own_cores", lambda: 4)
    monkeypatch.setattr("trainer.sweep.page.write_sweep_page", lambda plan, study: None)

    def run(*words: str, fake: dict | None = None) -> int:
        monkeypatch.setenv("FAKE", json.dumps(fake or {}))
        return main(["sweep", *BASIC, *words])

    return run
