import json

from tests.stress.endpoint import _short, _text, main

FINE = {
    "lives": True,
    "pings": 100,
    "p99_ms": 900.0,
    "p99_processor_ms": 9.0,
    "slowest_ms": 950.0,
    "growth_mib": 3.0,
    "tracebacks": [],
    "replies": {"400": 7, "503": 1},
}
REFUSED = {"status": 2, "lines": 1, "characters": 90, "seconds": 1.0, "memory_mib": 90.0, "words": "error: ..."}


def test_an_endpoint_lives_on_while_it_is_asked_odd_things(capsys):
    assert main(["--attacks", "odd requests", "--seconds", "1", "--no-models", "--json"]) in (0, 1)  # 1: a busy machine
    seen = json.loads(capsys.readouterr().out)["attacks"]["odd requests"]
    assert seen["lives"]
    assert seen["tracebacks"] == []
    assert seen["replies"].keys() <= {"200", "307", "400", "404", "405", "431", "hung up"}


def test_what_falls_short_is_named():
    worse = FINE | {"lives": False, "p99_processor_ms": 200.0, "growth_mib": 70.0, "replies": {"500": 1}}
    result = {"attacks": {"fine": FINE, "worse": worse}, "models": {"a": REFUSED, "b": REFUSED | {"status": 0}}}
    short = _short(result)
    assert [words.partition(":")[0] for words in short] == ["worse"] * 4 + ["model b"]
    assert all(words in _text(result | {"short": short}) for words in short)


def test_bad_options_are_refused(capsys):
    assert main(["--seconds", "0"]) == 2
    assert "--seconds 0 must be above 0" in capsys.readouterr().err
