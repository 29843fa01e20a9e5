"""Demonstrations and settings of imitation that cannot be used: one message, and nothing begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.trainer.imitation.toys import BASIC, write_demo
from trainer.config.command import run_command
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.checks import check_train

(POSITION,) = BASIC.observations
PPO, SAC = ["env=basic", "algorithm=ppo"], ["env=basic", "algorithm=sac"]
KEYS = ["reward.gail.demos", "algorithm.cloning.demos", "algorithm.demos"]
EVERY_KEY = pytest.mark.parametrize("key", KEYS)


def another(size: int = 20, more: int = 0, continuous: int = 0, branches: tuple[int, ...] = (3,)) -> BehaviorSpec:
    observations = [ObservationSpec(name, (size,), "float32") for name in "abc"[: 1 + more]]
    return BehaviorSpec("Other", tuple(observations), continuous, branches)


@pytest.mark.parametrize(
    ("key", "spec", "message"),
    [
        *((key, another(size=21), "its observation 'a' is float32[21], not float32[20]") for key in KEYS),
        (KEYS[0], another(more=1), f"it has 2 observations, not 1 ({POSITION.name!r} float32[20])"),
        (KEYS[0], another(continuous=2), "it has 2 continuous actions, not 0"),
        (KEYS[0], another(branches=(3, 2)), "its discrete branches are [3, 2], not [3]"),
        (KEYS[0], another(branches=(4,)), "its discrete branches are [4], not [3]"),
    ],
    ids=[*KEYS, "observations", "continuous", "branches", "choices"],
)
def test_what_does_not_fit_is_refused_by_file_and_sizes(tmp_path, refused, key, spec, message):
    file = write_demo(tmp_path / "demos" / "other.demo", spec)
    write_demo(file.with_name("a.demo"))
    assert refused(*SAC, f"{key}={file.parent}") == f"{file} does not fit behavior 'Basic-v0': {message}"


@EVERY_KEY
def test_what_is_not_there_is_refused_by_key_and_path(tmp_path, refused, key):
    gone, folder = tmp_path / "gone.demo", tmp_path / "empty"
    folder.mkdir()
    record = "record it: outstep record env=... player=... to="
    assert refused(*SAC, f"{key}={gone}") == f"{key}={gone} does not exist; {record}{gone}"
    lone = f"{key}={folder}: the folder holds no .demo file; {record}{folder / 'name.demo'}"
    assert refused(*SAC, f"{key}={folder}") == lone
    pattern = folder / "*.demo"
    why = "no file fits the pattern (quoted, so that your shell leaves it alone?)"
    assert refused(*SAC, f"{key}={pattern}") == f"{key}={pattern}: {why}"
    name_one = f"{key} is empty: name a .demo file, a folder of them or a pattern, or leave it out"
    assert refused(*SAC, f"{key}=") == name_one


def test_damaged_files_are_refused_by_what_was_expected(tmp_path, refused):
    whole = write_demo(tmp_path / "whole.demo").read_bytes()
    file = tmp_path / "damaged.demo"
    for data, message in {
        b"": "it is empty, where the header of a demonstration was expected",
        whole[:20]: "it ends after 20 bytes, within its header: it was cut off, so copy or record it again",
        whole[:-3]: "it ends in record 24 of 24 (",
        b"\xff" * 99: "it is no demonstration of ML-Agents, or its first bytes are damaged (",
    }.items():
        file.write_bytes(data)
        reported = refused(*PPO, f"reward.gail.demos={file}")
        assert reported.startswith(f"{file}: {message}")
        assert reported == f"{file}: {message}" or message.endswith("(")


def test_a_behaviors_demonstrations_are_named_by_their_whole_key(tmp_path, refused):
    gone = tmp_path / "gone.demo"
    for behavior, key in (("Basic-v0", KEYS[0]), ("default", KEYS[1])):
        reported = refused(*PPO, f"behaviors.{behavior}.{key}={gone}")
        assert reported.startswith(f"behaviors.{behavior}.{key}={gone} does not exist; record it: ")
    reported = refused("env=unity", "env.player=env=basic", f"behaviors.Striker.reward.gail.demos={gone}")
    assert reported.startswith(f"behaviors.Striker.reward.gail.demos={gone} does not exist; record it: ")


GAIL = [
    ("strength=-0.1", "strength=-0.1 must be at least 0"),
    ("strength=nan", "strength=nan must be at least 0"),
    ("strength_end=-1", "strength_end=-1.0 must be at least 0"),
    ("strength_end=0", "strength_end=0.0 needs reward.gail.schedule_samples: when it is to be reached"),
    ("updates_per_sample=0", "updates_per_sample=0.0 must be above 0"),
    ("batch_size=0", "batch_size=0 must be at least 1"),
    ("learning_rate=0", "learning_rate=0.0 must be above 0"),
    ("gradient_penalty=-1", "gradient_penalty=-1.0 must be at least 0"),
    ("bound=0", "bound=0.0 must be above 0"),
    ("hidden=[8,0]", "hidden[1]=0 must be at least 1"),
    ("reward_type=sgned", "reward_type=sgned: expected one of signed, positive, negative"),
    ("strength=much", "strength=much: expected a number, not 'much'"),
    ("hidden=8", "hidden=8: expected a list, such as [1,2]"),
]
CLONING = [
    ("anneal_samples=-1", "anneal_samples=-1 must be at least 0"),
    ("updates_before=-1", "updates_before=-1 must be at least 0"),
    ("strength=-0.5", "strength=-0.5 must be at least 0"),
    ("batch_size=0", "batch_size=0 must be at least 1"),
    ("learning_rate=0", "learning_rate=0.0 must be above 0"),
    ("anneal_samples=1.5", "anneal_samples=1.5: expected an integer, not '1.5'"),
]
BAD = [(PPO, f"reward.gail.{given}", f"reward.gail.{message}") for given, message in GAIL]
BAD += [(each, f"algorithm.cloning.{given}", f"algorithm.cloning.{m}") for given, m in CLONING for each in (PPO, SAC)]
BAD += [
    (SAC, "algorithm.demo_share=0", "algorithm.demo_share=0.0 must lie between 0 and 1, both excluded"),
    (SAC, "algorithm.demo_share=1", "algorithm.demo_share=1.0 must lie between 0 and 1, both excluded"),
    (PPO, "reward.gail.demo=x", "unknown key reward.gail.demo; did you mean reward.gail.demos?"),
]


@pytest.mark.parametrize(("env", "override", "message"), BAD, ids=[f"{env[1]} {override}" for env, override, _ in BAD])
def test_values_out_of_range_are_refused(refused, env, override, message):
    assert refused(*env, override) == message


def test_ppo_draws_no_demonstrations_into_its_batches(refused):
    for key in ("demos", "demo_share"):
        assert refused(*PPO, f"algorithm.{key}=1").startswith(f"unknown key algorithm.{key}; ")


def test_what_follows_an_end_has_to_be_worth_less_with_time(tmp_path, refused):
    demo = write_demo(tmp_path / "right.demo")
    for env in (PPO, SAC):
        assert refused(*env, "algorithm.discount=1", f"reward.gail.demos={demo}") == (
            "algorithm.discount=1.0 with reward.gail: after an end the value is reward / (1 - discount), so the "
            "discount has to be below 1"
        )
    check_train(compose([*PPO, "algorithm.discount=1"], TrainConfig, "config"))


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        *(("", name) for name in ["a b.demo", "a=b, [c]{d}.demo", "it's.demo", "*.demo", "(x) 100%.demo"]),
        *((f"{behavior}.", "a=b, [c]{d}.demo") for behavior in ("behaviors.Basic-v0", "+behaviors.default")),
        ("++behaviors.Basic-v0.", "it's.demo"),
    ],
)
def test_paths_need_no_quotes(tmp_path, monkeypatch, prefix, name):
    monkeypatch.chdir(tmp_path)
    write_demo(Path(name.replace("*", "star")))
    made = []

    def keep(config: TrainConfig) -> int:
        made.append(config)
        return 0

    words = [f"{prefix}{key}={name}" for key in KEYS]
    assert run_command([*SAC, *words], TrainConfig, "config", check_train, keep) == 0
    (config,) = made
    (chosen,) = config.behaviors.values() if prefix else [config]
    assert [chosen.reward["gail"].demos, chosen.algorithm.cloning.demos, chosen.algorithm.demos] == [name] * 3


def test_a_behaviors_path_may_be_quoted_or_null():
    given = [
        "behaviors.A.reward.gail.demos='a=b.demo'",
        "reward.gail.demos=c.demo",
        "behaviors.B.reward.gail.demos=null",
    ]
    behaviors = compose([*SAC, *given], TrainConfig, "config").behaviors
    assert behaviors["A"].reward["gail"].demos == "a=b.demo"
    assert behaviors["B"].reward["gail"].demos is None


def test_a_mistyped_key_of_a_behavior_is_named():
    with pytest.raises(UserError, match=r"unknown key behaviors.A.reward.gail.demo; did you mean .*demos\?"):
        compose([*SAC, "behaviors.A.reward.gail.demo=x"], TrainConfig, "config")
