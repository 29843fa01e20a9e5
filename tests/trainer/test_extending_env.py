"""The kind of environment in docs/extending.md, done as it says, and what is refused before a run starts."""

from __future__ import annotations

import pytest

from tests.docs.blocks import command, file_of
from tests.trainer.tiny_runs import PPO, newest
from trainer.__main__ import main
from trainer.config.compose import load_config
from trainer.evaluate.__main__ import main as evaluate_main
from trainer.record.__main__ import main as record_main
from trainer.report.__main__ import main as report_main

PAGE = "docs/extending.md"
KIND = "env=my_envs:MeetingConfig"


@pytest.fixture(autouse=True)
def page(tmp_path, monkeypatch) -> None:
    """The page's module, in a file of the name that it says."""
    code = file_of(PAGE, "my_envs.py")
    assert len(code.splitlines()) <= 60
    (tmp_path / "my_envs.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert command(PAGE, "my_envs:")[:4] == ["outstep", "train", KIND, "env.agents=4"]


def test_the_pages_kind_trains_resumes_and_is_evaluated_and_recorded(tmp_path, capsys):
    run = tmp_path / "run"
    assert main([KIND, "env.agents=4", *PPO, f"run.dir={run}", "stop.samples=150"]) == 0
    first = newest(run).state["collector"]["manager"]["begun"]
    assert len(first) == load_config(run).env.instances
    assert main([f"resume={run}", "stop.samples=400"]) == 0
    assert min(after - before for after, before in zip(newest(run).state["collector"]["manager"]["begun"], first)) > 0
    assert newest(run).state["behaviors"]["Meeting"]["samples"] >= 400
    assert evaluate_main([f"run={run}", "episodes=5", "env.agents=2"]) == 0
    assert "5 episodes" in capsys.readouterr().out
    assert record_main([f"player={run}", "episodes=2", f"to={tmp_path / 'new.demo'}"]) == 0
    assert report_main([f"run={run}"]) == 0


def test_an_experiment_may_choose_it(tmp_path, capsys):
    experiment = tmp_path / "conf" / "experiment" / "mine.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text("# @package _global_\ndefaults:\n  - override /env: my_envs:MeetingConfig\nenv:\n  size: 5\n")
    assert main([f"--config-dir={tmp_path / 'conf'}", "+experiment=mine", "env.agents=6", "--cfg", "job"]) == 0
    shown = capsys.readouterr().out
    assert "  agents: 6\n" in shown
    assert "  size: 5\n" in shown
    assert main([KIND, "env.agents=7", "--help"]) == 0
    assert "\nenv.agents=7\n    " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([KIND, "env.agent=4"], "unknown key env.agent; did you mean env.agents?"),
        ([KIND, "env.agents=many"], "env.agents=many: expected an integer, not 'many'"),
        ([KIND, "env.agents=1"], "env.agents=1 must be above 1"),
        ([KIND, "env.instances=0"], "env.instances=0 must be above 0"),
        ([KIND, "run.mode=inline"], "reproducing a run exactly, which this environment (MeetingConfig) cannot"),
        (["env=my_envs:MeetingConfi"], "env: my_envs:MeetingConfi: module my_envs has no MeetingConfi"),
        (["env=my_env:MeetingConfig"], "env: my_env:MeetingConfig cannot be imported (ModuleNotFoundError"),
        (["env=my_envs:MeetingManager"], "env=my_envs:MeetingManager must be a dataclass derived from"),
        (["env=envs.config:EnvConfig"], "env=envs.config:EnvConfig must have the method make_manager(setup)"),
        (["env=my_envs"], "unknown env 'my_envs'; there is"),
    ],
)
def test_what_is_wrong_is_told_by_one_message(words, message, capsys):
    assert main([*PPO, *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
