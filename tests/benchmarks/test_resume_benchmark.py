"""The benchmark of resumed runs tells episodes by where they began, and those before the resume from those after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.resume import _episodes, _leave_out_replay, _mean, main
from buffers.rows import Layout, Rows, Writer
from buffers.snapshot import Snapshot
from envs.spec import BehaviorSpec, ObservationSpec
from trainer.checkpoint import CheckpointStore

SPEC = BehaviorSpec("Toy", (ObservationSpec("x", (1,), "float32"),), branches=(2,))


def saved(folder: Path, steps: list[tuple[int, float, str]]) -> CheckpointStore:
    """A run whose rows are `steps`: agent, reward, and `t` or `c` where it terminated or was cut off."""
    layout = Layout(SPEC)
    rows = Rows(layout, bytearray(layout.memory_bytes(100)), 100)
    writer = Writer(rows)
    for agent, reward, end in steps:
        cut = np.array([end == "c"])
        writer.append(
            agent=np.array([agent]),
            observations=(np.zeros((1, 1), np.float32),),
            mask=np.zeros((1, 0), bool),
            continuous=np.zeros((1, 0), np.float32),
            discrete=np.zeros((1, 1), np.int32),
            log_prob=np.zeros(1, np.float32),
            version=1,
            reward=np.array([reward]),
            terminated=np.array([end == "t"]),
            truncated=cut,
            final_observations=(np.zeros((int(cut.sum()), 1), np.float32),),
            final_mask=np.zeros((int(cut.sum()), 0), bool),
        )
    store = CheckpointStore(folder / "checkpoints")
    store.save("1", {"w": np.ones(2)}, {"behaviors": {"Toy": {"spec": SPEC.to_dict()}}}, {"Toy": Snapshot(rows)})
    return store


def test_episodes_are_known_by_their_first_row_and_what_was_open_at_the_resume_never_ends(tmp_path: Path) -> None:
    before = [(0, 1.0, ""), (1, 5.0, ""), (0, 2.0, "t"), (0, 7.0, "")]
    after = [(0, 0.5, ""), (1, 3.0, "c"), (0, 0.25, "t")]
    saved(tmp_path, before + after)
    # Number 7 is the row of a last observation.
    assert _episodes(tmp_path, 4) == ([1, 6, 5], [3.0, 3.0, 0.75])
    assert _episodes(tmp_path, 0) == ([1, 2, 4], [3.0, 8.0, 7.75])
    assert _mean([1, 6, 5], [3.0, 4.0, 0.5], 4, 6) == 2.25
    assert np.isnan(_mean([1], [3.0], 1, 6))


def test_what_is_left_without_the_replay_is_the_same_otherwise(tmp_path: Path) -> None:
    store = saved(tmp_path, [(0, 1.0, "t")])
    before = store.load_latest()
    _leave_out_replay(tmp_path)
    after = store.load_latest()
    assert after.replay == {}
    assert after.state == before.state
    assert after.tensors["w"].tolist() == [1, 1]


@pytest.mark.parametrize("words", [["--seeds", "0"], ["--samples", "900"], ["--stretches", "-1"]])
def test_bad_input_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"resume: {words[0]} ")
