import json

import pytest

from benchmarks.learners import CASES, main


def test_it_compares_several_learners_with_one(capsys):
    assert main(["--cases", "sac_256", "--seconds", "0.2", "--rounds", "2", "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["learners"] == 2
    (case,) = reported["cases"]
    assert case["ratio"]["least"] <= case["ratio"]["median"] <= case["ratio"]["most"]
    assert case["difference"] < 1e-5
    assert case["ms"]["several"] > 0


@pytest.mark.parametrize("words", [["--seconds", "0"], ["--rounds", "-1"], ["--seconds", "nan"]])
def test_numbers_that_make_no_sense_are_refused(words, capsys):
    assert main([*words, "--cases", *CASES]) == 2
    assert f"{words[0]} {float(words[1]):g} must be above 0" in capsys.readouterr().err


def test_one_learner_is_no_contest(capsys):
    assert main(["--learners", "1"]) == 2
    assert "--learners 1 must be at least 2" in capsys.readouterr().err
