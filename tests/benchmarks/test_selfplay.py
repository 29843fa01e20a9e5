"""The figures of self-play, of a toy game that is over at once."""

from __future__ import annotations

from benchmarks import selfplay
from tests.trainer.tiny_runs import PPO
from trainer.__main__ import main

GAME = "env=tests.trainer.selfplay.duels:DuelsConfig"


def test_a_run_is_played_against_a_bot_and_against_its_own_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(selfplay, "PLAYED", 3)
    words = [GAME, "run.mode=inline", "run.loggers=[]", *PPO, f"run.dir={tmp_path}", "stop.samples=1200"]
    words += ["self_play.save_samples=100", "checkpoint.every_samples=100", "checkpoint.keep=50"]
    assert main(words) == 0
    found = selfplay.measured(tmp_path, "tests.trainer.selfplay.duels:chance", 10)
    assert found["bot"] > 0.5
    assert next(iter(found["older"].values())) > 0.5
    assert len(found["ratings"]) == len(found["true_ratings"]) == 3
    assert -1 <= found["rank_correlation"] <= 1
