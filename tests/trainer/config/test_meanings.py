"""The list of all settings with their meanings."""

import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from algorithms.settings import OffPolicySettings
from envs.config import EnvConfig, setting
from trainer.config.compose import CONF, all_keys
from trainer.config.meanings import Group, Setting, list_settings, settings_of
from trainer.config.schema import SCHEMAS, TrainConfig


@dataclass
class Inner:
    """What lies within."""

    share: float = setting(0.5, at_least=0, at_most=1)
    """Share of it. Higher: more
    of it. Usual: 0.1 to 0.3."""


@dataclass
class Own(OffPolicySettings):
    """Settings of a class of one's own. And more about them."""

    sizes: list[int] | None = setting(default_factory=lambda: [2, 3], above=0)
    """Sizes."""
    inner: Inner = field(default_factory=Inner)
    """Not a setting itself."""
    bare: bool = False


def listed(command: str) -> list[Setting]:
    return [each for group in list_settings(SCHEMAS[command]) for each in group.settings]


@pytest.mark.parametrize("command", SCHEMAS)
def test_no_setting_of_any_command_is_without_a_meaning(command):
    assert [each.key for each in listed(command) if not each.meaning.endswith(".")] == []
    assert [group.name for group in list_settings(SCHEMAS[command]) if not group.meaning] == []


def test_no_command_with_settings_is_left_out():
    configs = {file.stem for file in CONF.glob("*.yaml")} - {"config"} | {"train"}
    assert {command.replace(" ", "_") for command in SCHEMAS} == configs


def test_every_key_of_training_is_listed_but_those_that_the_trainer_fills_in():
    filled_in = {"run.choices", "run.overrides", "interpolations", "env.kind"}
    groups = {group.name for group in list_settings(TrainConfig)}
    keys = {key for key in all_keys(TrainConfig) if key not in groups} - filled_in - {"experiment"}
    of_tests = [kind for kind in EnvConfig.__subclasses__() if not kind.__module__.startswith("envs.")]
    keys -= {f"env.{name}" for kind in of_tests for name in kind.__annotations__}
    assert keys - {each.key for each in listed("train")} == set()


def test_a_setting_says_what_it_takes():
    settings = settings_of(Own)
    assert settings["batch_size"].meaning == "Rows of one update. Larger: steadier gradients, slower updates."
    assert settings["sizes"] == Setting("sizes", "list of integers or null", "[2, 3]", "above 0", "", "Sizes.")
    assert settings["bare"] == Setting("bare", "true or false", "false", "", "", "")
    assert "inner" not in settings
    assert settings_of(Inner)["share"] == Setting(
        "share", "number", "0.5", "0 to 1", "0.1 to 0.3", "Share of it. Higher: more of it."
    )


def test_what_several_choices_have_alike_is_listed_once():
    groups = {group.name: [each.key for each in group.settings] for group in list_settings(TrainConfig)}
    assert "algorithm.discount" in groups["algorithm"]
    assert "algorithm.schedule_samples" in groups["algorithm=ppo or sac or poca"]
    assert "algorithm.clip" in groups["algorithm=ppo or poca"]
    assert "algorithm.n_step" in groups["algorithm=sac"]
    assert "algorithm.learning_rate" in groups["algorithm=ppo or poca"]  # its default is PPO's own
    names = [group.name for group in list_settings(TrainConfig)]
    assert len(set(names)) == len(names)


def test_a_group_has_the_first_sentence_of_its_class():
    (memory,) = [group for group in list_settings(TrainConfig) if group.name == "algorithm.network.memory"]
    assert isinstance(memory, Group)
    assert memory.meaning == "The recurrent state of policies and critics: what they remember within an episode."


def test_listing_the_settings_imports_no_torch():
    code = (
        "import sys; from trainer.config.meanings import list_settings; from trainer.config.schema import SCHEMAS\n"
        "for schema in SCHEMAS.values(): list_settings(schema)\n"
        "sys.exit(bool({'torch', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
