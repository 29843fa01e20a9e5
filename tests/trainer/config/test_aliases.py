from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from algorithms.registry import ALGORITHMS
from envs.registry import BUILT_IN, find_kind
from envs.spec import UserError
from tests.trainer.tiny_runs import rewrite_config
from trainer.config import aliases
from trainer.config.aliases import OLD_KEYS, OTHER_LIBRARIES, current_figure
from trainer.config.compose import compose, load_config, save_config
from trainer.config.schema import EvaluateConfig, TrainConfig
from trainer.config.typed import default_behavior


@pytest.fixture(autouse=True)
def _nothing_reported_yet() -> Iterator[None]:
    aliases._reported.clear()
    yield
    aliases._reported.clear()


def compose_train(*overrides: str) -> TrainConfig:
    return compose(["env.id=A-v0", *overrides], TrainConfig, "config")


def old_run(folder: Path, *overrides: str) -> Path:
    """A run's folder as commit a74d931 wrote it: with the keys that settings had there."""
    folder.mkdir()
    save_config(compose_train(*overrides), folder)
    text = (folder / "config.yaml").read_text()
    for old, new in OLD_KEYS.items():
        text = text.replace(f" {new.rpartition('.')[2]}:", f" {old.rpartition('.')[2]}:")
    rewrite_config(folder, text)
    return folder


VALUES = {
    "algorithm.steps": ("sac", "3", 3),
    "algorithm.entropy": ("ppo", "0.5", 0.5),
    "algorithm.entropy_end": ("ppo", "0.25", 0.25),
    "algorithm.act": ("custom", "sac", None),
    "algorithm.max_weight": ("ppo", "1.5", 1.5),
    "algorithm.cloning.samples": ("sac", "7", 7),
    "reward.gail.form": ("ppo", "negative", None),
}
"""By old key: an algorithm that has it, a text, and its value; None = an enum's name."""


def value_of(settings: Any, old: str) -> object:
    value = settings
    for key in OLD_KEYS[old].split("."):
        value = value[key] if isinstance(value, dict) else getattr(value, key)
    return getattr(value, "name", value)


@pytest.mark.parametrize("old", OLD_KEYS)
def test_an_old_key_works_on_the_command_line_and_is_reported_once(
    old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    algorithm, text, expected = VALUES[old]
    top = compose_train(f"algorithm={algorithm}", f"{old}={text}")
    behavior = compose_train(f"algorithm={algorithm}", f"behaviors.A.{old}={text}").behaviors["A"]
    for each in (top, behavior):
        assert value_of(each, old) == (text if expected is None else expected)
    assert capsys.readouterr().err == f"renamed: {old} is now {OLD_KEYS[old]}\n"


@pytest.mark.parametrize("env", ["env=gym env.id=A-v0", "env=basic", "env=unity"])
def test_a_run_of_an_earlier_version_goes_on_with_what_it_did(env: str, tmp_path: Path) -> None:
    save_config(compose([*env.split(), "behaviors.A={}"], TrainConfig, "config"), tmp_path)
    before = load_config(tmp_path)
    assert (before.algorithm.network.flatten_below, getattr(before.env, "prepare_images", True)) == (5, True)
    lines = (tmp_path / "config.yaml").read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.split(":")[0].strip() not in ("flatten_below", "prepare_images")]
    rewrite_config(tmp_path, "".join(kept))
    after = load_config(tmp_path)
    assert [each.algorithm.network.flatten_below for each in (after, after.behaviors["A"])] == [20, 20]
    assert getattr(after.env, "prepare_images", False) is False


@pytest.mark.parametrize("prefix", ["", "behaviors.A."])
@pytest.mark.parametrize("plus", ["+", "++"])
def test_an_old_key_may_be_added(plus: str, prefix: str) -> None:
    config = compose_train("algorithm=sac", f"{plus}{prefix}algorithm.steps=3")
    assert value_of(config.behaviors["A"] if prefix else config, "algorithm.steps") == 3


@pytest.mark.parametrize("old", OLD_KEYS)
def test_an_old_key_works_in_a_yaml_file(old: str, tmp_path: Path) -> None:
    algorithm, text, expected = VALUES[old]
    (tmp_path / "experiment").mkdir()
    lines = [f"{'  ' * depth}{key}:" for depth, key in enumerate(old.split("."))]
    behavior = "\n".join(f"    {line}" for line in lines)
    yaml = "\n".join(["# @package _global_", *lines]) + f" {text}\nbehaviors:\n  A:\n{behavior} {text}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(yaml)
    overrides = [f"hydra.searchpath=['file://{tmp_path}']", f"algorithm={algorithm}", "+experiment=mine"]
    config = compose_train(*overrides)
    for each in (config, config.behaviors["A"]):
        assert value_of(each, old) == (text if expected is None else expected)


def test_the_command_line_is_stronger_than_an_old_key_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [snoopy_sac]\nalgorithm: {steps: 3, cloning: {samples: 7}}\n"
        "behaviors: {A: {algorithm: {steps: 4}}}\n"
    )
    overrides = [f"hydra.searchpath=['file://{tmp_path}']", "+experiment=mine"]
    assert compose_train(*overrides).algorithm.n_step == 3  # type: ignore[union-attr]
    config = compose_train(*overrides, "algorithm.n_step=5", "behaviors.A.algorithm.n_step=6")
    assert (config.algorithm.n_step, config.behaviors["A"].algorithm.n_step) == (5, 6)  # type: ignore[union-attr]
    assert config.algorithm.cloning.anneal_samples == 7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algorithm.steps=3"], "unknown key algorithm.steps"),
        (["algorithm=sac", "algorithm.steps=x"], "algorithm.n_step: expected an integer"),
        (["algorithm=sac", "algorithm.steps=2", "algorithm.entropy=1"], "unknown key algorithm.entropy"),
        (["algorithm=sac", "algorithm.steps=2", "behaviors.A.algorithm.stepz=1"], "behaviors.A.algorithm.stepz"),
        (["algorithm=sac", "algorithm.steps=2", "+algorithm.stepz=1"], "unknown key algorithm.stepz"),
    ],
)
def test_old_keys_let_no_others_in(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        compose_train(*overrides)
    assert message in str(refused.value)


def test_other_commands_have_no_old_keys() -> None:
    with pytest.raises(UserError, match="unknown key algorithm"):
        compose(["run=a", "algorithm.steps=3"], EvaluateConfig, "evaluate")


def test_a_run_of_an_earlier_version_is_loaded_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["algorithm=sac", "algorithm.n_step=2", "reward.gail.reward_type=positive"]
    given += [
        f"behaviors.{each}" for each in ("A.algorithm.n_step=4", "B.algorithm.name=ppo", "B.algorithm.rho_clip=2")
    ]
    folder = old_run(tmp_path / "run", *given)
    text = (folder / "config.yaml").read_text()
    assert " steps: 2" in text
    assert "n_step:" not in text
    expected = compose_train(*given)
    assert load_config(folder) == expected
    assert capsys.readouterr().err.count("algorithm.steps is now algorithm.n_step") == 1
    assert compose([f"resume={folder}", "algorithm.steps=2"], TrainConfig, "config").algorithm == expected.algorithm
    with pytest.raises(UserError, match=r"algorithm.n_step=3: .* was started with algorithm.n_step=2"):
        compose([f"resume={folder}", "algorithm.steps=3"], TrainConfig, "config")
    with pytest.raises(UserError, match=r"behaviors.A.algorithm.n_step=3: .* with behaviors.A.algorithm.n_step=4"):
        compose([f"resume={folder}", "behaviors.A.algorithm.steps=3"], TrainConfig, "config")


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        ("gamma=1", "gamma; here it is algorithm.discount"),
        ("algorithm.gamma=1", "algorithm.gamma; here it is algorithm.discount"),
        ("+algorithm.gamma=1", "algorithm.gamma; here it is algorithm.discount"),
        ("behaviors.A.algorithm.gamma=1", "behaviors.A.algorithm.gamma; here it is behaviors.A.algorithm.discount"),
        ("lr=1", "lr; here it is algorithm.learning_rate"),
        ("learning_rate=1", "learning_rate; here it is algorithm.learning_rate"),
        ("n_envs=1", "n_envs; here it is env.instances"),
        ("env.num_envs=1", "env.num_envs; here it is env.instances"),
        ("algorithm.total_timesteps=1", "algorithm.total_timesteps; here it is stop.samples"),
        ("behaviors.A.algorithm.max_steps=1", "behaviors.A.algorithm.max_steps; here it is stop.samples"),
        ("ent_coef=1", "ent_coef; here it is algorithm.entropy_coef or algorithm.temperature"),
        ("algorithm.ent_coef=1", "algorithm.ent_coef; here it is algorithm.entropy_coef"),
        ("algorithm=sac algorithm.ent_coef=1", "algorithm.ent_coef; here it is algorithm.temperature"),
        ("algorithm.batch_size=1", "algorithm.batch_size; here it is algorithm.minibatch_size"),
        ("algorithm.n_steps=1", "algorithm.n_steps; here it is algorithm.rollout_size"),
        ("algorithm=sac algorithm.n_steps=1", "algorithm.n_steps; here it is algorithm.n_step"),
        ("algorithm=sac algorithm.buffer_size=1", "algorithm.buffer_size; here it is algorithm.buffer_capacity"),
        ("algorithm=sac algorithm.tau=1", "algorithm.tau; here it is algorithm.target_rate"),
        ("algorithm.tau=1", "algorithm.tau; here it is algorithm.target_rate, of another algorithm"),
        ("algorithm=sac algorithm.utd_ratio=1", "algorithm.utd_ratio; here it is algorithm.updates_per_sample"),
        ("algorithm.net_arch=[64]", "algorithm.net_arch; here it is algorithm.network.hidden"),
        ("algorithm.lambd=1", "algorithm.lambd; here it is algorithm.gae_lambda"),
        ("algorithm.num_epoch=1", "algorithm.num_epoch; here it is algorithm.epochs"),
        ("algorithm.epsilon=1", "algorithm.epsilon; here it is algorithm.clip"),
        ("algorithm=sac learning_starts=9", "learning_starts; here it is algorithm.start_samples"),
        ("buffer_size=9", "buffer_size; here it is algorithm.rollout_size or algorithm.buffer_capacity"),
        ("num_layers=2", "num_layers; here it is algorithm.network.hidden"),
        ("hidden_units=2", "hidden_units; here it is algorithm.network.hidden"),
        ("algorithm.network.hidden_units=2", "algorithm.network.hidden_units; here it is algorithm.network.hidden"),
        ("num_env_runners=2", "num_env_runners; here it is env.instances"),
        ("algorithm.train_batch_size=2", "algorithm.train_batch_size; here it is algorithm.rollout_size"),
        ("use_lstm=true", "use_lstm; here it is algorithm.network.memory.cell"),
        ("n_eval_episodes=9", "n_eval_episodes; here it is evaluate.episodes"),
        ("eval_freq=9", "eval_freq; here it is evaluate.every_samples"),
        ("reward.curiosity.gamma=1", "reward.curiosity.gamma; reward.curiosity holds strength,"),
    ],
)
def test_another_librarys_name_is_refused_with_ours(words: str, ours: str) -> None:
    with pytest.raises(UserError) as refused:
        compose_train(*words.split())
    assert str(refused.value).startswith(f"unknown key {ours}")


def test_another_commands_names_are_its_own() -> None:
    with pytest.raises(UserError, match="unknown key n_eval_episodes; here it is episodes"):
        compose(["run=a", "n_eval_episodes=3"], EvaluateConfig, "evaluate")
    with pytest.raises(UserError, match="unknown key gamma; the configuration holds run,"):
        compose(["run=a", "gamma=3"], EvaluateConfig, "evaluate")


def has(defaults: Any, key: str) -> bool:
    value = defaults
    try:
        for part in key.split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
    except (AttributeError, KeyError):
        return any(field.name == key for field in fields(defaults))
    return True


def test_every_name_in_the_tables_is_one_of_ours() -> None:
    behaviors = [default_behavior(name) for name in ALGORITHMS.built_in()]
    configs = [*behaviors, *(TrainConfig(env=find_kind(name)()) for name in BUILT_IN), EvaluateConfig()]
    for key in [*OLD_KEYS.values(), *OTHER_LIBRARIES]:
        assert any(has(config, key) for config in configs), key
    assert not any(has(config, key) for config in configs for key in OLD_KEYS)


def test_old_figures_are_read() -> None:
    assert current_figure("supply_fraction") == current_figure("env_utilization") == "env_utilization"
    assert current_figure("run/supply_fraction") == "run/env_utilization"
    assert current_figure("time/held_back") == "time/throttled"
    assert current_figure("episode/supply_fraction") == "episode/supply_fraction"
