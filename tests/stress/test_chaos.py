import json

import numpy as np
import pytest

from tests.stress import chaos, trial
from tests.stress.chaos import _fraction, _overrides, _parser, _text, main
from tests.stress.havoc import KINDS, WEIGHTS
from tests.stress.trial import _env
from tests.stress.witness import RECORD
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.checks import check_train


@pytest.mark.parametrize("kind", ["gym", "unity"])
def test_run_goes_on_whatever_happens_and_loses_open_rows_only(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(chaos, "_stop", lambda options: ["stop.samples=400"])  # on a busy machine too
    monkeypatch.setattr(trial, "LEFT_SECONDS", 100.0)
    monkeypatch.setattr(chaos, "STEP_TIMEOUT", 100.0)  # none of these faults is found by it
    argv = ["--every", "1", "--kind", kind, "--instances", "4", "--json", "--keep", str(tmp_path / "runs")]
    assert main([*argv, "--faults", "kill", "nan", "pause", "kill_collector"]) == 0
    result = json.loads(capsys.readouterr().out)[kind]
    assert result["ended_as_planned"], (tmp_path / "runs" / kind / "output.txt").read_text()
    assert sum(result["faults"].values()) >= 3
    assert result["clean"], result["examples"]
    assert (result["lost_beyond"], result["duplicates"], result["not_finite"]) == (0, 0, 0)
    assert result["lost"] <= result["open_when_failed"]
    assert result["samples"] == result["rows"] > 0
    assert (result["processes_left"], result["sockets_left"], result["shared_memory_left"]) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["gym", "unity"])
def test_overrides_compose(kind, tmp_path):
    options = _parser().parse_args(["--seconds", "600"])
    config = compose(
        [*_env(kind, "tests.stress.witness:Witness-v0", tmp_path, 16, True), *_overrides(kind, options)],
        TrainConfig,
        "config",
    )
    check_train(config)
    assert (config.env.instances, config.stop.seconds) == (16, 600.0)


def test_every_kind_of_fault_is_explained_and_drawn():
    assert KINDS.keys() == WEIGHTS.keys()


def test_fraction_is_of_drawn_durations():
    steps = np.zeros(4, RECORD)
    steps["time"], steps["duration"] = [0.5, 1.5, 2.5, 9.0], [1.0, 1.0, 0.5, 100.0]
    assert _fraction(steps, 2, [(0.0, 1.0), (2.0, 3.0)]) == pytest.approx(1.5 / 4)


def test_table_names_every_figure():
    run = {"faults": {"kill": 2}, "restarts": 4, "clean": True, "lost_beyond": 0, "left": [], "examples": ["lost: x"]}
    text = _text({"instances": 16, "seconds": 600.0, "seed": 0, "gym": run})
    for words in ("fault: kill", "restarts", "lost beyond", "yes", "gym: lost: x"):
        assert words in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seconds", "0"], "--seconds 0"),
        (["--every", "-1"], "--every -1"),
        (["--instances", "0"], "--instances 0"),
        (["--kills-per-minute", "0"], "--kills-per-minute 0"),
        (["--kills-per-minute", "1", "--seconds", "60"], "--seconds 60"),
        (["--keep", "."], "--keep . is there already"),
    ],
)
def test_bad_options_are_refused_by_name(argv, words, capsys):
    assert main([*argv, "--json"]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_unknown_fault_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--faults", "flood"])
    assert end.value.code == 2
    assert "invalid choice: 'flood'" in capsys.readouterr().err
