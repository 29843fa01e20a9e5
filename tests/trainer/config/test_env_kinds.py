from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envs.api import Setup
from envs.config import EnvConfig
from envs.gym.manager import EnvManager
from envs.spec import UserError
from envs.unity import launch
from envs.unity.config import UnityConfig
from envs.unity.manager import UnityManager
from tests.trainer.tiny_runs import rewrite_config
from trainer.config.compose import compose, load_config, save_config
from trainer.config.schema import TrainConfig


def env_of(*overrides: str) -> EnvConfig:
    return compose(overrides, TrainConfig, "config").env


def test_every_key_of_unitys_config_reaches_its_player() -> None:
    env = env_of(
        "env=unity",
        "env.player=env=basic 'agents=2'",
        "env.args=[--level,3]",
        "env.no_graphics=true",
        "env.port=6000",
        "env.num_areas=4",
        "env.connect_timeout=5",
        "env.time_scale=7",
        "env.width=32",
        "env.height=48",
        "env.quality_level=1",
        "env.target_frame_rate=30",
        "env.capture_frame_rate=0",
        "env.parameters.gravity=1.5",
        "env.channels=[a.b:C]",
    )
    assert isinstance(env, UnityConfig)
    command = env.command(6001, Path("log"))
    assert command is not None
    player, flags = command[command.index("env=basic") :], ["-nographics", "-batchmode", "--mlagents-port", "6001"]
    assert player == ["env=basic", "agents=2", *flags, "-logFile", "log", "--level", "3"]
    assert (env.port, env.num_areas, env.connect_timeout, env.channels) == (6000, 4, 5.0, ["a.b:C"])
    engine = (env.time_scale, env.width, env.height, env.quality_level, env.target_frame_rate, env.capture_frame_rate)
    assert (*engine, env.parameters) == (7.0, 32, 48, 1, 30, 0, {"gravity": 1.5})


def test_a_build_of_a_registry_is_looked_up_with_its_settings(monkeypatch) -> None:
    monkeypatch.setattr(launch, "registered_build", lambda name, manifest: (f"{name} of {manifest}", ("--level",)))
    monkeypatch.setattr(launch, "find_executable", lambda path: f"found {path}")
    env = env_of("env=unity", "env.registry=Basic", "env.manifest=my.yaml", "env.port=7000", "env.args=[--more]")
    assert isinstance(env, UnityConfig)
    flags = ["--mlagents-port", "7001", "-logFile", "log"]
    assert env.command(7001, Path("log")) == ["found Basic of my.yaml", *flags, "--level", "--more"]


def test_each_kind_of_env_has_its_manager(tmp_path: Path) -> None:
    managers = [
        env_of(*overrides).make_manager(Setup(3, tmp_path))
        for overrides in (["env.id=CartPole-v1"], ["env=unity", "env.player=env=basic", "env.instances=2"])
    ]
    assert [type(manager) for manager in managers] == [EnvManager, UnityManager]
    assert [manager.instances for manager in managers] == [16, 2]
    for manager in managers:
        manager.close()


@pytest.mark.parametrize("words", [["env.id=CartPole-v1"], ["env=unity", "env.player=env=basic"]], ids=["gym", "unity"])
def test_a_saved_run_bears_its_kind_and_one_of_before_is_known_without(words: list[str], tmp_path: Path) -> None:
    config = compose(words, TrainConfig, "config")
    save_config(config, tmp_path)
    assert load_config(tmp_path) == config
    saved = (tmp_path / "config.yaml").read_text()
    kind = f"  kind: {'unity' if len(words) > 1 else 'gym'}\n"
    assert kind in saved
    rewrite_config(tmp_path, saved.replace(kind, ""))
    assert load_config(tmp_path) == config


def test_a_kind_that_is_gone_is_named(tmp_path: Path) -> None:
    save_config(compose(["env.id=CartPole-v1"], TrainConfig, "config"), tmp_path)
    file = tmp_path / "config.yaml"
    rewrite_config(tmp_path, file.read_text().replace("  kind: gym\n", "  kind: my_own:Kind\n"))
    with pytest.raises(UserError, match="my_own:Kind cannot be imported"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    "state",
    [{"begun": [3, 1]}, {"launches": [3, 1]}, {"episodes": [2, 0], "actions": None}],
    ids=["now", "unity", "gym"],
)
def test_what_managers_of_the_version_before_have_left_is_known(state: dict[str, Any], tmp_path: Path) -> None:
    with env_of("env.id=CartPole-v1", "env.instances=3").make_manager(Setup(3, tmp_path, resume=state)) as manager:
        assert manager.begun.tolist() == [3, 1, 0]


def test_a_fresh_process_knows_the_keys_of_built_in_kinds() -> None:
    code = "from trainer.config.compose import compose; from trainer.config.schema import TrainConfig\n"
    code += "env = compose(['env.id=A-v0', 'env.kwargs.length=3'], TrainConfig, 'config').env; print(env.kwargs)\n"
    code += "env = compose(['env=unity', 'env.executable=a=b,c'], TrainConfig, 'config').env; print(env.executable)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'length': 3}\na=b,c\n"
