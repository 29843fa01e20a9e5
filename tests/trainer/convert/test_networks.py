from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from algorithms.numpy_policy import NumpyActor
from algorithms.policy import make_policy
from algorithms.ppo.settings import PPOSettings
from algorithms.sac.settings import SACSettings
from algorithms.settings import Activation, AttentionSettings, Cell, Goal, MemorySettings, NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec
from tests.trainer.convert.test_imitation import GAIL, A, behavior, converted, left_of, refusal
from tests.trainer.tiny_runs import newest
from trainer.__main__ import main as train
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig, settings_of
from trainer.convert import keys
from trainer.convert.__main__ import convert, main

TRAINERS = ("ppo", "sac")
MEMORY = {"memory_size": 256, "sequence_length": 32}
NETWORK = f"{A}.network_settings"


def networked(trainer: str = "ppo", **network: Any) -> dict[str, Any]:
    return {**behavior(trainer), "network_settings": network}


def network_of(data: dict[str, Any]) -> dict[str, Any]:
    network = converted(data)["algorithm"]["network"]
    assert isinstance(network, dict)
    return network


def reported(data: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(left.key, left.value) for left in left_of(data)]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_memory_is_an_lstm_of_half_the_size(trainer: str) -> None:
    memory = network_of(networked(trainer, memory=MEMORY))["memory"]
    assert memory == {"cell": "lstm", "size": 128, "sequence_length": 32, "burn_in": 0}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_memory_that_says_nothing_is_what_ml_agents_would_take(trainer: str) -> None:
    memory = network_of(networked(trainer, memory={}))["memory"]
    assert memory == {"cell": "lstm", "size": 64, "sequence_length": 64, "burn_in": 0}


def test_a_memory_is_the_same_and_nothing_is_told_of_it() -> None:
    assert left_of(networked(memory=MEMORY)) == []


@pytest.mark.parametrize("trainer", TRAINERS)
def test_sequences_of_one_step_get_a_second_and_that_is_told(trainer: str) -> None:
    data = networked(trainer, memory={"sequence_length": 1})
    assert network_of(data)["memory"]["sequence_length"] == 2
    assert reported(data) == [(f"{NETWORK}.memory.sequence_length", 1)]


@pytest.mark.parametrize("key", ["vis_encode_type", "vis_encoder_type"])
@pytest.mark.parametrize(("encoder", "ours"), keys.ENCODERS.items())
def test_encoders_of_images_have_their_names_here(key: str, encoder: str, ours: str) -> None:
    network = network_of(networked(**{key: encoder}, hidden_units=48))
    assert (network["encoder"], network["encoder_units"]) == (ours, 48)
    told = [(f"{NETWORK}.{key}", "resnet")] if encoder == "resnet" else []
    assert reported(networked(**{key: encoder})) == told


def test_of_two_encoders_the_key_of_the_code_counts() -> None:
    assert network_of(networked(vis_encode_type="resnet", vis_encoder_type="nature_cnn"))["encoder"] == "impala"


@pytest.mark.parametrize("signal", ["gail", "curiosity", "rnd"])
def test_signals_have_no_memory_and_that_is_told(signal: str) -> None:
    settings = GAIL if signal == "gail" else {}
    plain = behavior(extrinsic={}, **{signal: {**settings, "network_settings": {}}})
    data = behavior(extrinsic={}, **{signal: {**settings, "network_settings": {"memory": MEMORY}}})
    assert converted(data) == converted(plain)
    where = f"{A}.reward_signals.{signal}"
    assert sorted(key for key, _ in reported(data)) == [where, f"{where}.network_settings.memory"]


@pytest.mark.parametrize(
    ("signals", "policys", "is_told"),
    [("resnet", "resnet", False), ("simple", "resnet", True), ("match3", "match3", False), ("simple", "match3", True)],
)
def test_signals_see_images_as_the_policy_does(signals: str, policys: str, is_told: bool) -> None:
    curiosity = {"network_settings": {"vis_encode_type": signals}}
    data = {**networked(vis_encode_type=policys), **behavior(extrinsic={}, curiosity=curiosity)}
    key = f"{A}.reward_signals.curiosity.network_settings.vis_encode_type"
    assert ((key, signals) in reported(data)) == is_told


def test_memory_of_default_settings_is_inherited_changed_and_taken_away() -> None:
    data = {
        "default_settings": networked("sac", memory=MEMORY),
        "behaviors": {
            "A": {},
            "B": {"network_settings": {"memory": {"memory_size": 8}}},
            "C": {"network_settings": {"memory": None}},
            "D": {"trainer_type": "ppo"},
        },
    }
    experiment, _ = convert(data, "game.yaml")
    first = {"cell": "lstm", "size": 128, "sequence_length": 32, "burn_in": 0}
    assert experiment["algorithm"]["network"]["memory"] == first
    changes = experiment["behaviors"]
    assert changes["A"].keys() == {"stop"}
    assert changes["B"]["algorithm"]["network"]["memory"] == {**first, "size": 4}
    assert changes["C"]["algorithm"]["network"]["memory"] == {"cell": "none"}
    assert changes["D"]["algorithm"]["network"]["memory"] == first


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"memory": {"memory_size": 255}}, f"{NETWORK}.memory.memory_size=255 must be divisible by 2: half of it is"),
        ({"memory": {"memory_size": 0}}, f"{NETWORK}.memory.memory_size=0 must be at least 1"),
        ({"memory": {"sequence_length": 0}}, f"{NETWORK}.memory.sequence_length=0 must be at least 1"),
        ({"memory": {"sequence_lenght": 8}}, f"did you mean {NETWORK}.memory.sequence_length?"),
        ({"memory": 128}, f"{NETWORK}.memory: expected keys of its own, not 128"),
        ({"vis_encode_type": "resnet50"}, f"{NETWORK}.vis_encode_type=resnet50: expected one of simple, nature_cnn, "),
    ],
)
def test_bad_values_about_networks_are_refused_by_name(network: dict[str, Any], message: str) -> None:
    assert message in refusal(networked(**network))


def test_an_odd_memory_of_a_signal_is_refused_as_ml_agents_does() -> None:
    refused = refusal(behavior(curiosity={"network_settings": {"memory": {"memory_size": 3}}}))
    assert f"{A}.reward_signals.curiosity.network_settings.memory.memory_size=3 must be divisible by 2" in refused


def test_sac_has_room_for_a_sequence_that_is_a_whole_batch() -> None:
    data = networked("sac", memory={"sequence_length": 64})
    data["hyperparameters"] = {"batch_size": 64, "buffer_size": 128}
    algorithm = converted(data)["algorithm"]
    assert (algorithm["start_samples"], algorithm["buffer_capacity"]) == (65, 130)
    assert (f"{A}.hyperparameters.buffer_size", 128) in reported(data)


def test_first_actions_spread_as_far_as_in_ml_agents(tmp_path: Path) -> None:
    """There, a deviation of 1 and a mean near 0, clipped to -3 to 3 and divided by 3."""
    source = tmp_path / "game.yaml"
    source.write_text(yaml.safe_dump({"behaviors": {"A": {}}}))
    assert main([str(source), f"to={tmp_path}/experiment/game.yaml"]) == 0
    config = compose(["+experiment=game", f"hydra.searchpath=['file://{tmp_path}']"], TrainConfig, "config")
    spec = BehaviorSpec("A", (ObservationSpec("o", (8,), "float32"),), 2)
    policy = make_policy(spec, settings_of(config, "A")[0])
    seen = np.random.default_rng(0).normal(size=(20_000, 8)).astype(np.float32)
    actor, generator = NumpyActor(policy), np.random.default_rng(1)
    acted = actor.act((seen,), np.ones((20_000, 0), bool), np.zeros((20_000, 0), np.float32), generator)
    assert acted.continuous.std(0) == pytest.approx([1 / 3, 1 / 3], rel=0.01)
    assert acted.continuous.mean(0) == pytest.approx([0, 0], abs=0.01)


SILU = Activation["silu"]


def test_a_converted_experiment_with_memories_composes_with_every_value(tmp_path: Path) -> None:
    behaviors = {
        "A": {**networked("sac", memory=MEMORY, vis_encode_type="nature_cnn"), "hyperparameters": {"batch_size": 32}},
        "B": networked("sac"),
        "C": networked(memory={"memory_size": 2}, vis_encode_type="resnet"),
    }
    source = tmp_path / "game.yaml"
    source.write_text(yaml.safe_dump({"behaviors": behaviors}))
    assert main([str(source), f"to={tmp_path}/experiment/game.yaml"]) == 0
    config = compose(["+experiment=game", f"hydra.searchpath=['file://{tmp_path}']"], TrainConfig, "config")
    sac, _ = settings_of(config, "A")
    assert isinstance(sac, SACSettings)
    sac.validate()
    memory = MemorySettings(Cell["lstm"], size=128, sequence_length=32, burn_in=0)
    theirs: dict[str, Any] = {
        "clip_inputs": 5.0,
        "encoder_units": 128,
        "goal": Goal["hyper"],
        "attention": AttentionSettings(128, 4, 1),
    }
    assert sac.network == NetworkSettings([128, 128], SILU, None, False, 0, memory, "nature", **theirs)
    plain, _ = settings_of(config, "B")
    assert isinstance(plain, SACSettings)
    plain.validate()
    assert (plain.network.memory.cell, plain.network.encoder) == (Cell["none"], "simple")
    ppo, _ = settings_of(config, "C")
    assert isinstance(ppo, PPOSettings)
    ppo.validate()
    memory = MemorySettings(Cell["lstm"], size=1, sequence_length=64, burn_in=0)
    theirs["action_scale"] = 1 / 3
    assert ppo.network == NetworkSettings([128, 128], SILU, 1 / 3, False, 0, memory, "impala", **theirs)


@pytest.mark.parametrize(
    ("trainer", "hyperparameters"),
    [("ppo", {"batch_size": 32, "buffer_size": 64}), ("sac", {"batch_size": 32, "steps_per_update": 2})],
)
def test_a_converted_memory_trains(tmp_path: Path, trainer: str, hyperparameters: dict[str, int]) -> None:
    data = {**networked(trainer, memory={"memory_size": 8, "sequence_length": 6}), "hyperparameters": hyperparameters}
    source, run = tmp_path / "game.yaml", tmp_path / "run"
    source.write_text(yaml.safe_dump({"default_settings": data}))
    assert main([str(source), f"to={tmp_path}/experiment/game.yaml"]) == 0
    words = ["+experiment=game", f"hydra.searchpath=['file://{tmp_path}']", "env=recall", "env.kwargs.delay=5"]
    assert train([*words, "run.mode=inline", "stop.samples=150", f"run.dir={run}"]) == 0
    assert int(newest(run).tensors["Recall-v0/updates"]) > 0


@pytest.mark.parametrize(("given", "ours"), [({}, "hyper"), ({"goal_conditioning_type": "none"}, "input")])
def test_goal_signals_make_weights_unless_they_are_plain_inputs(given: dict[str, Any], ours: str) -> None:
    experiment, left = convert({"behaviors": {"A": networked(**given)}}, "game.yaml")
    assert experiment["algorithm"]["network"]["goal"] == ours
    assert not [each.key for each in left if "goal" in each.key]
