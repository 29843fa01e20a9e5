"""Weights of a run of ours, to begin another with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.tiny_runs import PPO, newest
from trainer.__main__ import main
from trainer.checkpoint import CheckpointStore

BASE = ["env=basic", "run.mode=inline", *PPO]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    assert main([*BASE, "stop.samples=70", f"run.dir={tmp_path / 'old'}"]) == 0
    return tmp_path / "old"


def test_a_checkpoint_may_be_named_itself_and_what_fits_of_it_is_taken(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = CheckpointStore(old / "checkpoints").all()[-1]
    end = ["stop.samples=3"]
    assert main([*BASE, *end, f"init={checkpoint}", f"run.dir={tmp_path / 'a'}"]) == 0
    key = "Basic-v0/weights/policy"
    np.testing.assert_array_equal(newest(tmp_path / "a").tensors[key], newest(old).tensors[key])
    capsys.readouterr()
    deeper = ["algorithm.network.hidden=[16,8]", f"init={old}"]
    assert main([*BASE, *end, *deeper, f"run.dir={tmp_path / 'b'}"]) == 0
    said = capsys.readouterr().err
    assert "begins with trunk.layers.0.weight, trunk.layers.0.bias, head.bias, the normaliser of" in said
    assert "begins anew: values or critics, trunk.layers.1.weight, trunk.layers.1.bias, head.weight." in said


def test_what_nothing_fits_of_is_refused(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*BASE, f"init={old}", "algorithm.network.hidden=[24]", f"run.dir={tmp_path / 'c'}"]
    assert main(words) == 2
    assert f"init={old}: nothing of it fits the networks of behavior 'Basic-v0'" in capsys.readouterr().err


def test_a_behavior_may_begin_with_that_of_another_game(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ["env=gym", "env.id=CartPole-v1", "run.mode=inline", *PPO, "stop.samples=3", f"run.dir={tmp_path / 'd'}"]
    deep = "algorithm.network.hidden=[16,16]"
    assert main([*BASE, deep, "stop.samples=3", f"run.dir={tmp_path / 'deep'}"]) == 0
    assert main([*other, deep, f"behaviors.CartPole-v1.init={tmp_path / 'deep'}"]) == 0
    said = capsys.readouterr().err
    assert "begins with trunk.layers.0.bias, trunk.layers.1.weight, trunk.layers.1.bias of" in said
    assert main([*other[:-1], deep, f"init={tmp_path / 'deep'}", f"run.dir={tmp_path / 'e'}"]) == 2
    assert "holds no behavior 'CartPole-v1'; it has Basic-v0" in capsys.readouterr().err
