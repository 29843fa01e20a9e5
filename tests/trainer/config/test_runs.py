"""The names of runs' folders, and `latest`."""

from __future__ import annotations

import os

import pytest

from envs.spec import UserError
from trainer.config.compose import compose
from trainer.config.runs import found_run, overridden_name
from trainer.config.schema import EvaluateConfig, TrainConfig


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "id-X-v0"),
        (["stop.samples=5", "run.name=x"], "id-X-v0"),
        (["algorithm.clip=0.1", "seed=3", "stop.samples=5"], "id-X-v0_clip-0.1_seed-3"),
        (["env.id=./castle.py:Castle-v0", "reward.rnd.strength=0.5"], "id-.-castle.py-Castle-v0_strength-0.5"),
        (["algorithm.network.hidden=[64,64]"], "id-X-v0_hidden-64-64"),
        (["env.id=" + 300 * "x"], "id-" + 77 * "x"),
    ],
)
def test_a_folders_name_tells_what_was_overridden(overrides, name):
    config = compose(["algorithm=ppo", "env=gym", "env.id=X-v0", *overrides], TrainConfig, "config")
    assert overridden_name(config) == name


def test_latest_is_the_run_that_was_used_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no run in"):
        found_run("latest")
    for place, name in enumerate(["b", "a", "c"]):
        folder = tmp_path / "runs" / name / "2026"
        folder.mkdir(parents=True)
        for file in ("config.yaml", "train.log"):
            (folder / file).touch()
            os.utime(folder / file, (100 + place, 100 + place))
    os.utime(tmp_path / "runs" / "a" / "2026" / "train.log", (500, 500))  # it was resumed
    assert found_run("latest") == os.path.join("runs", "a", "2026")
    assert compose(["run=latest"], EvaluateConfig, "evaluate").run == os.path.join("runs", "a", "2026")
    (tmp_path / "latest").mkdir()
    assert found_run("latest") == "latest"
