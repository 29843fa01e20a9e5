"""`outstep demos show`."""

import json

import numpy as np
import pytest

from envs.spec import BehaviorSpec, Demonstration, ObservationSpec
from envs.unity.demo.writer import DemoWriter
from tests.envs.unity.demo.demo_files import file_of, floats, pair, parameters
from trainer.demos.__main__ import main

SPEC = BehaviorSpec("Toy", (ObservationSpec("x", (2,), "float32"),), continuous_size=1, branches=(2, 3), masked=True)


def episode(choices, rewards, terminated, continuous=0.5):
    steps, kept = len(rewards), 0 if terminated else 1
    return Demonstration(
        (np.zeros((steps, 2), np.float32),),
        np.ones((steps, 5), bool),
        np.full((steps, 1), continuous, np.float32),
        np.array(choices, np.int32),
        np.array(rewards, np.float32),
        terminated,
        (np.zeros((kept, 2), np.float32),),
        np.ones((kept, 5), bool),
    )


@pytest.fixture
def file(tmp_path):
    with DemoWriter(tmp_path / "toy.demo", SPEC, "toy") as writer:
        writer.add(episode([[0, 2], [1, 2], [1, 0]], [1, 1, 1], terminated=True))
        writer.add(episode([[1, 1]], [0.5], terminated=False, continuous=-0.5))
    return tmp_path / "toy.demo"


def test_json_tells_what_was_written(file, capsys):
    assert main(["show", str(file), "--json"]) == 0
    (reported,) = json.loads(capsys.readouterr().out)
    assert reported.pop("observations")[0]["shape"] == [2]
    assert reported == {
        "file": str(file),
        "name": "toy",
        "behavior": "Toy",
        "api_version": 1,
        "continuous_size": 1,
        "branches": [2, 3],
        "masked": True,
        "episodes": 2,
        "whole": 1,
        "cut_off": 1,
        "steps": 4,
        "forbidden_steps": 0,
        "reward": {"mean": 1.75, "min": 0.5, "max": 3.0},
        "length": {"mean": 2.0, "min": 1, "max": 3},
        "choices": [[1, 3], [1, 1, 2]],
        "continuous": [{"mean": 0.25, "std": pytest.approx(0.4330127)}],
    }


def test_text_tells_the_same(file, capsys):
    assert main(["show", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(file)
    reported = {line[2:14].strip(): line[16:] for line in lines[1:]}
    assert reported["behavior"] == "Toy (API version 1)"
    assert reported["actions"] == "1 continuous; discrete branches [2, 3], masked"
    assert reported["episodes"] == "2: 1 whole, 1 cut off"
    assert reported["reward"] == "mean 1.75  min 0.5  max 3"
    assert reported["branch 1"] == "0: 1  1: 1  2: 2"
    assert reported["action 0"] == "mean 0.25  deviation 0.433"


def test_folders_and_patterns_show_every_file(file, capsys):
    other = file.with_name("other.demo")
    other.write_bytes(file.read_bytes())
    for given in (file.parent, file.parent / "*.demo"):
        assert main(["show", str(given), "--json"]) == 0
        assert [each["file"] for each in json.loads(capsys.readouterr().out)] == [str(other), str(file)]


def test_a_file_that_is_none_is_one_message(tmp_path, capsys):
    assert main(["show", str(tmp_path / "none.demo")]) == 2
    assert capsys.readouterr().err.startswith(f"error: file={tmp_path / 'none.demo'} does not exist")
    (tmp_path / "bad.demo").write_bytes(b"what?")
    assert main(["show", str(tmp_path / "bad.demo")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'bad.demo'}")
    assert error.count("\n") == 1


NASTY = "\x1b]0;owned\x07\x1b[2J\n\u202e\x9b1mé"


def test_names_in_a_file_command_no_terminal(tmp_path, capsys):
    meta = {"demonstration_name": "\x1b[31m"}  # a longer one has no room
    behavior = parameters(branches=(2,), behavior=f"{NASTY}?team=0")
    file = tmp_path / "nasty.demo"
    file.write_bytes(file_of([pair(floats([1], name=NASTY), discrete=[0])] * 3, behavior, **meta))
    assert main(["show", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(map(str.isprintable, lines))
    shown = r"\x1b]0;owned\x07\x1b[2J\n\u202e\x9b1mé"
    assert lines[1:4] == [
        r"  name          \x1b[31m",
        f"  behavior      {shown} (API version 1)",
        f"  observations  {shown} float32[1]",
    ]
    assert main(["show", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["behavior"] == NASTY


def test_names_in_the_message_of_a_damaged_file_command_no_terminal(tmp_path, capsys):
    records = [pair(floats([1] * size, name=NASTY), discrete=[0]) for size in (1, 2)]
    file = tmp_path / "nasty.demo"
    file.write_bytes(file_of(records, parameters(branches=(2,), behavior=NASTY)))
    assert main(["show", str(file)]) == 2
    reported = capsys.readouterr().err
    assert "record 2: observation " in reported
    assert reported[:-1].isprintable()
