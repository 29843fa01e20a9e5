from pathlib import Path
from typing import Any

import pytest
import yaml

from algorithms.ppo.settings import PPOSettings
from algorithms.rewards.registry import validate_rewards
from algorithms.rewards.settings import GAILSettings, RewardType
from algorithms.sac.settings import SACSettings
from algorithms.settings import CloningSettings
from envs.spec import UserError
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig, settings_of
from trainer.convert.__main__ import convert, main
from trainer.convert.keys import Left
from trainer.convert.signals import FOR_EVER

A = "behaviors.A"
GAIL: dict[str, Any] = {
    "strength": 0.02,
    "gamma": 0.99,
    "demo_path": "Demos/Expert.demo",
    "learning_rate": 0.0001,
    "use_actions": True,
    "network_settings": {"hidden_units": 64, "num_layers": 3},
}
CLONING: dict[str, Any] = {"demo_path": "Demos/", "steps": 150000, "strength": 0.5, "batch_size": 512}


def behavior(trainer: str = "ppo", cloning: Any = None, **signals: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"trainer_type": trainer}
    if signals:
        data["reward_signals"] = signals
    if cloning is not None:
        data["behavioral_cloning"] = cloning
    return data


def converted(*behaviors: dict[str, Any]) -> dict[str, Any]:
    """The experiment of a file with the behaviors A, B and so on."""
    return convert({"behaviors": dict(zip("ABC", behaviors))}, "game.yaml")[0]


def left_of(data: dict[str, Any]) -> list[Left]:
    return convert({"behaviors": {"A": data}}, "game.yaml")[1]


def keys_left(data: dict[str, Any]) -> list[str]:
    return [left.key.replace(f"{A}.reward_signals.", "").replace(f"{A}.", "") for left in left_of(data)]


def refusal(data: dict[str, Any]) -> str:
    with pytest.raises(UserError) as refused:
        converted(data)
    return str(refused.value)


def test_every_value_of_gail_is_converted() -> None:
    data = behavior(extrinsic={"strength": 0.5}, gail=GAIL)
    data["hyperparameters"] = {"batch_size": 100, "buffer_size": 1050, "num_epoch": 4}
    assert converted(data)["reward"] == {
        "extrinsic": {"strength": 0.5},
        "gail": {
            "demos": "Demos/Expert.demo",
            "strength": 0.02,
            "discount": 0.99,
            "reward_type": "positive",
            "use_actions": True,
            "hidden": [64, 64, 64],
            "learning_rate": 0.0001,
            "updates_per_sample": 4 * 10 / 1050,
            "batch_size": 100,
            "gradient_penalty": 10.0,
            "bound": 16.1,
        },
    }


def test_what_gail_is_not_given_is_what_ml_agents_would_take() -> None:
    gail = converted(behavior(extrinsic={}, gail={"demo_path": "a.demo"}))["reward"]["gail"]
    assert (gail["strength"], gail["use_actions"], gail["hidden"]) == (1.0, False, [128, 128])
    assert (gail["learning_rate"], gail["batch_size"]) == (3e-4, 1024)


@pytest.mark.parametrize(
    ("hyperparameters", "updates"),
    [
        ({}, 1.0),
        ({"steps_per_update": 10}, 0.1),
        ({"steps_per_update": 10, "reward_signal_steps_per_update": 4}, 0.25),
        ({"steps_per_update": 10, "reward_signal_num_update": 5}, 0.2),
    ],
)
def test_the_discriminator_beside_sac_has_an_update_ratio_of_its_own(
    hyperparameters: dict[str, float], updates: float
) -> None:
    data = {**behavior("sac", extrinsic={}, gail=GAIL), "hyperparameters": hyperparameters}
    assert converted(data)["reward"]["gail"]["updates_per_sample"] == updates
    assert keys_left(data) == ["gail"]


def test_the_encoding_size_counts_only_where_there_are_no_network_settings() -> None:
    alone = {"demo_path": "a.demo", "encoding_size": 32}
    assert converted(behavior(extrinsic={}, gail=alone))["reward"]["gail"]["hidden"] == [32, 32]
    both = {**alone, "network_settings": {"num_layers": 1}}
    assert converted(behavior(extrinsic={}, gail=both))["reward"]["gail"]["hidden"] == [128]


def test_gail_alone_switches_the_games_reward_off_and_brings_its_own_discount() -> None:
    experiment = converted(behavior(gail={**GAIL, "gamma": 0.9}))
    assert experiment["reward"]["extrinsic"] == {"strength": 0.0}
    assert experiment["algorithm"]["discount"] == 0.9


@pytest.mark.parametrize("trainer", ["ppo", "sac"])
def test_every_value_of_cloning_is_converted(trainer: str) -> None:
    cloning = {**CLONING, "num_epoch": 5, "samples_per_update": 1000}
    assert converted(behavior(trainer, cloning))["algorithm"]["cloning"] == {
        "demos": "Demos/",
        "strength": 0.5,
        "anneal_samples": 150000,
        "batch_size": 512,
        "learning_rate": 3e-4,
        "epochs": 5,
        "epoch_samples": 1000,
    }


@pytest.mark.parametrize(("trainer", "batch"), [("ppo", 1024), ("sac", 128)])
def test_cloning_takes_batches_of_the_algorithms_size_unless_told(trainer: str, batch: int) -> None:
    for cloning in ({"demo_path": "a.demo"}, {"demo_path": "a.demo", "batch_size": 0}):
        assert converted(behavior(trainer, cloning))["algorithm"]["cloning"]["batch_size"] == batch


def test_cloning_without_steps_goes_on_for_ever() -> None:
    for cloning in ({"demo_path": "a.demo"}, {**CLONING, "steps": 0}):
        assert converted(behavior(cloning=cloning))["algorithm"]["cloning"]["anneal_samples"] == FOR_EVER
        assert keys_left(behavior(cloning=cloning)) == ["behavioral_cloning"]


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({}, []),
        ({"use_vail": False}, []),
        ({"use_vail": True}, ["gail.use_vail"]),
        ({"gamma": 0.8}, []),
        ({"network_settings": {"normalize": True}}, ["gail.network_settings.normalize"]),
        ({"network_settings": {"vis_encode_type": "resnet"}}, ["gail.network_settings.vis_encode_type"]),
    ],
)
def test_what_differs_about_gail_is_told(changes: dict[str, Any], reported: list[str]) -> None:
    data = behavior(extrinsic={}, gail={**GAIL, **changes})
    assert sorted(keys_left(data)) == sorted(["gail", *reported])


def test_a_discriminator_sees_normalized_observations_where_the_policy_does() -> None:
    data = {**behavior(extrinsic={}, gail=GAIL), "network_settings": {"normalize": True}}
    left = left_of(data)[-1]
    assert (left.key, left.value) == (f"{A}.reward_signals.gail.network_settings.normalize", False)
    same = {**GAIL, "network_settings": {"normalize": True}}
    assert keys_left({**data, "reward_signals": {"extrinsic": {}, "gail": same}}) == ["gail"]


def test_cloning_makes_three_passes_over_all_steps_unless_told() -> None:
    cloning = converted(behavior(cloning=CLONING))["algorithm"]["cloning"]
    assert (cloning["epochs"], "epoch_samples" in cloning) == (3, False)


def test_a_gamma_of_1_is_lowered_and_that_is_told() -> None:
    data = behavior(extrinsic={}, gail={**GAIL, "gamma": 1})
    assert converted(data)["reward"]["gail"]["discount"] == 0.9999
    assert keys_left(data) == ["gail", "gail.gamma"]


def test_default_settings_with_demonstrations_are_inherited_and_told_once() -> None:
    data = {
        "default_settings": behavior(cloning=CLONING, extrinsic={"gamma": 0.99}, gail=GAIL),
        "behaviors": {
            "A": {"reward_signals": {"gail": {"strength": 0.5}}, "behavioral_cloning": {"steps": 7}},
            "B": {},
        },
    }
    experiment, left = convert(data, "game.yaml")
    assert experiment["reward"]["gail"]["demos"] == "Demos/Expert.demo"
    changes = experiment["behaviors"]
    assert changes["A"]["reward"] == {"gail": {**experiment["reward"]["gail"], "strength": 0.5}}
    cloning = {**experiment["algorithm"]["cloning"], "anneal_samples": 7, "epoch_samples": None}
    assert changes["A"]["algorithm"] == {"cloning": cloning}
    assert changes["B"].keys() == {"stop"}
    assert [entry.key for entry in left if entry.key.startswith("default_settings")] == [
        "default_settings.behavioral_cloning",
        "default_settings.reward_signals.gail",
    ]


def test_a_behavior_without_demonstrations_does_not_get_those_of_the_first() -> None:
    experiment = converted(behavior(cloning=CLONING, extrinsic={}, gail=GAIL), behavior(), behavior("sac"))
    assert experiment["behaviors"]["B"] == {
        "algorithm": {"cloning": {"demos": None}},
        "reward": {"gail": {"demos": None}},
        "stop": {"samples": 500000},
    }
    assert experiment["behaviors"]["C"]["reward"] == {"gail": {"demos": None}}
    assert "cloning" not in experiment["behaviors"]["C"]["algorithm"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (behavior(gail={"strength": 1}), f"{A}.reward_signals.gail.demo_path is missing: give a .demo file"),
        (behavior(cloning={"steps": 1}), f"{A}.behavioral_cloning.demo_path is missing: give a .demo file"),
        (behavior(gail={**GAIL, "strength": -1}), f"{A}.reward_signals.gail.strength=-1 must be at least 0"),
        (behavior(gail={**GAIL, "demo_paths": "a"}), f"did you mean {A}.reward_signals.gail.demo_path?"),
        (behavior(cloning={**CLONING, "strength": -0.5}), f"{A}.behavioral_cloning.strength=-0.5 must be at least 0"),
        (behavior(cloning={**CLONING, "steps": -1}), f"{A}.behavioral_cloning.steps=-1 must be at least 0"),
    ],
)
def test_bad_values_about_demonstrations_are_refused_by_name(data: dict[str, Any], message: str) -> None:
    assert message in refusal(data)


def test_a_converted_experiment_with_demonstrations_composes_with_every_value(tmp_path: Path) -> None:
    first = behavior("sac", CLONING, extrinsic={"strength": 0.5}, gail=GAIL)
    source = tmp_path / "game.yaml"
    source.write_text(yaml.safe_dump({"behaviors": {"A": first, "B": behavior("sac"), "C": behavior()}}))
    assert main([str(source), f"to={tmp_path}/experiment/game.yaml"]) == 0
    config = compose(["+experiment=game", f"hydra.searchpath=['file://{tmp_path}']"], TrainConfig, "config")
    sac, reward = settings_of(config, "A")
    assert isinstance(sac, SACSettings)
    assert sac.cloning == CloningSettings(
        "Demos/", strength=0.5, anneal_samples=150000, batch_size=512, learning_rate=3e-4, epochs=3
    )
    assert reward["gail"] == GAILSettings(
        demos="Demos/Expert.demo",
        strength=0.02,
        discount=0.99,
        reward_type=RewardType["positive"],
        use_actions=True,
        hidden=[64, 64, 64],
        learning_rate=1e-4,
        updates_per_sample=1.0,
        bound=16.1,
    )
    validate_rewards(reward, sac.discount)
    for name, kind in (("B", SACSettings), ("C", PPOSettings)):
        settings, reward = settings_of(config, name)
        assert isinstance(settings, kind)
        assert (settings.cloning.demos, reward["gail"].demos) == (None, None)
