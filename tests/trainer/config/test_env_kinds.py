from __future__ import annotations

from pathlib import Path

from envs.api import Setup
from envs.config import EnvConfig
from envs.gym.manager import EnvManager
from envs.unity.channels import Engine
from envs.unity.config import UnityConfig
from envs.unity.launch import UnityEnv
from envs.unity.manager import UnityManager
from trainer.config.compose import compose
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
    assert env.unity_env() == UnityEnv(
        player=("env=basic", "agents=2"),
        args=("--level", "3"),
        no_graphics=True,
        port=6000,
        num_areas=4,
        engine=Engine(time_scale=7.0, width=32, height=48, quality_level=1, target_frame_rate=30, capture_frame_rate=0),
        parameters={"gravity": 1.5},
        channels=("a.b:C",),
        connect_timeout=5.0,
    )


def test_a_build_of_a_registry_is_looked_up_with_its_settings(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(UnityEnv, "from_registry", lambda name, manifest, **rest: asked.append((name, manifest, rest)))
    env = env_of("env=unity", "env.registry=Basic", "env.manifest=my.yaml", "env.port=7000")
    assert isinstance(env, UnityConfig)
    env.unity_env()
    ((name, manifest, rest),) = asked
    assert (name, manifest, rest["port"]) == ("Basic", "my.yaml", 7000)


def test_each_kind_of_env_has_its_manager(tmp_path: Path) -> None:
    managers = [
        env_of(*overrides).make_manager(Setup(3, tmp_path))
        for overrides in (["env.id=CartPole-v1"], ["env=unity", "env.player=env=basic", "env.instances=2"])
    ]
    assert [type(manager) for manager in managers] == [EnvManager, UnityManager]
    assert [manager.instances for manager in managers] == [16, 2]
    for manager in managers:
        manager.close()
