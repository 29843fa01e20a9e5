"""Runs of the trainer that are over in seconds, and how two of them compare."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from trainer.checkpoint import Checkpoint, CheckpointStore
from trainer.config.signature import sign

TINY = ["algorithm.network.hidden=[16]", "algorithm.buffer_memory_mib=8", "run.picture_minutes=0", "env.instances=3"]
PPO = ["algorithm=ppo", "algorithm.rollout_size=64", "algorithm.minibatch_size=32", "algorithm.epochs=2", *TINY]
SAC = [
    "algorithm=sac",
    "algorithm.start_samples=40",
    "algorithm.batch_size=16",
    "algorithm.updates_per_sample=0.5",
    *TINY,
]


def rewrite_config(folder: Path, text: str) -> None:
    """Gives a run another `config.yaml`, and the user's signature."""
    (folder / "config.yaml").write_text(text)
    sign(folder, text.encode())


def newest(folder: Path) -> Checkpoint:
    return CheckpointStore(folder / "checkpoints").load_latest()


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def same_end(whole: Path, parts: Path) -> Checkpoint:
    """Asserts that two inline runs ended bit for bit alike; the first one's newest checkpoint."""
    ours, theirs = newest(whole), newest(parts)
    assert ours.tensors.keys() == theirs.tensors.keys()
    for name, tensor in ours.tensors.items():
        np.testing.assert_array_equal(tensor, theirs.tensors[name], err_msg=name)
    assert ours.state["collector"] == theirs.state["collector"]
    assert ours.state["report"]["episodes"] == theirs.state["report"]["episodes"]
    return ours
