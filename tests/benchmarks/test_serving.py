import json

import pytest

from benchmarks.serving import main


def test_it_tells_what_a_request_takes_and_how_many_are_answered(capsys):
    assert main(["--requests", "200", "--clients", "2", "--seconds", "0.5", "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported.keys() == {
        *("requests", "clients", "seconds", "machine", "p50_ms", "p99_ms", "requests_per_second"),
    }
    assert 0 < reported["p50_ms"] <= reported["p99_ms"]
    assert reported["requests_per_second"] > 0


@pytest.mark.parametrize("words", [["--requests", "0"], ["--clients", "-1"], ["--seconds", "nan"]])
def test_numbers_that_make_no_sense_are_refused(words, capsys):
    assert main(words) == 2
    assert f"{words[0]} {float(words[1]):g} must be above 0" in capsys.readouterr().err
