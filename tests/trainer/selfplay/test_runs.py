"""Whole runs with self-play on a toy game of two teams."""

from __future__ import annotations

import json

import pytest

from tests.trainer.tiny_runs import PPO, SAC, newest, same_end, summary
from trainer.__main__ import main

GAME = ["env=tests.trainer.selfplay.duels:DuelsConfig", "run.loggers=[]"]
INLINE = [*GAME, "run.mode=inline"]
REMEMBER = [f"algorithm.network.memory.{each}" for each in ("cell=gru", "size=6", "sequence_length=5", "burn_in=2")]
QUICK = ["self_play.save_samples=40", "self_play.team_change_samples=90", "self_play.window=3", "self_play.opponents=2"]


@pytest.mark.parametrize(
    "words",
    [
        [*PPO, *REMEMBER, "env.size=2"],
        [*SAC, "self_play.sampling=prioritised", "self_play.result=margin"],
        [*PPO, "env.asymmetric=true", "env.length=7", "self_play.result=return", "env.instances=5"],
    ],
)
def test_a_run_that_is_cut_off_again_and_again_ends_bit_for_bit_alike(tmp_path, words):
    words = [*INLINE, *words, *QUICK]
    assert main([*words, f"run.dir={tmp_path / 'whole'}", "stop.samples=700"]) == 0
    assert main([*words, f"run.dir={tmp_path / 'parts'}", "stop.samples=1"]) == 0
    for samples in (43, 211, 500, 700):
        assert main([f"resume={tmp_path / 'parts'}", f"stop.samples={samples}"]) == 0
    whole = same_end(tmp_path / "whole", tmp_path / "parts")
    state = whole.state["self_play"]
    assert state == newest(tmp_path / "parts").state["self_play"]
    assert state["turn"] > 3
    assert sum(each["rated"] for each in state["ratings"].values()) > 10
    kept = [name for name in whole.tensors if "self_play/snapshot_" in name]
    assert len(kept) >= 3


def test_a_symmetric_game_is_learned_and_the_rating_tells(tmp_path):
    run = tmp_path / "run"
    words = [*INLINE, *PPO, "self_play.save_samples=200", "run.log_samples=500"]
    assert main([*words, f"run.dir={run}", "stop.samples=2500"]) == 0
    assert summary(run)["ratings"]["Duelist"] > 1400
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["Duelist/self_play/elo"] > 1400
    assert last["Duelist/self_play/win_rate"] > 0.5
    assert any(name.startswith("Duelist/self_play/against_") for name in last)
