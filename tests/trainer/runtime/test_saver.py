"""The models that a run keeps beside its checkpoints."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import trainer.runtime.saver
from envs.process.whole_files import write_whole
from envs.spec import UserError
from tests.algorithms.test_numpy_policy import decisions
from tests.trainer.evaluate.test_evaluate import trained
from tests.trainer.several import Several
from tests.trainer.tiny_runs import PPO, SAC, same_end
from trainer.__main__ import main
from trainer.checkpoint import CheckpointStore
from trainer.config.compose import load_config
from trainer.saved_policy import trained_policy
from trainer.serve.onnx_policy import Model

INLINE = ["env=basic", "env.workers=1", "run.mode=inline"]


def assert_models_are_those_of(folder: Path, checkpoints: list[Path]) -> None:
    """Each checkpoint's model, and no other, acts as its policy does; and the first one's is also the behavior's."""
    store, models = CheckpointStore(folder / "checkpoints"), folder / "models"
    kept = {path.name for path in store.all()}
    assert {path.name for path in models.iterdir() if path.is_dir()} == kept
    files = [models, *(models / path.name for path in checkpoints[1:])]
    for path, file in zip(checkpoints, files):
        model = Model.load(str(file / "Oracle-v0.onnx"))
        policy = trained_policy(load_config(folder), store.load(path), model.exported.spec)
        observations, mask, memory = decisions(policy.spec, 30)
        acted = policy.act(observations, mask, memory, None, deterministic=True)
        chosen = model.act(observations, np.ones((30, 5), bool), memory, deterministic=True)
        np.testing.assert_array_equal(chosen.discrete, acted.discrete)


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_a_run_keeps_models_of_its_kept_checkpoints_and_of_the_best(algorithm: list[str], tmp_path: Path) -> None:
    short = ["env=gym", "env.id=tests.toys:Oracle-v0", "env.kwargs.length=1", "run.mode=inline"]
    often = ["checkpoint.every_seconds=0.05", "checkpoint.keep=2", "run.log_seconds=0.05"]
    assert main([*algorithm, *short, *often, "stop.samples=500", f"run.dir={tmp_path}"]) == 0
    store = CheckpointStore(tmp_path / "checkpoints")
    best = store.best()
    assert best is not None
    assert [int(path.name[:6]) > 1 for path in store.all()] == [True, True]  # some are gone
    assert_models_are_those_of(tmp_path, [best, *store.all()])


def test_without_a_best_the_newest_stands_in(tmp_path: Path) -> None:
    long = ["env=gym", "env.id=tests.toys:Oracle-v0", "env.kwargs.length=1000", "run.mode=inline"]
    assert main([*PPO, *long, "stop.samples=100", f"run.dir={tmp_path}"]) == 0
    store, models = CheckpointStore(tmp_path / "checkpoints"), tmp_path / "models"
    assert store.best() is None
    newest = store.all()[-1].name
    assert (models / "Oracle-v0.onnx").read_bytes() == (models / newest / "Oracle-v0.onnx").read_bytes()


def test_each_behavior_has_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained(tmp_path, Several(late=0), monkeypatch)
    assert {path.name for path in (folder / "models").glob("*.onnx")} == {"Early.onnx", "Late.onnx"}
    assert Model.load(str(folder / "models" / "Late.onnx")).exported.channels_last  # as all of Unity's


@pytest.mark.parametrize(
    "error", [UserError("no operator"), ImportError("No module named 'onnx'"), OSError(28, "No space left on device")]
)
def test_a_model_that_cannot_be_made_is_reported_and_ends_nothing(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(trainer.runtime.saver, "exported_model", refuse)
    often = ["checkpoint.every_seconds=0.001"]
    assert main([*PPO, *INLINE, *often, "stop.samples=150", f"run.dir={tmp_path}"]) == 0
    reported = capsys.readouterr().err.count("Training goes on.")
    assert reported > 1 if isinstance(error, OSError) else reported == 1  # a disk may have room later
    assert len(CheckpointStore(tmp_path / "checkpoints").all()) == 3


def test_models_change_nothing_of_what_a_run_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    assert main([*PPO, *INLINE, "stop.samples=200", f"run.dir={tmp_path / 'with'}"]) == 0
    state = torch.random.get_rng_state()
    monkeypatch.setattr(trainer.runtime.saver.Saver, "_write_model", lambda *_: None)
    torch.manual_seed(0)
    assert main([*PPO, *INLINE, "stop.samples=200", f"run.dir={tmp_path / 'without'}"]) == 0
    assert torch.equal(torch.random.get_rng_state(), state)
    same_end(tmp_path / "with", tmp_path / "without")
    assert not (tmp_path / "without" / "models").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names of open files")
def test_a_file_outlives_a_power_cut_once_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    flush, rename = os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda file: (done.append(os.readlink(f"/proc/self/fd/{file}")), flush(file)))
    monkeypatch.setattr("os.replace", lambda *names: (done.append("renamed"), rename(*names)))
    write_whole(tmp_path / "a.onnx", b"model")
    assert done == [str(tmp_path / ".aside-a.onnx"), "renamed", str(tmp_path)]


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "models" / "a.onnx"
    write_whole(file, b"first")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_whole(file, b"second")
    assert file.read_bytes() == b"first"
    assert [path.name for path in file.parent.glob("*.onnx") if not path.name.startswith(".")] == ["a.onnx"]
