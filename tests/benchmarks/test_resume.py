"""The benchmark of resumed runs goes back to one checkpoint in both ways, and compares in pairs, sample by sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.resume import _first_behind, _go_back, _means, _rewards, _updates, main, summed_up
from buffers.rows import Layout, Rows, Writer
from buffers.snapshot import Snapshot
from envs.spec import BehaviorSpec, ObservationSpec
from trainer.checkpoint import CheckpointStore

SPEC = BehaviorSpec("Toy", (ObservationSpec("x", (1,), "float32"),), branches=(2,))


def run(folder: Path, rewards: list[float], cut_off: int, saves: list[int], rows: int = 100) -> Path:
    """A run with one agent, whose step `cut_off` is cut off, saved whenever it has so many of `saves` samples."""
    layout = Layout(SPEC)
    writer = Writer(Rows(layout, bytearray(layout.memory_bytes(rows)), rows))
    store = CheckpointStore(folder / "checkpoints", keep=100)
    for step, reward in enumerate(rewards, 1):
        cut = np.array([step == cut_off])
        writer.append(
            agent=np.zeros(1, np.int64),
            observations=(np.zeros((1, 1), np.float32),),
            mask=np.zeros((1, 0), bool),
            continuous=np.zeros((1, 0), np.float32),
            discrete=np.zeros((1, 1), np.int32),
            log_prob=np.zeros(1, np.float32),
            version=1,
            reward=np.array([reward]),
            terminated=np.zeros(1, bool),
            truncated=cut,
            final_observations=(np.zeros((int(cut.sum()), 1), np.float32),),
            final_mask=np.zeros((int(cut.sum()), 0), bool),
        )
        if step in saves:
            store.save(
                str(step),
                {"w": np.array([step]), "Toy/updates": np.array(step - 1)},
                {"step": step},
                {"Toy": Snapshot(writer.rows)},
            )
    (folder / "config.yaml").write_text("seed: 0\n")
    return folder


def test_rewards_are_of_samples_in_their_order_and_not_of_last_observations(tmp_path: Path) -> None:
    store = CheckpointStore(run(tmp_path, [1.0, 2.0, 3.0, 4.0], cut_off=2, saves=[4]) / "checkpoints")
    assert _rewards(store.load_latest()).tolist() == [1, 2, 3, 4]
    assert _means(np.array([1.0, 3, 5, 7, 99]), 2, 2) == [2, 6]


def test_a_buffer_that_has_lost_its_first_rows_is_refused(tmp_path: Path) -> None:
    store = CheckpointStore(run(tmp_path, [1.0] * 30, cut_off=2, saves=[30], rows=20) / "checkpoints")
    with pytest.raises(RuntimeError, match="too small"):
        _rewards(store.load_latest())


@pytest.mark.parametrize("replay", [True, False])
def test_a_run_goes_back_to_the_first_checkpoint_behind_a_moment_and_loses_nothing_but_its_rows(
    tmp_path: Path, replay: bool
) -> None:
    whole = run(tmp_path / "whole", [1.0] * 9, cut_off=2, saves=[2, 5, 9])
    _go_back(whole, tmp_path / "back", _first_behind(whole, 3), replay)
    saved = CheckpointStore(tmp_path / "back" / "checkpoints").load_latest()
    assert (saved.tensors["w"].tolist(), saved.state, _updates(saved.path)) == ([5], {"step": 5}, 4)
    assert saved.replay.keys() == ({"Toy"} if replay else set())
    assert (tmp_path / "back" / "config.yaml").exists()
    assert CheckpointStore(whole / "checkpoints").load_latest().state == {"step": 9}


def test_differences_are_in_pairs() -> None:
    ways = {"uninterrupted": [-5.0, -1.0], "with": [-4.0, -1.0], "without": [-9.0, -7.0]}
    others = {"uninterrupted": [-3.0, -1.0], "with": [-2.0, -3.0], "without": [-4.0, -9.0]}
    runs = [
        {"samples": 10, "updates": 3, "before": -9.0, **ways},
        {"samples": 12, "updates": 5, "before": -1.0, **others},
    ]
    found = summed_up(runs)
    assert (found["samples"], found["updates"], found["before"], found["with"]) == (11, 4, -5, [-3, -2])
    differences = found["differences"]
    assert differences["with - uninterrupted"]["stretches"] == [{"mean": 1, "error": 0}, {"mean": -1, "error": 1}]
    assert differences["with - uninterrupted"]["all"] == {"mean": 0, "error": 0.5}
    assert differences["with - without"]["stretches"][0] == {"mean": 3.5, "error": pytest.approx(1.5)}
    assert differences["with - before"]["stretches"][1] == {"mean": 3, "error": 5}


@pytest.mark.parametrize(
    "words", [["--seeds", "3"], ["--samples", "900", "700"], ["--stretches", "-1"], ["--stretch", "0"]]
)
def test_bad_input_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"resume: {words[0]}")
