"""YAML files with the keys of ML-Agents' examples, and games with their observations and actions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from envs.spec import BehaviorSpec, ObservationSpec
from tests.trainer.imitation.toys import write_demo
from trainer.__main__ import main as train
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig, behavior_config
from trainer.convert.__main__ import convert, main
from trainer.convert.keys import LOST
from trainer.runtime.checks import _check_goal, _check_learning

DEMO = "Demos/Expert.demo"


class Game(NamedTuple):
    """What a game's agents see and do."""

    vectors: tuple[int, ...] = ()
    images: tuple[tuple[int, int, int], ...] = ()
    continuous: int = 0
    branches: tuple[int, ...] = ()
    masked: bool = False

    def player(self, behavior: str) -> str:
        """The words for our player."""
        kwargs = " ".join(f"kwargs.{key}={json.dumps(value)}".replace(" ", "") for key, value in self._asdict().items())
        return f"env=tests.trainer.convert.example_games:Example-v0 {kwargs} behavior={behavior} agents=4"

    @property
    def spec(self) -> BehaviorSpec:
        """Of which demonstrations are written."""
        seen = [ObservationSpec(f"obs_{i}", (size,), "float32") for i, size in enumerate(self.vectors)]
        return BehaviorSpec("x", tuple(seen), self.continuous, self.branches, self.masked)


def ppo(**more: Any) -> dict[str, Any]:
    """The keys that all of PPO's examples have; those given replace or follow them."""
    hyperparameters = {
        "batch_size": 128,
        "buffer_size": 2048,
        "learning_rate": 0.0003,
        "beta": 0.005,
        "epsilon": 0.2,
        "lambd": 0.95,
        "num_epoch": 3,
        "learning_rate_schedule": "linear",
        **more.pop("hyperparameters", {}),
    }
    return {"trainer_type": "ppo", "hyperparameters": hyperparameters, **shared(more)}


def sac(**more: Any) -> dict[str, Any]:
    """The keys that all of SAC's examples have."""
    hyperparameters = {
        "learning_rate": 0.0003,
        "learning_rate_schedule": "constant",
        "batch_size": 128,
        "buffer_size": 50000,
        "buffer_init_steps": 200,
        "tau": 0.005,
        "steps_per_update": 10.0,
        "save_replay_buffer": False,
        "init_entcoef": 0.5,
        "reward_signal_steps_per_update": 10.0,
        **more.pop("hyperparameters", {}),
    }
    return {"trainer_type": "sac", "hyperparameters": hyperparameters, **shared(more)}


def shared(more: dict[str, Any]) -> dict[str, Any]:
    network = {"normalize": False, "hidden_units": 128, "num_layers": 2, "vis_encode_type": "simple"}
    signals = {"extrinsic": {"gamma": 0.99, "strength": 1.0}, **more.pop("signals", {})}
    return {
        "network_settings": {**network, **more.pop("network", {})},
        "reward_signals": signals,
        "keep_checkpoints": 5,
        "max_steps": 500000,
        "time_horizon": 64,
        "summary_freq": 10000,
        **more,
    }


def lessons(behavior: str) -> dict[str, Any]:
    rule = {"measure": "progress", "behavior": behavior, "signal_smoothing": True, "min_lesson_length": 100}
    sampler = {"sampler_type": "uniform", "sampler_parameters": {"min_value": 4.0, "max_value": 7.0}}
    first = {"name": "Lesson0", "completion_criteria": {**rule, "threshold": 0.1}, "value": sampler}
    return {"curriculum": [first, {"name": "Lesson1", "value": 8.0}]}


MEMORY = {"memory": {"sequence_length": 64, "memory_size": 128}}
CURIOSITY = {
    "curiosity": {"gamma": 0.99, "strength": 0.02, "network_settings": {"hidden_units": 256}, "learning_rate": 3e-4}
}
RND = {
    "rnd": {
        "gamma": 0.99,
        "strength": 0.01,
        "network_settings": {"hidden_units": 64, "num_layers": 3},
        "learning_rate": 1e-4,
    }
}
GAIL = {
    "gail": {
        "gamma": 0.99,
        "strength": 0.01,
        "encoding_size": 128,
        "demo_path": DEMO,
        "learning_rate": 3e-4,
        "use_actions": False,
        "use_vail": False,
    }
}
CLONING = {"behavioral_cloning": {"demo_path": DEMO, "steps": 50000, "strength": 0.5, "samples_per_update": 0}}
SELF_PLAY = {
    "self_play": {
        "save_steps": 50000,
        "team_change": 200000,
        "swap_steps": 2000,
        "window": 10,
        "play_against_latest_model_ratio": 0.5,
        "initial_elo": 1200.0,
    }
}
MASS = {
    "mass": {"sampler_type": "uniform", "sampler_parameters": {"min_value": 0.5, "max_value": 10}},
    "scale": {"sampler_type": "uniform", "sampler_parameters": {"min_value": 0.75, "max_value": 3}},
}
BASIC, BALL, HARD = Game((20,), branches=(3,)), Game((8,), continuous=2), Game((45,), continuous=2)
CRAWLER, WALKER, WORM = Game((172,), continuous=20), Game((243,), continuous=39), Game((64,), continuous=9)
FOOD, VISUAL_FOOD = Game((53,), continuous=3, branches=(2,)), Game((), ((84, 84, 3),), 3, (2,))
GRID_FOOD = Game((4,), ((40, 40, 6),), 3, (2,))
GRID = Game((2,), ((64, 84, 3),), branches=(5,), masked=True)
HALLWAY, PUSH, PYRAMIDS = Game((30,), branches=(5,)), Game((70,), branches=(7,)), Game((172,), branches=(5,))
WALL, MATCH3 = Game((74,), branches=(3, 3, 3, 2)), Game((), ((9, 8, 6), (9, 8, 2)), branches=(127,), masked=True)
VISUAL_BALL = Game((), ((84, 84, 3),), continuous=2)
NORMALIZED, NATURE = (
    {"network": {"normalize": True, "hidden_units": 512, "num_layers": 3}},
    {"network": {"vis_encode_type": "nature_cnn"}},
)
SLOW_BETA = {"beta_schedule": "constant", "epsilon_schedule": "linear"}
EXAMPLES: dict[str, tuple[Game, dict[str, Any]]] = {
    "ppo/Basic": (BASIC, {"Basic": ppo()}),
    "ppo/3DBall": (BALL, {"3DBall": ppo(network={"normalize": True})}),
    "ppo/3DBallHard": (HARD, {"3DBallHard": ppo(network={"normalize": True})}),
    "ppo/3DBall_randomize": (BALL, {"3DBall": ppo(network={"normalize": True})}),
    "ppo/Visual3DBall": (VISUAL_BALL, {"Visual3DBall": ppo()}),
    "ppo/Crawler": (CRAWLER, {"Crawler": ppo(**NORMALIZED)}),
    "ppo/Walker": (WALKER, {"Walker": ppo(**NORMALIZED)}),
    "ppo/Worm": (WORM, {"Worm": ppo(**NORMALIZED)}),
    "ppo/FoodCollector": (FOOD, {"GridFoodCollector": ppo()}),
    "ppo/GridFoodCollector": (GRID_FOOD, {"GridFoodCollector": ppo()}),
    "ppo/VisualFoodCollector": (VISUAL_FOOD, {"VisualFoodCollector": ppo()}),
    "ppo/GridWorld": (GRID, {"GridWorld": ppo()}),
    "ppo/Hallway": (HALLWAY, {"Hallway": ppo(network=MEMORY)}),
    "ppo/PushBlock": (PUSH, {"PushBlock": ppo()}),
    "ppo/Pyramids": (PYRAMIDS, {"Pyramids": ppo(signals=CURIOSITY)}),
    "ppo/PyramidsRND": (PYRAMIDS, {"Pyramids": ppo(signals=RND)}),
    "ppo/Match3": (MATCH3, {"Match3SimpleHeuristic": {}, "Match3SmartHeuristic": {}}),
    "ppo/WallJump": (WALL, {"BigWallJump": ppo(hyperparameters=SLOW_BETA), "SmallWallJump": ppo()}),
    "ppo/WallJump_curriculum": (WALL, {"BigWallJump": ppo(), "SmallWallJump": ppo()}),
    "ppo/Sorter_curriculum": (BASIC, {"Sorter": ppo(threaded=False)}),
    "ppo/SoccerTwos": (WALL, {"SoccerTwos": ppo(**SELF_PLAY)}),
    "sac/Basic": (BASIC, {"Basic": sac()}),
    "sac/3DBall": (BALL, {"3DBall": sac(network={"normalize": True})}),
    "sac/3DBallHard": (HARD, {"3DBallHard": sac(network={"normalize": True})}),
    "sac/Crawler": (CRAWLER, {"Crawler": sac(**NORMALIZED)}),
    "sac/Walker": (WALKER, {"Walker": sac(**NORMALIZED)}),
    "sac/Worm": (WORM, {"Worm": sac(**NORMALIZED)}),
    "sac/FoodCollector": (FOOD, {"GridFoodCollector": sac()}),
    "sac/GridWorld": (GRID, {"GridWorld": sac(hyperparameters={"buffer_size": 1000})}),
    "sac/Hallway": (HALLWAY, {"Hallway": sac(network=MEMORY)}),
    "sac/PushBlock": (PUSH, {"PushBlock": sac()}),
    "sac/Pyramids": (PYRAMIDS, {"Pyramids": sac(signals=CURIOSITY)}),
    "sac/WallJump": (WALL, {"BigWallJump": sac(), "SmallWallJump": sac()}),
    "imitation/Crawler": (CRAWLER, {"Crawler": ppo(signals=GAIL, **NORMALIZED)}),
    "imitation/Hallway": (HALLWAY, {"Hallway": ppo(signals=GAIL, network=MEMORY)}),
    "imitation/PushBlock": (PUSH, {"PushBlock": ppo(signals=GAIL, **CLONING)}),
    "imitation/Pyramids": (PYRAMIDS, {"Pyramids": ppo(signals={**CURIOSITY, **GAIL}, **CLONING)}),
    "poca/DungeonEscape": (WALL, {"DungeonEscape": {**ppo(), "trainer_type": "poca"}}),
    "poca/SoccerTwos": (WALL, {"SoccerTwos": {**ppo(**SELF_PLAY), "trainer_type": "poca"}}),
}
GROUPS: dict[str, dict[str, Any]] = {
    "ppo/3DBall_randomize": {"environment_parameters": MASS},
    "ppo/WallJump_curriculum": {
        "environment_parameters": {
            "big_wall_height": lessons("BigWallJump"),
            "small_wall_height": lessons("SmallWallJump"),
        }
    },
    "ppo/Sorter_curriculum": {
        "environment_parameters": {"num_tiles": lessons("Sorter")},
        "env_settings": {"num_envs": 2},
    },
    "ppo/Match3": {
        "default_settings": ppo(network={"vis_encode_type": "match3"}),
        "env_settings": {"env_path": None, "timeout_wait": 60, "seed": -1},
        "engine_settings": {"no_graphics": False, "time_scale": 20},
        "checkpoint_settings": {"run_id": "match3", "force": True},
        "torch_settings": {"device": None},
        "debug": False,
    },
}
QUICK = ("ppo/FoodCollector", "sac/Hallway")
"""Those that the usual tests train with, too: all the others are of the marker `extras`."""


def written(name: str, folder: Path) -> Path:
    """Converts an example, with a demonstration where it wants one; returns the folder for `hydra.searchpath`."""
    game, behaviors = EXAMPLES[name]
    text = yaml.safe_dump({"behaviors": behaviors, **GROUPS.get(name, {})})
    if DEMO in text:
        text = text.replace(DEMO, str(write_demo(folder / "expert.demo", game.spec)))
    source = folder / "example.yaml"
    source.write_text(text)
    assert main([str(source), f"to={folder}/experiment/example.yaml"]) == 0
    return folder


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_converts_and_can_be_started(name: str, tmp_path: Path) -> None:
    behaviors = EXAMPLES[name][1]
    config = compose(
        ["+experiment=example", f"hydra.searchpath=['file://{written(name, tmp_path)}']"], TrainConfig, "config"
    )
    for behavior in behaviors:
        chosen = behavior_config(config, behavior)
        _check_learning(chosen.algorithm, chosen.reward, "")
        _check_goal(chosen.goal, "")
        stop = chosen.stop.samples or config.stop.samples
        assert stop == 500000
    lost = {
        left.key.rpartition(".")[2]
        for left in convert({"behaviors": behaviors, **GROUPS.get(name, {})}, "")[1]
        if left.kind == LOST
    }
    assert lost == set()


def train_some(name: str, folder: Path) -> None:
    game, behaviors = EXAMPLES[name]
    behavior = next(iter(behaviors))
    words = ["+experiment=example", f"hydra.searchpath=['file://{written(name, folder)}']", "env.executable=null"]
    words += [
        f"env.player={game.player(behavior)}",
        "run.picture_minutes=0",
        "stop.samples=1000",
        f"run.dir={folder / 'run'}",
    ]
    words += ["self_play.save_samples=null"]  # our player has one team
    assert train(words) == 0
    assert json.loads((folder / "run" / "summary.json").read_text())["samples"] >= 1000


@pytest.mark.parametrize("name", QUICK)
def test_examples_train_as_they_are_converted(name: str, tmp_path: Path) -> None:
    train_some(name, tmp_path)


@pytest.mark.extras
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in QUICK])
def test_all_other_examples_train_as_they_are_converted(name: str, tmp_path: Path) -> None:
    train_some(name, tmp_path)
