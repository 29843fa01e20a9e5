from pathlib import Path
from typing import Any

import pytest
import yaml

from algorithms.rewards.registry import validate_rewards
from algorithms.rewards.settings import CuriositySettings, RNDSettings
from algorithms.sac.settings import SACSettings
from tests.trainer.convert.test_imitation import GAIL, A, behavior, converted, keys_left, left_of, refusal
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig, settings_of
from trainer.convert.__main__ import convert, main

SIGNALS = ("curiosity", "rnd")
NOVELTY: dict[str, Any] = {
    "strength": 0.02,
    "gamma": 0.99,
    "learning_rate": 0.001,
    "network_settings": {"hidden_units": 64, "num_layers": 3},
}


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_value_is_converted(signal: str) -> None:
    data = behavior(extrinsic={"strength": 0.5}, **{signal: NOVELTY})
    data["hyperparameters"] = {"batch_size": 100, "buffer_size": 1050, "num_epoch": 4}
    assert converted(data)["reward"] == {
        "extrinsic": {"strength": 0.5},
        signal: {
            "strength": 0.02,
            "discount": 0.99,
            "hidden": [64, 64, 64],
            "encoding_size": 64,
            "learning_rate": 0.001,
            "updates_per_sample": 4 * 10 / 1050,
            "batch_size": 100,
        },
    }


@pytest.mark.parametrize(("signal", "learning_rate"), [("curiosity", 3e-4), ("rnd", 1e-4)])
def test_what_is_not_given_is_what_ml_agents_would_take(signal: str, learning_rate: float) -> None:
    settings = converted(behavior(extrinsic={}, **{signal: {}}))["reward"][signal]
    assert (settings["strength"], settings["hidden"], settings["encoding_size"]) == (1.0, [128, 128], 128)
    assert (settings["learning_rate"], settings["batch_size"]) == (learning_rate, 1024)


def test_the_encoding_size_counts_only_where_there_are_no_network_settings() -> None:
    alone = converted(behavior(extrinsic={}, rnd={"encoding_size": 32}))["reward"]["rnd"]
    assert (alone["hidden"], alone["encoding_size"]) == ([32, 32], 32)
    both = converted(behavior(extrinsic={}, rnd={"encoding_size": 32, "network_settings": {"num_layers": 1}}))
    assert (both["reward"]["rnd"]["hidden"], both["reward"]["rnd"]["encoding_size"]) == ([128], 128)


def test_beside_sac_they_have_an_update_ratio_of_their_own() -> None:
    data = behavior("sac", extrinsic={}, curiosity=NOVELTY)
    data["hyperparameters"] = {"steps_per_update": 10, "reward_signal_steps_per_update": 4}
    assert converted(data)["reward"]["curiosity"]["updates_per_sample"] == 0.25


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({}, []),
        ({"gamma": 0.8}, []),
        ({"network_settings": {"normalize": True}}, ["network_settings.normalize"]),
        ({"network_settings": {"vis_encode_type": "match3"}}, ["network_settings.vis_encode_type"]),
    ],
)
def test_what_differs_is_told(signal: str, changes: dict[str, Any], reported: list[str]) -> None:
    data = behavior(extrinsic={}, **{signal: {**NOVELTY, **changes}})
    assert sorted(keys_left(data)) == sorted([signal, *(f"{signal}.{key}" for key in reported)])


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_signal_keeps_its_own_discount(signal: str) -> None:
    experiment = converted(behavior(extrinsic={"gamma": 0.995}, **{signal: {**NOVELTY, "gamma": 0.8}}))
    assert (experiment["algorithm"]["discount"], experiment["reward"][signal]["discount"]) == (0.995, 0.8)


def test_that_a_strength_means_something_else_here_is_told() -> None:
    (left,) = left_of(behavior(extrinsic={}, curiosity=NOVELTY))
    assert (left.key, left.value) == (f"{A}.reward_signals.curiosity", NOVELTY)
    assert "docs/curiosity.md" in left.remedy
    assert (Path(__file__).parents[3] / "docs/curiosity.md").exists()


def test_novelty_alone_switches_the_games_reward_off_and_brings_its_own_discount() -> None:
    experiment = converted(behavior(rnd={**NOVELTY, "gamma": 0.9}))
    assert experiment["reward"]["extrinsic"] == {"strength": 0.0}
    assert experiment["algorithm"]["discount"] == 0.9


def test_a_behavior_without_novelty_does_not_get_that_of_another() -> None:
    experiment = converted(behavior(extrinsic={}, rnd=NOVELTY), behavior(), behavior(extrinsic={}, curiosity=NOVELTY))
    assert experiment["reward"]["curiosity"] == {"strength": 0.0}
    changes = experiment["behaviors"]
    assert "reward" not in changes["A"]
    assert changes["B"]["reward"] == {"rnd": {"strength": 0.0}}
    assert changes["C"]["reward"]["rnd"] == {"strength": 0.0}
    assert changes["C"]["reward"]["curiosity"]["strength"] == 0.02


def test_default_settings_are_inherited_and_told_once() -> None:
    data = {
        "default_settings": behavior(extrinsic={}, curiosity=NOVELTY),
        "behaviors": {"A": {"reward_signals": {"curiosity": {"strength": 0.5}}}, "B": {}},
    }
    experiment, left = convert(data, "game.yaml")
    changes = experiment["behaviors"]
    assert changes["A"]["reward"] == {"curiosity": {**experiment["reward"]["curiosity"], "strength": 0.5}}
    assert changes["B"].keys() == {"stop"}
    assert [entry.key for entry in left if entry.key.startswith("default_settings")] == [
        "default_settings.reward_signals.curiosity"
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (behavior(rnd={"strength": -1}), f"{A}.reward_signals.rnd.strength=-1 must be at least 0"),
        (behavior(curiosity={"stength": 1}), f"did you mean {A}.reward_signals.curiosity.strength?"),
    ],
)
def test_bad_values_are_refused_by_name(data: dict[str, Any], message: str) -> None:
    assert message in refusal(data)


def test_without_a_strength_nothing_is_asked_of_the_discount() -> None:
    assert converted(behavior(extrinsic={"gamma": 1}, rnd={"strength": 0}))["reward"]["rnd"] == {"strength": 0.0}


def test_a_converted_experiment_with_novelty_composes_with_every_value(tmp_path: Path) -> None:
    first = behavior("sac", extrinsic={}, gail=GAIL, curiosity=NOVELTY, rnd={"encoding_size": 1})
    source = tmp_path / "game.yaml"
    source.write_text(yaml.safe_dump({"behaviors": {"A": first, "B": behavior()}}))
    assert main([str(source), f"to={tmp_path}/experiment/game.yaml"]) == 0
    config = compose(["+experiment=game", f"hydra.searchpath=['file://{tmp_path}']"], TrainConfig, "config")
    sac, reward = settings_of(config, "A")
    assert isinstance(sac, SACSettings)
    assert reward["curiosity"] == CuriositySettings(
        strength=0.02,
        discount=0.99,
        hidden=[64, 64, 64],
        encoding_size=64,
        learning_rate=0.001,
        updates_per_sample=1.0,
        batch_size=128,
    )
    # Two numbers are the least that an encoding can have here.
    assert reward["rnd"] == RNDSettings(
        discount=0.99,
        strength=1.0,
        hidden=[1, 1],
        encoding_size=2,
        learning_rate=1e-4,
        updates_per_sample=1.0,
        batch_size=128,
    )
    validate_rewards(reward, sac.discount)
    _, reward = settings_of(config, "B")
    assert not reward["curiosity"].pays
    assert not reward["rnd"].pays
