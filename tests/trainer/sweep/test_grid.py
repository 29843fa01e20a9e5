"""The table at the end of several runs."""

import json
from contextlib import contextmanager

import pytest

from envs.spec import UserError
from outstep.__main__ import main as outstep
from trainer.__main__ import main
from trainer.telemetry.metrics_file import MetricsFile

GYM = ["-m", "env.id=CartPole-v1", "algorithm.network.hidden=[8]"]
REWARDS = {1: [5.0, 3.0], 2: [], 3: [2.0, 9.0]}


@pytest.fixture
def training(monkeypatch, tmp_path):
    """Stands in for training: each seed has rewards of its own; without any, it fails."""
    statuses = {}

    @contextmanager
    def opened_run(config):
        folder = tmp_path / f"run-{config.seed}"
        if config.seed == 4:
            raise UserError("the run's folder cannot be written")
        folder.mkdir()
        yield config, folder

    def train(config, folder):
        rewards = REWARDS[config.seed]
        if not rewards:
            raise UserError("the game is broken\nin its line 3")
        writer = MetricsFile(folder)
        for place, reward in enumerate(rewards, start=1):
            writer.values(1000 * place, 1.0, {"episode/reward": reward})
        writer.close()
        summary = {"samples": 2000, "seconds": 1.5, "stopped_by": "samples"}
        (folder / "summary.json").write_text(json.dumps(summary))
        return statuses.get(config.seed, 0)

    monkeypatch.setattr("trainer.runtime.start.opened_run", opened_run)
    monkeypatch.setattr("trainer.runtime.start.train", train)
    monkeypatch.setattr("trainer.__main__._check", lambda config: None)
    return statuses


def test_a_sweep_ends_with_a_table_of_its_runs_the_best_first(training, tmp_path, capsys):
    assert main([*GYM, "seed=1,2,3,4"]) == 2
    out, error = capsys.readouterr()
    headings, *rows = [line.split() for line in out.splitlines()]
    assert headings == ["run", "best", "reward", "last", "reward", "samples", "seconds", "state", "folder"]
    assert rows[0] == ["seed=3", "9", "9", "2,000", "2", "samples", str(tmp_path / "run-3")]
    assert rows[1] == ["seed=1", "5", "3", "2,000", "2", "samples", str(tmp_path / "run-1")]
    assert rows[2][:5] == ["seed=2", "-", "-", "0", "0"]
    assert "failed: the game is broken" in out
    assert "failed: the run's folder cannot be written" in out
    assert error.count("error: ") == 2


def test_evaluations_decide_where_there_are_any(training, tmp_path, capsys, monkeypatch):
    values = MetricsFile.values

    def also_evaluated(self, samples, seconds, found):
        values(self, samples, seconds, {**found, "evaluation/reward": -found["episode/reward"]})

    monkeypatch.setattr(MetricsFile, "values", also_evaluated)
    assert main([*GYM, "seed=3,1", "algorithm.clip=0.1"]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["seed=3", "-2", "-9"], ["seed=1", "-3", "-3"]]


def test_runs_before_an_interruption_are_in_the_table(training, capsys):
    training[3] = 130
    assert main([*GYM, "seed=1,3,2"]) == 130
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["run", "seed=3", "seed=1"]


def test_sweep_is_a_command(training, capsys):
    assert outstep(["sweep", *GYM[1:], "seed=1,3"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["run", "seed=3", "seed=1"]


def test_a_single_run_has_no_table(training, capsys):
    assert main([*GYM, "seed=1"]) == 0
    assert capsys.readouterr().out == ""
