"""docs/extending.md, done as it says, and what is refused before a run starts."""

from __future__ import annotations

import pytest

from tests.docs.blocks import command, file_of
from tests.trainer.tiny_runs import PPO, SAC, newest, same_end
from trainer.__main__ import main
from trainer.evaluate.__main__ import main as evaluate_main

PAGE = "docs/extending.md"
INLINE = ["env=basic", "env.workers=1", "run.mode=inline"]
EACH = pytest.mark.parametrize("words", [PPO, SAC], ids=["ppo", "sac"])


@pytest.fixture
def custom(tmp_path, monkeypatch) -> str:
    """The page's network, in a file of the name that it says, and the override with which it is chosen."""
    (tmp_path / "my_networks.py").write_text(file_of(PAGE, "my_networks.py"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    override = "algorithm.network.custom=my_networks:Residual"
    assert override in command(PAGE, "my_networks:")
    return override


@EACH
def test_the_pages_network_learns_and_is_evaluated(tmp_path, custom, words):
    run = tmp_path / "run"
    assert main([*INLINE, *words, custom, f"run.dir={run}", "stop.samples=200"]) == 0
    checkpoint = newest(run)
    assert checkpoint.state["behaviors"]["Basic-v0"]
    # Shift and scale of 20 numbers, 16 units on them, a layer norm and a layer behind it, a head of three choices.
    size = 2 * 20 + (20 + 1) * 16 + 2 * 16 + (16 + 1) * 16 + (16 + 1) * 3
    assert checkpoint.tensors["Basic-v0/weights/policy"].shape == (size,)
    assert evaluate_main([f"run={run}", "episodes=2"]) == 0


@EACH
def test_inline_resume_with_a_network_of_ones_own_is_bit_for_bit(tmp_path, custom, words):
    arguments = [*INLINE, *words, custom]
    assert main([*arguments, f"run.dir={tmp_path / 'whole'}", "stop.samples=250"]) == 0
    assert main([*arguments, f"run.dir={tmp_path / 'parts'}", "stop.samples=130"]) == 0
    assert main([f"resume={tmp_path / 'parts'}", "stop.samples=250"]) == 0
    same_end(tmp_path / "whole", tmp_path / "parts")


def test_collectors_find_a_network_of_ones_own(tmp_path, custom):
    assert main(["env=basic", *PPO, custom, f"run.dir={tmp_path / 'run'}", "stop.samples=150"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["algorithm.network.custom=my_networks:Residua"], "algorithm.network.custom: my_networks:Residua: module"),
        (["algorithm.network.custom=my_networks:Residual", "algorithm.network.hidden=[]"], "(IndexError: list index"),
        (["env=bubble_shooter", "algorithm.network.encoder=nature"], "shape (3, 10, 8): it needs 36 pixels a side"),
        (["algorithm.network.encoder=resnet"], "algorithm.network.encoder=resnet"),
    ],
)
def test_networks_that_cannot_be_are_refused_before_there_is_a_folder(tmp_path, custom, capsys, words, message):
    assert main([*INLINE, *PPO, *words, f"run.dir={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@EACH
def test_the_bubble_shooters_board_goes_through_impala_where_that_is_asked_for(tmp_path, words):
    words = [*words, "env=bubble_shooter", "env.time_scale=0", "algorithm.network.encoder=impala", "run.mode=inline"]
    assert main([*words, f"run.dir={tmp_path / 'run'}", "stop.samples=80"]) == 0
    assert newest(tmp_path / "run").tensors["BubbleShooter-v0/weights/policy"].size > 90_000
