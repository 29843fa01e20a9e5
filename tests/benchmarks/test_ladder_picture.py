from pathlib import Path

import pytest

from benchmarks.ladder_picture import curve, draw
from trainer.telemetry.tensorboard import TensorBoard

GOAL = {"metric": "bubbles", "at_most": 24.9, "window": 200}


@pytest.fixture
def folder(tmp_path) -> Path:
    board = TensorBoard(tmp_path / "run", 0)
    board.values(50, 0.0, {"run/seconds": 1.0})
    for samples, seconds, bubbles in ((100, 2.0, 20.0), (200, 4.0, 40.0), (300, 6.0, 24.0)):
        board.values(samples, 0.0, {"run/seconds": seconds, "goal/bubbles": bubbles})
    board.close()
    return tmp_path / "run"


def test_curve_is_by_seconds_from_the_first_full_window_on(folder):
    assert curve(folder, "goal/bubbles", since=200) == [(4.0, 40.0), (6.0, 24.0)]


def test_scalar_that_never_came_gives_no_curve(folder):
    assert curve(folder, "goal/reward", since=200) == []


def test_picture_is_drawn_also_of_a_run_without_a_full_window(folder, tmp_path):
    pytest.importorskip("matplotlib")
    board = TensorBoard(tmp_path / "short", 0)
    board.values(50, 0.0, {"run/seconds": 1.0, "goal/bubbles": 9.0})
    board.close()
    draw({"snoopy_ppo": [folder, tmp_path / "short"], "snoopy_sac": [folder]}, GOAL, tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")
