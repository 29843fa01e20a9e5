"""The benchmark of batched environments: a tiny run, and bad input."""

import json

from benchmarks import batched


def test_single_environments_and_batches_take_turns(capsys):
    assert batched.main(["--instances", "4", "--rounds", "1", "--seconds", "0.3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["over_gym"]["gym"] == 1
    assert set(result["samples_per_second"]) >= {"gym", "gymnasium"}
    assert min(result["samples_per_second"].values()) > 0


def test_bad_input_is_one_message(capsys):
    assert batched.main(["--rounds", "0"]) == 2
    assert capsys.readouterr().err == "batched: --rounds 0 must be above 0\n"
