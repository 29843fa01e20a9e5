"""Checkpoints whose sums are right and whose content is not what the run needs: one message, and nothing is begun."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.tiny_runs import PPO, newest
from trainer.__main__ import main as train
from trainer.checkpoint import CheckpointStore
from trainer.evaluate.__main__ import main as evaluate
from trainer.export.__main__ import main as export

ENV = ["env=gym", "env.id=tests.toys:Oracle-v0", *PPO, "run.mode=inline"]
WEIGHTS = "Oracle-v0/weights/policy"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("misfits") / "run"
    assert train([*ENV, "stop.samples=100", f"run.dir={folder}"]) == 0
    return folder


def changed(run: Path, to: Path, *at: str, value: Any = None) -> Path:
    """A copy of the run whose checkpoint has `value` in a place of its arrays or its state, or lacks it (None)."""
    shutil.copytree(run, to)
    saved = newest(run)
    content = {"tensors": dict(saved.tensors), "state": copy.deepcopy(saved.state)}
    place = content
    for key in at[:-1]:
        place = place[key]
    if value is None:
        del place[at[-1]]
    else:
        place[at[-1]] = value
    shutil.rmtree(to / "checkpoints")
    CheckpointStore(to / "checkpoints").save("100", content["tensors"], content["state"])
    return to


BEHAVIOR = ("state", "behaviors", "Oracle-v0")
COMMON = [
    (("state", "behaviors"), None),
    (("state", "behaviors"), [1]),
    ((*BEHAVIOR, "spec"), None),
    ((*BEHAVIOR, "spec", "branches"), [-1]),
    ((*BEHAVIOR, "samples"), "x"),
]


@pytest.mark.parametrize(("at", "value"), COMMON)
def test_a_checkpoint_that_describes_no_behaviors_is_refused(run, tmp_path, capsys, at, value):
    misfit = changed(run, tmp_path / "run", *at, value=value)
    for command in (
        lambda: export([f"run={misfit}", f"to={tmp_path / 'model.onnx'}"]),
        lambda: evaluate([f"run={misfit}", "episodes=1"]),
        lambda: train([*ENV, f"init={misfit}", "stop.samples=10", f"run.dir={tmp_path / 'new'}"]),
    ):
        assert command() == 2
        assert capsys.readouterr().err.count("error: ") == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize(
    "weights", [None, np.zeros((2, 3), np.float32), np.zeros(5, np.uint16), np.full(5, np.nan, np.float32)]
)
def test_weights_that_cannot_be_are_refused(run, tmp_path, capsys, weights):
    misfit = changed(run, tmp_path / "run", "tensors", WEIGHTS, value=weights)
    assert export([f"run={misfit}", f"to={tmp_path / 'model.onnx'}"]) == 2
    assert train([*ENV, f"init={misfit}", "stop.samples=10", f"run.dir={tmp_path / 'new'}"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("at", "value"),
    [
        *COMMON,
        (("tensors", WEIGHTS), None),
        (("state", "collector"), [1]),
        (("state", "collector", "manager"), {"begun": "x"}),
        (("state", "report"), None),
        (("state", "report", "episodes"), []),
        (("state", "report", "diagnoses", "Oracle-v0", "returns", "first"), "x"),
        (("state", "self_play"), ["x"]),
        (("state", "self_play", "teams"), [1]),
    ],
)
def test_a_run_is_not_resumed_from_what_cannot_be(run, tmp_path, capsys, at, value):
    misfit = changed(run, tmp_path / "run", *at, value=value)
    assert train([f"resume={misfit}", "stop.samples=120"]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    assert "Traceback" not in error
