"""The benchmark of acting policies: a tiny run, and bad input."""

import json

from benchmarks import acting


def test_every_memory_acts_in_turns_and_is_compared_with_none(capsys):
    arguments = ["--cells", "none", "gru", "--instances", "2", "--units", "4", "--seconds", "0.4", "--rounds", "2"]
    assert acting.main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["samples_per_second"]) == {"none", "gru"}
    assert result["over_none"]["none"] == 1
    assert result["over_none"]["gru"] > 0
    assert (result["law"], result["instances"], result["units"], result["rounds"]) == ("none", 2, 4, 2)


def test_nothing_to_measure_is_one_message(capsys):
    assert acting.main(["--units", "0"]) == 2
    assert capsys.readouterr().err == "acting: --units 0 must be above 0\n"
