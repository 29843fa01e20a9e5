from __future__ import annotations

import numpy as np
import pytest

from envs.spec import BehaviorSpec, Decisions, ObservationSpec
from trainer.check.__main__ import main
from trainer.check.survey import Survey, by_chance, describe

SPEC = BehaviorSpec("b", (ObservationSpec("o", (3,), "float32"),), 2, (3, 2), True)


def decisions(mask: np.ndarray) -> Decisions:
    count = len(mask)
    return Decisions(np.zeros(count, np.int32), np.arange(count), (np.zeros((count, 3), np.float32),), mask)


def test_actions_by_chance_are_those_that_masks_allow() -> None:
    mask = np.ones((500, 5), bool)
    mask[:, [0, 4]] = False
    continuous, discrete = by_chance(SPEC, decisions(mask), np.random.default_rng(0))
    assert (continuous.shape, continuous.dtype, discrete.shape, discrete.dtype) == (
        (500, 2),
        "float32",
        (500, 2),
        "int32",
    )
    assert np.abs(continuous).max() <= 1
    assert set(discrete[:, 0]) == {1, 2}
    assert set(discrete[:, 1]) == {0}


def test_what_was_seen_is_told_with_what_was_left_out() -> None:
    survey = Survey({"b": SPEC}, forbidden=set(), statistics={"z", "a"}, notes=["a channel is not known"])
    survey.samples["b"], survey.seconds, survey.turns, survey.busy_seconds = 300, 2.0, 100, 0.5
    survey.own_cpu, survey.games_cpu = 0.1, 0.4
    text = "\n".join(describe(survey, lambda: ["more"]))
    for words in (
        "behavior 'b'\n  observes  o 3 float32\n",
        "2 continuous actions and choices of 3 x 2, with masks that have forbidden nothing so far",
        "statistics: a, z\nmore\nnote: a channel is not known\n",
        "one instance: 150 samples/s, 50 steps/s, of which one takes the game 5 ms",
        "one core feeds about 4 of them: the game takes 20 % of a core, and Outstep 5 %",
    ):
        assert words in text


def test_a_player_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["env=unity", "env.player=env=basic agents=2 late=Extra:8", "env.time_scale=1000", "seconds=0.5"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "behavior 'Basic-v0'\n  observes  observation 20 float32\n  does      choices of 3" in out
    assert "behavior 'Extra'" in out
    assert "agents of 'Extra?team=0': up to" in out
    assert "one core feeds" in out


def test_what_cannot_be_trained_on_is_one_message_behind_what_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env=unity", "env.executable=absent.x86_64"]) == 2
    assert main(["env.id=CartPole-v1", "seconds=0"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(" ")[0] for line in err.splitlines()] == ["error:", "error:"]
    assert "seconds=0" in err


def test_a_gymnasium_environment_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env.id=tests.toys:Oracle-v0", "seconds=0.3"]) == 0
    out = capsys.readouterr().out
    assert "behavior 'Oracle-v0'" in out
    assert "choices of 5" in out
