"""Settings in Python, and the words of a command line that they stand for."""

from __future__ import annotations

import threading
from enum import Enum
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from envs.spec import UserError
from outstep.settings import environment, overrides
from tests.toys import Oracle
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig

Colour = Enum("Colour", ["red"])


@pytest.mark.parametrize(
    ("words", "settings", "expected"),
    [
        (["snoopy_sac", "algorithm.clip=0.1"], {}, ["+experiment=snoopy_sac", "algorithm.clip=0.1"]),
        ([], {"algorithm": "ppo", "seed": 3}, ["algorithm=ppo", "seed=3"]),
        ([], {"experiment": "snoopy_ppo"}, ["+experiment=snoopy_ppo"]),
        ([], {"stop": {"samples": 50_000, "seconds": None}}, ["stop.samples=50000", "stop.seconds=null"]),
        ([], {"algorithm": {"name": "ppo", "clip": 0.1}}, ["algorithm=ppo", "algorithm.clip=0.1"]),
        ([], {"algorithm.network.hidden": [16, 16]}, ["algorithm.network.hidden=[16,16]"]),
        ([], {"a": True, "b": np.float32(0.5), "c": Colour.red}, ["a=true", "b=0.5", "c=red"]),
        ([], {"a": "true", "b": "it's", "c": "C:\\"}, ["a='true'", r"b='it\'s'", r"c='C:\\'"]),
        ([], {"a": Path("x y"), "b": np.arange(2), "c": {1: {"x y": "z"}}}, ["a='x y'", "b=[0,1]", "c.1={'x y':z}"]),
    ],
)
def test_settings_are_those_of_a_command_line(words, settings, expected):
    assert overrides(words, settings) == expected


def test_values_arrive_as_they_were_given():
    kwargs = {"text": "it's, [so]", "backslash": "C:\\", "list": [1, "a b"], "word": "null", "nested": {"x": None}}
    words = overrides(["env=gym", "env.id=CartPole-v1"], {"env.kwargs": kwargs, "run": {"dir": Path("it's")}})
    config = compose(words, TrainConfig, "config")
    assert config.env.kwargs == kwargs
    assert config.run.dir == "it's"


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (["--cfg"], {}, "--cfg: only settings are taken here"),
        ([3], {}, "3: name an experiment, or write key=value"),
        ([], {"on_lgo": print}, "on_lgo=<built-in function print>: settings are numbers.*callbacks are on_log"),
        ([], {"seed": object()}, "seed=<object.*: settings are numbers, strings, lists and dicts$"),
    ],
)
def test_what_is_no_setting_is_refused(words, settings, message):
    with pytest.raises(UserError, match=message):
        overrides(words, settings)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ("CartPole-v1", ["env=gym", "env.id=CartPole-v1"]),
        ("bubble_shooter", ["env=bubble_shooter"]),
        ("tests.toys:Oracle-v0", ["env=gym", "env.id='tests.toys:Oracle-v0'"]),
        ("tests.toys:Oracle", ["env=factory", "env.id='tests.toys:Oracle'"]),
        ("envs.gym.config:GymConfig", ["env=envs.gym.config:GymConfig"]),
        (Oracle, ["env=factory", "env.id='tests.toys:Oracle'"]),
        ({"id": "CartPole-v1", "instances": 4}, ["env=gym", "env.id=CartPole-v1", "env.instances=4"]),
        ({"instances": 4}, ["env.instances=4"]),
        ({"kind": "unity", "executable": "Game"}, ["env=unity", "env.executable=Game"]),
    ],
)
def test_what_a_new_process_finds_is_named(env, expected):
    assert environment(env) == (expected, None)


def test_what_a_new_process_does_not_find_is_given():
    class Local(Oracle):
        pass

    gymnasium.register("Mine-v0", Local)
    try:
        for env, name in (
            (Local, "Local"),
            (lambda: Local(), "env"),
            (partial(Local, 1), "Local"),
            ("Mine-v0", "Mine-v0"),
        ):
            words, pickled = environment({"id": env, "instances": 2})
            assert words == ["env=factory", f"env.id={name}", "env.instances=2"]
            assert pickled is not None
    finally:
        del gymnasium.registry["Mine-v0"]


@pytest.mark.parametrize("env", [3, None, gymnasium.make("CartPole-v1")])
def test_an_environment_is_no_way_to_make_one(env):
    with pytest.raises(UserError, match=r"each process makes environments of its own, so give what makes one"):
        environment({"id": env})


def test_what_cannot_be_sent_to_another_process_is_refused():
    lock = threading.Lock()
    with pytest.raises(UserError, match=r"env=env cannot be sent to the processes.*cannot pickle '_thread.lock'"):
        environment(lambda: lock)
