import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from algorithms.ppo.settings import EntropyPer, PPOSettings
from algorithms.sac.settings import SACSettings
from envs.spec import UserError
from envs.unity.config import UnityConfig
from trainer.config.compose import compose
from trainer.config.schema import Device, TrainConfig, behavior_config, settings_of
from trainer.convert import keys
from trainer.convert.__main__ import convert, main
from trainer.convert.keys import HYPERPARAMETERS, LOST, NOTHING, OTHER, Left

PPO: dict[str, Any] = {
    "trainer_type": "ppo",
    "hyperparameters": {
        "batch_size": 64,
        "buffer_size": 12000,
        "learning_rate": 0.0003,
        "beta": 0.001,
        "epsilon": 0.3,
        "lambd": 0.99,
        "num_epoch": 4,
        "learning_rate_schedule": "linear",
        "shared_critic": True,
    },
    "network_settings": {"normalize": True, "hidden_units": 64, "num_layers": 3},
    "reward_signals": {"extrinsic": {"gamma": 0.995, "strength": 0.5}},
    "keep_checkpoints": 7,
    "max_steps": 200000,
}
SAC: dict[str, Any] = {
    "trainer_type": "sac",
    "hyperparameters": {
        "batch_size": 256,
        "buffer_size": 200000,
        "buffer_init_steps": 1000,
        "learning_rate": 0.001,
        "steps_per_update": 10.0,
        "tau": 0.01,
        "init_entcoef": 0.5,
    },
    "max_steps": 300000,
}
PLAIN: dict[str, Any] = {
    "activation": "silu",
    "clip_inputs": 5.0,
    "joint_choices": 0,
    "encoder": "simple",
    "memory": {"cell": "none"},
    "goal": "hyper",
    "attention": {"size": 128, "heads": 4, "layers": 1},
}
"""A network without memory."""
OF_PPO: dict[str, Any] = {**PLAIN, "initial_deviation": 1 / 3, "action_scale": 1 / 3}


def converted(*behaviors: dict[str, Any] | None, **groups: Any) -> dict[str, Any]:
    """The experiment of a file with the behaviors A, B and so on."""
    return convert({"behaviors": dict(zip("ABC", behaviors)), **groups}, "game.yaml")[0]


def left_of(behavior: dict[str, Any] | None = None, **groups: Any) -> list[Left]:
    return convert({"behaviors": {"A": behavior}, **groups}, "game.yaml")[1]


def refusal(data: Any) -> str:
    with pytest.raises(UserError) as refused:
        convert(data, "game.yaml")
    return str(refused.value)


def nested(path: str, value: Any) -> dict[str, Any]:
    """`value` below the keys of the dotted `path`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def test_every_value_of_a_ppo_behavior_is_converted() -> None:
    experiment = converted(PPO)
    assert experiment["defaults"] == [{"override /env": "unity"}, {"override /algorithm": "ppo"}]
    assert experiment["algorithm"] == {
        "network": {"hidden": [64, 64, 64], "normalize": True, "encoder_units": 64, **OF_PPO},
        "discount": 0.995,
        "normalize_returns": False,
        "rollout_size": 12000,
        "minibatch_size": 64,
        "epochs": 4,
        "gae_lambda": 0.99,
        "learning_rate": 0.0003,
        "learning_rate_end": 1e-10,
        "clip": 0.3,
        "clip_end": 0.1,
        "entropy_coef": 0.001,
        "entropy_coef_end": 1e-5,
        "schedule_samples": 200000,
        "shared_trunk": True,
        "entropy_per": "branch",
        "value_weight": 1.0,
        "target_kl": None,
        "max_gradient_norm": None,
    }
    assert experiment["reward"] == {"extrinsic": {"strength": 0.5}}
    assert experiment["stop"] == {"samples": 200000}
    assert experiment["checkpoint"] == {"keep": 7, "every_samples": 500000}
    assert experiment["run"] == {"log_samples": 50000}
    assert experiment["behaviors"] == {"A": {}}


def test_every_value_of_a_sac_behavior_is_converted() -> None:
    experiment = converted(SAC)
    assert experiment["defaults"][1] == {"override /algorithm": "sac"}
    assert experiment["algorithm"] == {
        "network": {"hidden": [128, 128], "normalize": False, "encoder_units": 128, **PLAIN},
        "discount": 0.99,
        "normalize_returns": False,
        "batch_size": 256,
        "buffer_capacity": 200000,
        "start_samples": 1000,
        "updates_per_sample": 0.1,
        "learning_rate": 0.001,
        "target_rate": 0.01,
        "temperature": 0.5,
        "discrete_entropy": 0.2,
    }


@pytest.mark.parametrize("trainer", HYPERPARAMETERS)
def test_what_is_not_given_is_what_ml_agents_would_take(trainer: str) -> None:
    experiment = converted({"trainer_type": trainer})
    assert experiment["stop"] == {"samples": 500000}
    assert experiment["checkpoint"] == {"keep": 5, "every_samples": 500000}
    assert experiment["reward"] == {"extrinsic": {"strength": 1.0}}
    network = {
        "hidden": [128, 128],
        "normalize": False,
        "encoder_units": 128,
        **(PLAIN if trainer == "sac" else OF_PPO),
    }
    assert experiment["algorithm"]["network"] == network
    expected = {
        "ppo": {
            "rollout_size": 10240,
            "minibatch_size": 1024,
            "epochs": 3,
            "entropy_coef": 0.005,
            "learning_rate_end": 1e-10,
        },
        "sac": {"buffer_capacity": 50000, "batch_size": 128, "updates_per_sample": 1.0, "temperature": 1.0},
    }["sac" if trainer == "sac" else "ppo"]
    assert {key: experiment["algorithm"][key] for key in expected} == expected
    assert experiment["algorithm"]["learning_rate"] == 3e-4


def test_a_behavior_without_a_trainer_is_ppos() -> None:
    assert converted(None) == converted({"trainer_type": "ppo"})


@pytest.mark.parametrize("behavior", [PPO, SAC, None])
def test_converted_algorithms_are_in_range(behavior: dict[str, Any] | None) -> None:
    experiment = converted(behavior)
    settings = {key: value for key, value in experiment["algorithm"].items() if key not in ("network", "entropy_per")}
    if experiment["defaults"][1]["override /algorithm"] == "ppo":
        PPOSettings(**settings).validate()
    else:
        SACSettings(**settings).validate()


@pytest.mark.parametrize(
    ("schedules", "ends"),
    [
        ({}, {"learning_rate_end", "clip_end", "entropy_coef_end"}),
        ({"learning_rate_schedule": "constant"}, set()),
        ({"learning_rate_schedule": "constant", "beta_schedule": "linear"}, {"entropy_coef_end"}),
        ({"beta_schedule": "constant"}, {"learning_rate_end", "clip_end"}),
        (
            {"epsilon_schedule": "constant", "learning_rate_schedule": "linear"},
            {"learning_rate_end", "entropy_coef_end"},
        ),
    ],
)
def test_schedules_of_ppo_follow_that_of_the_learning_rate(schedules: dict[str, str], ends: set[str]) -> None:
    algorithm = converted({"hyperparameters": schedules})["algorithm"]
    assert {key for key in algorithm if key.endswith("_end")} == ends
    assert ("schedule_samples" in algorithm) == bool(ends)


def test_the_learning_rate_of_sac_is_constant_unless_it_is_linear_by_name() -> None:
    linear = converted({"trainer_type": "sac", "hyperparameters": {"learning_rate_schedule": "linear"}})["algorithm"]
    assert (linear["learning_rate_end"], linear["schedule_samples"]) == (1e-10, 500000)
    assert "learning_rate_end" not in converted({"trainer_type": "sac"})["algorithm"]


def test_sac_starts_with_a_whole_batch_and_has_room_for_it() -> None:
    data = {"trainer_type": "sac", "hyperparameters": {"batch_size": 64, "buffer_size": 100, "buffer_init_steps": 0}}
    algorithm = converted(data)["algorithm"]
    assert (algorithm["start_samples"], algorithm["buffer_capacity"]) == (64, 128)
    (left,) = left_of(data)
    assert (left.key, left.value) == ("behaviors.A.hyperparameters.buffer_size", 100)
    assert "128" in left.remedy


def test_a_network_without_layers_has_one() -> None:
    assert converted({"network_settings": {"num_layers": 0}})["algorithm"]["network"]["hidden"] == [128]


@pytest.mark.parametrize("value", ["5e5", "5.0e5", 5e5, 500000, "500000"], ids=["5e5", "5.0e5", "float", "int", "text"])
def test_numbers_may_be_written_as_yaml_reads_for_texts(value: object) -> None:
    samples = converted({"max_steps": value})["stop"]["samples"]
    assert samples == 500000
    assert isinstance(samples, int)


def test_behaviors_of_one_algorithm_tell_only_what_differs_from_the_first() -> None:
    other = {**PPO, "hyperparameters": {**PPO["hyperparameters"], "beta": 0.01, "learning_rate_schedule": "constant"}}
    experiment = converted(PPO, other, PPO)
    stop = {"stop": {"samples": 200000}}
    assert experiment["behaviors"] == {
        "A": stop,
        "B": {
            "algorithm": {
                "entropy_coef": 0.01,
                "learning_rate_end": None,
                "clip_end": None,
                "entropy_coef_end": None,
                "schedule_samples": None,
            },
            **stop,
        },
        "C": stop,
    }


def test_a_behavior_of_another_algorithm_tells_everything() -> None:
    experiment = converted(PPO, SAC)
    assert experiment["behaviors"] == {
        "A": {"stop": {"samples": 200000}},
        "B": {
            "algorithm": {"name": "sac", **converted(SAC)["algorithm"]},
            "reward": {"extrinsic": {"strength": 1.0}},
            "stop": {"samples": 300000},
        },
    }


def test_each_of_several_behaviors_has_its_end_and_what_they_share_is_told() -> None:
    data = {"behaviors": {"A": {**PPO, "summary_freq": 100}, "B": {**SAC, "even_checkpoints": True}}}
    experiment, left = convert(data, "game.yaml")
    assert "stop" not in experiment
    assert [experiment["behaviors"][name]["stop"]["samples"] for name in "AB"] == [200000, 300000]
    assert experiment["checkpoint"] == {"keep": 7, "every_samples": 500000 + 60000}
    assert experiment["run"] == {"log_samples": 50100}
    assert [(key, value) for key, value, *_ in left] == [
        ("summary_freq", {"A": 100, "B": 50000}),
        ("checkpoint_interval", {"A": 500000, "B": 60000}),
        ("keep_checkpoints", {"A": 7, "B": 5}),
    ]


def test_logs_and_checkpoints_come_by_samples() -> None:
    data = {"summary_freq": 1000, "checkpoint_interval": 20000, "keep_checkpoints": 4, "max_steps": 100000}
    assert converted(data)["run"] == {"log_samples": 1000}
    assert converted(data)["checkpoint"] == {"keep": 4, "every_samples": 20000}
    assert converted({**data, "even_checkpoints": True})["checkpoint"]["every_samples"] == 25000
    assert left_of({**data, "even_checkpoints": True}) == []


def test_default_settings_serve_those_not_named_and_are_inherited() -> None:
    data = {"default_settings": PPO, "behaviors": {"A": {"network_settings": {"hidden_units": 16}}}}
    experiment = convert(data, "game.yaml")[0]
    assert experiment["algorithm"] == converted(PPO)["algorithm"]
    network = {"hidden": [16, 16, 16], "normalize": True, "encoder_units": 16, **OF_PPO}
    stop = {"samples": 200000}
    assert experiment["behaviors"] == {
        "default": {"stop": stop},
        "A": {"algorithm": {"network": network}, "stop": stop},
    }


def test_default_settings_alone_serve_everybody() -> None:
    experiment = convert({"default_settings": {}}, "game.yaml")[0]
    assert experiment["behaviors"] == {"default": {"stop": {"samples": 500000}}}
    assert experiment["algorithm"] == converted(None)["algorithm"]


def test_schedules_of_default_settings_hold_though_a_behavior_changes_one() -> None:
    data = {"default_settings": {}, "behaviors": {"A": {"hyperparameters": {"learning_rate_schedule": "constant"}}}}
    behaviors = convert(data, "game.yaml")[0]["behaviors"]
    assert behaviors["A"]["algorithm"] == {"learning_rate_end": None}


def test_a_behavior_inherits_nothing_that_was_meant_for_another_algorithm() -> None:
    data = {"default_settings": PPO, "behaviors": {"A": {"trainer_type": "sac"}}}
    algorithm = convert(data, "game.yaml")[0]["behaviors"]["A"]["algorithm"]
    assert (algorithm["name"], algorithm["batch_size"]) == ("sac", 128)
    assert algorithm["discount"] == 0.995


def test_settings_of_players_and_of_the_run_are_converted() -> None:
    experiment = converted(
        None,
        env_settings={
            "env_path": "Builds/Game.x86_64",
            "env_args": ["--level", 25],
            "num_envs": 4,
            "num_areas": 2,
            "timeout_wait": 30,
            "seed": 7,
            "max_lifetime_restarts": 3,
        },
        engine_settings={
            "width": 100,
            "height": 90,
            "quality_level": 1,
            "time_scale": 10,
            "target_frame_rate": 30,
            "capture_frame_rate": 0,
            "no_graphics": True,
        },
        checkpoint_settings={"run_id": "first"},
        torch_settings={"device": "cpu"},
    )
    assert experiment["env"] == {
        "executable": "Builds/Game.x86_64",
        "args": ["--level", "25"],
        "instances": 4,
        "num_areas": 2,
        "connect_timeout": 30.0,
        "step_timeout": 30.0,
        "restarts": 3,
        "width": 100,
        "height": 90,
        "quality_level": 1,
        "time_scale": 10.0,
        "target_frame_rate": 30,
        "capture_frame_rate": 0,
        "no_graphics": True,
    }
    assert (experiment["seed"], experiment["run"], experiment["device"]) == (
        7,
        {"name": "first", "log_samples": 50000},
        "cpu",
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3.0),
        ("1e1", 10.0),
        ({"sampler_type": "constant", "sampler_parameters": {"value": 2}}, 2.0),
        (
            {"sampler_type": "uniform", "sampler_parameters": {"min_value": 0.5, "max_value": 10}},
            {"sampler": "uniform", "min": 0.5, "max": 10.0},
        ),
        ({"sampler_type": "uniform", "sampler_parameters": {}}, {"sampler": "uniform", "min": 0.0, "max": 1.0}),
        (
            {"sampler_type": "gaussian", "sampler_parameters": {"mean": 2, "st_dev": 0.3}},
            {"sampler": "gaussian", "mean": 2.0, "deviation": 0.3},
        ),
        (
            {"sampler_type": "multirangeuniform", "sampler_parameters": {"intervals": [[7, 10], [15, 20]]}},
            {"sampler": "multi_range", "intervals": [[7.0, 10.0], [15.0, 20.0]]},
        ),
        (
            {"sampler_type": "multirange_uniform", "sampler_parameters": {"intervals": [[0, 1]]}},
            {"sampler": "multi_range", "intervals": [[0.0, 1.0]]},
        ),
    ],
)
def test_environment_parameters_are_converted(value: Any, expected: Any) -> None:
    assert converted(None, environment_parameters={"mass": value})["env"]["parameters"] == {"mass": expected}


@pytest.mark.parametrize(
    ("device", "expected", "reported"),
    [("cuda", "cuda", False), ("cuda:0", "cuda", False), ("cuda:1", "cuda", True), ("mps", "auto", True)],
)
def test_a_device_that_cannot_be_named_here_is_told_of(device: str, expected: str, reported: bool) -> None:
    groups = {"torch_settings": {"device": device}}
    assert converted(None, **groups)["device"] == expected
    assert [left.key for left in left_of(**groups)] == (["torch_settings.device"] if reported else [])


LEFT_IN_BEHAVIORS: dict[str, tuple[Any, str]] = {
    "time_horizon": (1000, OTHER),
    "threaded": (False, OTHER),
    "framework": ("pytorch", NOTHING),
    "self_play.swap_steps": (5000, OTHER),
    "zzz": (1, LOST),
    "hyperparameters.tau": (0.1, LOST),
    "network_settings.memory.size": (1, LOST),
    "reward_signals.prediction": ({}, LOST),
    "network_settings.deterministic": (True, OTHER),
}
LEFT_ELSEWHERE: dict[str, tuple[Any, str]] = {
    "debug": (True, NOTHING),
    "zzz": ({}, LOST),
    "env_settings.base_port": (5005, NOTHING),
    "env_settings.restarts_rate_limit_n": (1, OTHER),
    "env_settings.restarts_rate_limit_period_s": (60, OTHER),
    "env_settings.seed": (-1, OTHER),
    "engine_settings.no_graphics_monitor": (True, OTHER),
    "checkpoint_settings.resume": (True, LOST),
    "checkpoint_settings.load_model": (True, LOST),
    "checkpoint_settings.force": (True, NOTHING),
    "checkpoint_settings.inference": (True, OTHER),
    "checkpoint_settings.results_dir": ("results", OTHER),
}


@pytest.mark.parametrize(("key", "told"), LEFT_IN_BEHAVIORS.items(), ids=LEFT_IN_BEHAVIORS)
def test_what_has_no_counterpart_in_a_behavior_is_told_and_left_out(key: str, told: tuple[Any, str]) -> None:
    data = nested(key, told[0])
    assert [(key, value, kind) for key, value, _, kind in left_of(data)] == [(f"behaviors.A.{key}", *told)]
    without = {"network_settings": {"memory": {}}} if ".memory." in key else None
    without = {"self_play": {}} if "self_play." in key else without
    assert converted(data) == converted(without)


@pytest.mark.parametrize(("key", "told"), LEFT_ELSEWHERE.items(), ids=LEFT_ELSEWHERE)
def test_what_has_no_counterpart_elsewhere_is_told_and_left_out(key: str, told: tuple[Any, str]) -> None:
    data = nested(key, told[0])
    assert [(key, value, kind) for key, value, _, kind in left_of(**data)] == [(key, *told)]
    assert converted(None, **data) == converted(None)


def test_other_trainers_become_ppo_and_that_is_told() -> None:
    data = {"trainer_type": "my_dqn", "hyperparameters": {"beta": 0.01}}
    assert converted(data) == converted({**data, "trainer_type": "ppo"})
    ((key, value, _, kind),) = left_of(data)
    assert (key, value, kind) == ("behaviors.A.trainer_type", "my_dqn", LOST)


def test_poca_keeps_its_numbers_which_are_those_of_ppo() -> None:
    hyperparameters = {"beta": 0.01, "num_epoch": 5, "learning_rate_schedule": "constant"}
    poca = converted({"trainer_type": "poca", "hyperparameters": hyperparameters})
    ppo = converted({"trainer_type": "ppo", "hyperparameters": hyperparameters})
    assert poca["defaults"] == [{"override /env": "unity"}, {"override /algorithm": "poca"}]
    assert poca["algorithm"] == {key: value for key, value in ppo["algorithm"].items() if key != "shared_trunk"}
    assert not left_of({"trainer_type": "poca"})
    shared = left_of({"trainer_type": "poca", "hyperparameters": {"shared_critic": True}})
    assert [(key, kind) for key, _, _, kind in shared] == [("behaviors.A.hyperparameters.shared_critic", LOST)]


def test_self_play_is_converted_with_its_numbers() -> None:
    given = {"save_steps": 50000, "team_change": 200000, "window": 5, "play_against_latest_model_ratio": 0.25}
    data = {"self_play": {**given, "initial_elo": 1000.0}}
    assert left_of(data) == []
    ours = {"save_samples": 50000, "team_change_samples": 200000, "window": 5, "latest_ratio": 0.25}
    assert converted(data)["self_play"] == {**ours, "rating": 1000.0, "k": 1.0}
    defaults = {"save_samples": 20000, "window": 10, "latest_ratio": 0.5, "rating": 1200.0, "k": 1.0}
    assert converted({"self_play": {}})["self_play"] == defaults
    assert "self_play" not in converted({"self_play": None})
    striker, keeper, none = {"self_play": {"window": 3}}, {"self_play": {"window": 4}}, {}
    both, _ = convert({"behaviors": {"Striker": striker, "Keeper": keeper, "Ball": none}}, "")
    assert both["self_play"]["window"] == 3
    assert both["behaviors"]["Keeper"]["self_play"]["window"] == 4
    assert both["behaviors"]["Ball"]["self_play"] == {"save_samples": None}


def test_the_documentation_has_every_key() -> None:
    text = (Path(__file__).parents[3] / "docs" / "unity.md").read_text(encoding="utf-8")
    table = text.partition("## Every key of ML-Agents")[2]
    behavior = {
        **keys.BEHAVIOR,
        **keys.PPO,
        **keys.SAC,
        **keys.NETWORK,
        **keys.MEMORY,
        **keys.CLONING,
        **keys.SELF_PLAY,
    }
    signals = {name: key for each in keys.SIGNALS.values() for name, key in each.items()}
    samplers = {name: key for each in keys.SAMPLERS.values() for name, key in each.items()}
    others = {
        **keys.SAMPLER,
        **keys.LESSON,
        **keys.CRITERIA,
        **keys.ENV,
        **keys.ENGINE,
        **keys.CHECKPOINT,
        **keys.TORCH,
    }
    known = {*keys.FILE, *keys.SIGNALS, *behavior, *signals, *samplers, *others} - {"behaviors"}
    assert {name for name in known if f"`{name}`" not in table} == set()


def test_weights_to_begin_with_are_those_of_the_named_run_or_file() -> None:
    checkpoint = {"initialize_from": "old", "results_dir": "elsewhere"}
    assert converted(None, checkpoint_settings=checkpoint)["init"] == "elsewhere/old"
    assert converted(None, checkpoint_settings={"initialize_from": "old"})["init"] == "results/old"
    assert converted({"init_path": "a/checkpoint.pt"})["behaviors"]["A"] == {"init": "a/checkpoint.pt"}


@pytest.mark.parametrize(
    "behavior",
    [
        {"threaded": True, "self_play": None, "behavioral_cloning": None, "init_path": None},
        {"even_checkpoints": False, "network_settings": {"memory": None, "deterministic": False}},
        {"network_settings": {"vis_encode_type": "match3", "memory": {"memory_size": 8}}},
        {"trainer_type": "sac", "hyperparameters": {"save_replay_buffer": True}},
    ],
)
def test_keys_that_ask_for_nothing_are_not_told_of(behavior: dict[str, Any]) -> None:
    assert left_of(behavior) == []


def test_restarts_without_a_limit_stay_practically_so() -> None:
    assert converted(None, env_settings={"max_lifetime_restarts": -1})["env"]["restarts"] >= 10**6


def test_what_default_settings_leave_out_is_told_once() -> None:
    left = convert({"default_settings": {"time_horizon": 5}, "behaviors": {"A": {}, "B": {}}}, "game.yaml")[1]
    assert [entry.key for entry in left] == [
        "default_settings.time_horizon",
        "summary_freq",
        "checkpoint_interval",
    ]


A = "behaviors.A"
ONE: dict[str, Any] = {"behaviors": {"A": {}}}
BAD: list[tuple[Any, str]] = [
    ({}, "behaviors is missing"),
    ({"behaviors": None}, "behaviors is missing"),
    ({"behaviors": [1]}, "behaviors: expected keys of its own, not [1]"),
    ({"behaviors": {"A": 3}}, "behaviors.A: expected keys of its own, not 3"),
    ({"behaviours": {}}, "unknown key behaviours; did you mean behaviors?"),
    ({"behaviors": {"default": {}}}, "behaviors.default: here `default` is all behaviors without a name"),
    (nested(f"{A}.max_stepps", 1), "unknown key behaviors.A.max_stepps; did you mean behaviors.A.max_steps?"),
    (nested(f"{A}.max_steps", "many"), "behaviors.A.max_steps: expected a number, not 'many'"),
    (nested(f"{A}.max_steps", True), "behaviors.A.max_steps: expected a number, not True"),
    (nested(f"{A}.max_steps", 1.5), "behaviors.A.max_steps: expected a whole number, not 1.5"),
    (nested(f"{A}.max_steps", 0), "behaviors.A.max_steps=0 must be at least 1"),
    (nested(f"{A}.max_steps", ".inf"), "behaviors.A.max_steps: expected a number, not '.inf'"),
    (nested(f"{A}.hyperparameters.beta", [1]), "behaviors.A.hyperparameters.beta: expected a number, not [1]"),
    (nested(f"{A}.hyperparameters.lambd", 2), "behaviors.A.hyperparameters.lambd=2 must be at most 1"),
    (nested(f"{A}.hyperparameters.learning_rate", 0), "behaviors.A.hyperparameters.learning_rate=0 must be above 0"),
    (
        nested(f"{A}.hyperparameters.beta_schedule", "cosine"),
        "behaviors.A.hyperparameters.beta_schedule=cosine: expected one of linear, constant",
    ),
    (
        nested(f"{A}.hyperparameters", {"batch_size": 100, "buffer_size": 50}),
        "behaviors.A.hyperparameters.batch_size=100 is larger than buffer_size=50: a batch is a part of the buffer",
    ),
    (nested(f"{A}.network_settings.normalize", "yes!"), "normalize: expected true or false, not 'yes!'"),
    (nested(f"{A}.reward_signals.extrinsc", {}), "did you mean behaviors.A.reward_signals.extrinsic?"),
    (nested(f"{A}.reward_signals", {}), "behaviors.A.reward_signals holds nothing: give one of extrinsic, curiosity"),
    (nested(f"{A}.reward_signals.curiosity.stength", 1), "did you mean behaviors.A.reward_signals.curiosity.strength?"),
    ({**ONE, **nested("env_settings.env_args", "--level 3")}, "env_settings.env_args: expected a list of texts"),
    ({**ONE, **nested("engine_settings.time_scale", 0)}, "engine_settings.time_scale=0 must be above 0"),
]
BAD_PARAMETERS: list[tuple[Any, str]] = [
    ("heavy", "environment_parameters.mass: expected a number, not 'heavy'"),
    ({"sampler-type": "uniform"}, "did you mean environment_parameters.mass.sampler_type?"),
    ({"sampler_type": "uniform"}, "environment_parameters.mass.sampler_parameters is missing"),
    ({"sampler_type": "poisson", "sampler_parameters": {}}, "sampler_type=poisson: expected one of constant, uniform"),
    ({"sampler_type": "uniform", "sampler_parameters": {"min_value": 2}}, "2 to 1 is not a range"),
    ({"sampler_type": "multirangeuniform", "sampler_parameters": {"intervals": [[1, 2, 3]]}}, "not [1, 2, 3]"),
    ({"sampler_type": "multirangeuniform", "sampler_parameters": {"intervals": 3}}, "expected a list such as"),
]
FLAT = {"trainer": "ppo", "batch_size": 64, "hidden_units": 128}
OLD: list[Any] = [
    {"default": FLAT, "BallLearning": {"normalize": True}},
    {"behaviors": {"A": FLAT}},
    {"behaviors": {"A": PPO}, "parameter_randomization": {"resampling-interval": 2000}},
    {"behaviors": {"A": PPO}, "curriculum": {}},
]


@pytest.mark.parametrize(("data", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_input_is_refused_by_the_name_of_its_key(data: Any, message: str) -> None:
    refused = refusal(data)
    assert refused.startswith("game.yaml: ")
    assert message in refused


@pytest.mark.parametrize(("value", "message"), BAD_PARAMETERS, ids=[message[:40] for _, message in BAD_PARAMETERS])
def test_bad_environment_parameters_are_refused_by_name(value: Any, message: str) -> None:
    assert message in refusal({"behaviors": {"A": {}}, "environment_parameters": {"mass": value}})


@pytest.mark.parametrize("data", OLD)
def test_the_format_before_release_3_is_told_apart_from_unknown_keys(data: Any) -> None:
    assert "in the format before ML-Agents' release 3: upgrade the file first" in refusal(data)


def write(folder: Path, data: Any, name: str = "game.yaml") -> Path:
    path = folder / name
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return path


def test_the_command_writes_an_experiment_and_tells_how_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"behaviors": {"Ball": {**PPO, "time_horizon": 1000}}}, "My game.yaml")
    assert main(["My game.yaml"]) == 0
    text = (tmp_path / "experiment" / "My_game.yaml").read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n# Converted from ML-Agents' My game.yaml.\n")
    assert "\n# Means something else:\n#   behaviors.Ball.time_horizon = 1000: rows are linked to the end" in text
    assert yaml.safe_load(text) == convert({"behaviors": {"Ball": PPO}}, "")[0]
    out = capsys.readouterr().out
    assert "means something else:\n  behaviors.Ball.time_horizon = 1000\n      rows are linked" in out
    assert out.endswith("outstep train +experiment=My_game env.executable=...\n")


def test_a_file_whose_build_is_named_needs_no_executable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path, {"behaviors": {"A": {}}, "env_settings": {"env_path": "Game"}})
    assert main([str(source), f"to={tmp_path}/experiment/mine.yaml"]) == 0
    assert capsys.readouterr().out.endswith(f"outstep train --config-dir {tmp_path} +experiment=mine\n")


def test_what_looks_like_an_interpolation_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    source = write(tmp_path, {"behaviors": {"A": {}}, "env_settings": {"env_path": "${oc.env:TOKEN}"}})
    assert main([str(source), f"to={tmp_path}/experiment/mine.yaml"]) == 0
    words = [f"hydra.searchpath=['file://{tmp_path}']", "+experiment=mine"]
    assert compose(words, TrainConfig, "config").env.executable == "${oc.env:TOKEN}"


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = write(tmp_path, {"behaviors": {"A": {}}}), tmp_path / "experiment" / "mine.yaml"
    target.parent.mkdir()
    target.write_text("precious")
    assert main([str(source), f"to={target}"]) == 2
    assert target.read_text() == "precious"
    assert f"error: {target} is there already: remove it, or name another" in capsys.readouterr().err


BAD_COMMANDS: list[tuple[list[str], str]] = [
    ([], "expected one YAML file of ML-Agents, not nothing: outstep convert"),
    (["a.yaml", "b.yaml"], "expected one YAML file of ML-Agents, not a.yaml b.yaml"),
    (["--run-id=x"], "expected one YAML file of ML-Agents, not --run-id=x"),
    (["absent.yaml"], "absent.yaml cannot be read (No such file or directory)"),
    (["."], "cannot be read"),
    (["broken.yaml"], "broken.yaml is not valid YAML: "),
    (["date.yaml"], "date.yaml: behaviors is missing"),
    (["list.yaml"], "list.yaml holds no keys, such as behaviors"),
    (["latin.yaml"], "latin.yaml is not written in UTF-8"),
    (["game.yaml", "to=mine.yaml"], "to=mine.yaml: experiments are found by name in a folder `experiment`"),
    (["game.yaml", "to=experiment/a=b.yaml"], "with a name of letters, digits, - and _"),
    (["game.yaml", "to=experiment/2024.yaml"], "with a name of letters, digits, - and _, and no number"),
    (["2024.yaml"], "with a name of letters, digits, - and _, and no number"),
    (["game.yaml", "to=experiment/snoopy_sac.yaml"], "an experiment snoopy_sac is there already"),
    (["game.yaml", "to=game.yaml/experiment/a.yaml"], "cannot be written"),
]


@pytest.mark.parametrize(
    ("argv", "message"), BAD_COMMANDS, ids=[" ".join(argv) or "nothing" for argv, _ in BAD_COMMANDS]
)
def test_a_bad_command_is_one_message_and_writes_nothing(
    argv: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"behaviors": {"A": {}}})
    write(tmp_path, "behaviors: [", "broken.yaml")
    write(tmp_path, "- 1", "list.yaml")
    write(tmp_path, "a: 2024-13-01", "date.yaml")
    write(tmp_path, {"behaviors": {"A": {}}}, "2024.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4")
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    assert message in err
    assert list(tmp_path.rglob("experiment/*")) == []


def test_the_module_runs_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainer.convert", "--help"], capture_output=True, text=True, check=True
    )
    assert "outstep convert trainer_config.yaml [to=experiment/name.yaml]" in done.stdout


def test_a_converted_experiment_composes_with_every_value(tmp_path: Path) -> None:
    data = {
        "default_settings": SAC,
        "behaviors": {"3DBall": PPO, "My striker": {"hyperparameters": {"tau": 0.02}}},
        "env_settings": {"env_path": "Builds/My game.x86_64", "env_args": ["--level", 25], "num_envs": 4, "seed": 7},
        "engine_settings": {"time_scale": 5, "no_graphics": True},
        "environment_parameters": {
            "gravity": 9.81,
            "mass": {"sampler_type": "uniform", "sampler_parameters": {"min_value": 0.5, "max_value": 10}},
        },
        "torch_settings": {"device": "cpu"},
    }
    assert main([str(write(tmp_path, data)), f"to={tmp_path}/experiment/game.yaml"]) == 0
    overrides = ["+experiment=game", f"hydra.searchpath=['file://{tmp_path}']"]
    config = compose(overrides, TrainConfig, "config")
    assert isinstance(config.env, UnityConfig)
    assert (config.env.executable, config.env.args) == ("Builds/My game.x86_64", ["--level", "25"])
    assert (config.env.instances, config.env.time_scale, config.env.no_graphics) == (4, 5.0, True)
    assert config.env.parameters == {"gravity": 9.81, "mass": {"sampler": "uniform", "min": 0.5, "max": 10.0}}
    assert (config.seed, config.device, config.stop.samples) == (7, Device["cpu"], None)
    assert behavior_config(config, "unnamed").stop.samples == 300000
    ball, reward = settings_of(config, "3DBall")
    assert isinstance(ball, PPOSettings)
    assert (ball.rollout_size, ball.clip_end, ball.network.hidden) == (12000, 0.1, [64, 64, 64])
    assert (ball.target_kl, ball.max_gradient_norm, ball.entropy_per) == (None, None, EntropyPer["branch"])
    assert reward["extrinsic"].strength == 0.5
    for behavior, rate in (("My striker", 0.02), ("unnamed", 0.01)):
        settings = settings_of(config, behavior)[0]
        assert isinstance(settings, SACSettings)
        assert (settings.target_rate, settings.buffer_capacity, settings.temperature) == (rate, 200000, 0.5)
