"""Whole runs with self-play on a toy game of two teams."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest

from tests.trainer.tiny_runs import PPO, SAC, newest, same_end, summary
from trainer.__main__ import main
from trainer.config.saved import load_config
from trainer.evaluate.__main__ import main as evaluate_main
from trainer.report.curves import read_history, sections

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


def test_a_run_of_a_pettingzoo_game_goes_on_bit_for_bit(tmp_path):
    pytest.importorskip("pettingzoo")
    words = ["env=keepers", "env.workers=1", "run.loggers=[]", "run.mode=inline", *PPO, *QUICK]
    assert main([*words, f"run.dir={tmp_path / 'whole'}", "stop.samples=300"]) == 0
    assert main([*words, f"run.dir={tmp_path / 'parts'}", "stop.samples=110"]) == 0
    assert main([f"resume={tmp_path / 'parts'}", "stop.samples=300"]) == 0
    whole = same_end(tmp_path / "whole", tmp_path / "parts")
    assert whole.state["self_play"] == newest(tmp_path / "parts").state["self_play"]
    assert whole.state["self_play"]["turn"] > 1


def test_a_symmetric_game_is_learned_and_the_rating_tells(tmp_path):
    run = tmp_path / "run"
    words = [*INLINE, *PPO, "self_play.save_samples=200", "run.log_samples=500"]
    assert main([*words, f"run.dir={run}", "stop.samples=2500"]) == 0
    assert summary(run)["ratings"]["Duelist"] > 1400
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["Duelist/self_play/elo"] > 1400
    assert last["Duelist/self_play/win_rate"] > 0.5
    assert any(name.startswith("Duelist/self_play/against_") for name in last)
    page = sections(read_history(run), load_config(run))
    assert [chart.title for chart in page[0].charts][:2] == ["Elo rating", "Matches won"]
    assert "Against each opponent" in [section.title for section in page]
    before = newest(run).state["self_play"]["ratings"]["Duelist"]["rating"]
    assert main([f"resume={run}", "stop.samples=9000", f"stop.rating={before - 1}"]) == 0  # which it has reached
    assert newest(run).state["self_play"]["ratings"]["Duelist"]["rating"] == before


def test_nothing_that_frozen_teams_do_gets_into_buffers_or_statistics(tmp_path):
    run = tmp_path / "run"
    words = [*INLINE, *PPO, *QUICK, "env.size=2", "env.marked=true", f"run.dir={run}", "stop.samples=600"]
    assert main(words) == 0
    saved = newest(run)
    (replay,) = saved.replay.values()
    marks = np.concatenate([arrays["observation_0"][:, 1] for _, arrays in replay.chunks()]).astype(int)
    marks = marks[: saved.state["behaviors"]["Duelist"]["samples"]]
    teams = defaultdict(set)
    for mark in marks.tolist():
        at, instance = divmod(mark // 2, 3)
        teams[at // 4, instance].add(mark % 2)
    assert {len(found) for found in teams.values()} == {1}  # of each episode in each instance, one team's steps
    assert set.union(*teams.values()) == {0, 1}
    steps = np.unique(marks, return_counts=True)[1]
    assert set(steps.tolist()) == {2}  # both of its agents'
    report = saved.state["report"]["episodes"]
    assert report["episodes"] == len(marks) // 4 == 150
    assert set(report["values"]["length"]) == {4.0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["env.teams=1"], "self_play needs two teams, and an episode has ended in which all agents were on team 0"),
        (["env.hides=true"], "self_play needs to know on which team an agent plays, and this environment does not say"),
        (
            ["self_play.result=goals"],
            "self_play.result=goals is not among the numbers that episodes end with; there is",
        ),
        (["self_play.fixed=[runs/none]"], "self_play.fixed=runs/none is unknown; name the folder of a run"),
        (["self_play.fixed=[none.onnx]"], "self_play.fixed=none.onnx: there is no such file"),
        (["self_play.opponents=1"], "self_play.opponents=1 must lie between 2 and 64"),
        (["self_play.save_sample=1"], "unknown key self_play.save_sample; did you mean self_play.save_samples?"),
        (
            ["env=basic"],
            "self_play: envs.games:Basic-v0 has one agent, and self-play needs two teams: leave self_play out",
        ),
    ],
)
def test_what_cannot_be_is_told_by_one_message(tmp_path, capsys, words, message):
    game = [word for word in INLINE if not (words[0].startswith("env=") and word.startswith("env="))]
    assert main([*game, *PPO, *QUICK, *words, f"run.dir={tmp_path / 'run'}", "stop.samples=400"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_fixed_opponents_are_played_against_rated_and_must_fit(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    bot = "tests.trainer.selfplay.duels:high"
    assert main([*INLINE, *PPO, f"self_play.fixed=[{bot}]", f"run.dir={first}", "stop.samples=500"]) == 0
    state = newest(first).state["self_play"]["ratings"]["Duelist"]
    assert [name for _, name, *_ in state["opponents"]] == [bot]
    assert state["rating"] < 1200 < state["opponents"][0][2]
    words = [*INLINE, *PPO, f"self_play.fixed=[{first}]", "self_play.save_samples=100", f"run.dir={second}"]
    assert main([*words, "stop.samples=300"]) == 0
    capsys.readouterr()
    assert main([*words[:-1], "env.asymmetric=true", f"run.dir={tmp_path / 'third'}", "stop.samples=300"]) == 2
    assert f"{first}" in (error := capsys.readouterr().err)
    assert "holds no behavior 'Left'; it has Duelist" in error
    assert evaluate_main([f"run={second}", f"against={first}", "episodes=12"]) == 0
    assert "12 matches" in capsys.readouterr().out
    assert evaluate_main([f"run={first}", f"against={bot}", "episodes=9", "deterministic=false"]) == 0
    (written,) = (first / "evaluation" / "against").glob("*.json")
    found = json.loads(written.read_text())
    assert found["wins"] + found["draws"] + found["losses"] == found["matches"] == 9
    assert found["wins"] == 0
    assert evaluate_main([f"run={tmp_path}", "episodes=6"]) == 0
    table = json.loads((tmp_path / "tournament.json").read_text())["table"]
    assert {each["run"] for each in table} >= {str(first), str(second)}
    assert evaluate_main([f"run={first}", "against=nobody"]) == 2
    assert "against=nobody is unknown; name the folder of a run" in capsys.readouterr().err
