import json
import subprocess
import sys

import pytest

from benchmarks import sample_throughput
from benchmarks.sample_throughput import LIBRARIES, OURS, Score, main
from benchmarks.supply import Span


def test_json_is_one_object_with_every_contender_and_ratios(capsys):
    names = [*OURS, "gymnasium_async"]
    argv = ["--law", "snoopy", "--instances", "2", "--seconds", "1", "--json", "--contenders", *names]
    assert main(argv) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["law"], result["instances"], result["time_scale"], result["rounds"]) == ("snoopy", 2, 20.0, 2)
    for name in names:
        figures = result[name]
        assert figures["samples"] > 0
        assert figures["samples_per_second"] == figures["samples"] / figures["seconds"]
        assert 0 < figures["env_utilization"] < 1.2
        assert figures["layout"].startswith("2 instances in ")
    assert "sb3_subproc" not in result
    assert result["over_gymnasium_async"]["gymnasium_async"] == 1.0
    assert result["over_gymnasium_async"].keys() == set(names)


def test_law_none_has_no_supply(capsys):
    argv = ["--law", "none", "--instances", "2", "--seconds", "0.4", "--json", "--contenders", "async"]
    assert main(argv) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["async"]["env_utilization"] is None
    assert result["async"]["samples"] > 0


def test_text_names_contenders_and_layout(capsys):
    argv = ["--law", "game_engine", "--instances", "2", "--seconds", "0.4", "--rounds", "1", "--contenders", "async"]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "law game_engine" in text
    assert "Outstep, asynchronous" in text
    assert "2 instances in " in text


def test_score_joins_rounds():
    score = Score(samples=30, seconds=3.0, spans=[Span(9, 1.0, 1.0), Span(19, 2.0, 1.0)])
    figures = score.figures("words")
    assert figures["samples_per_second"] == 10.0
    assert figures["env_utilization"] == pytest.approx(28 / (9 + 38))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seconds", "0"], "--seconds 0"),
        (["--instances", "0"], "--instances 0"),
        (["--rounds", "0"], "--rounds 0"),
        (["--time-scale", "-1"], "--time-scale -1"),
        (["--law", "none", "--time-scale", "20"], "law none"),
    ],
)
def test_bad_options_are_refused_by_name(argv, words, capsys):
    assert main([*argv, "--json"]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_missing_library_is_left_out_unless_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(sample_throughput, "find_spec", lambda name: None)
    assert sample_throughput._contenders(None) == [*OURS, LIBRARIES[0]]
    assert main(["--contenders", "sb3_subproc"]) == 2
    assert "outstep[bench]" in capsys.readouterr().err


def test_module_imports_no_torch():
    code = "import sys, benchmarks.sample_throughput; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
