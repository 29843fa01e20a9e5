"""Environments that a class or a function makes."""

from __future__ import annotations

import pickle
from functools import partial

import gymnasium
import pytest

from envs.gym.factory import FactoryConfig, import_path, make_registered, pickle_factory
from envs.spec import UserError
from tests.toys import Oracle


def given(make, **settings) -> FactoryConfig:
    config = FactoryConfig(id="env", **settings)
    config.give(pickle_factory(make, "env"))
    return config


def test_what_is_given_travels_to_other_processes_and_wherever_settings_go():
    longest = 7

    class Local(Oracle):
        def __init__(self):
            super().__init__(length=longest)

    config = pickle.loads(pickle.dumps(given(Local, wrappers=["gymnasium.wrappers:OrderEnforcing"])))
    for each in (config, config.for_evaluation(2)):
        env = each.gym_env().make()
        assert isinstance(env, gymnasium.wrappers.OrderEnforcing)
        assert env.unwrapped.length == longest


def test_the_first_look_is_at_what_is_given():
    found = given(lambda length: Oracle(length=length), kwargs={"length": 3}).probed(0)
    assert found.spec.name == "env"
    assert found.spaces["env"]["action"] == {"kind": "Discrete", "n": 5, "start": 0}
    assert not found.pictures  # the function takes no render_mode


def test_pictures_are_asked_for_where_they_can_be():
    assert given(Oracle).gym_env().make(render=True).render_mode == "rgb_array"
    assert given(Oracle).gym_env().draws(Oracle())
    assert given(lambda: Oracle()).gym_env().make(render=True).render_mode is None
    drawing = given(lambda: Oracle(render_mode="rgb_array")).gym_env()
    assert drawing.draws(drawing.make())


def test_an_import_path_is_imported():
    env = FactoryConfig(id="tests.toys:Oracle", kwargs={"length": 3}).gym_env()
    env.check()
    assert env.make().length == 3
    assert env.behavior == "Oracle"


def test_a_registered_environment_is_made_where_its_id_is_unknown():
    gymnasium.register("Passing-v0", Oracle, max_episode_steps=4)
    spec = gymnasium.registry.pop("Passing-v0")
    env = given(partial(make_registered, spec)).gym_env().make(render=True)
    assert env.spec.max_episode_steps == 4
    assert env.unwrapped.render_mode == "rgb_array"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FactoryConfig(id="MyEnv"), r"env.id=MyEnv: this environment was given by a Python program.*resume\(env="),
        (FactoryConfig(id="tests.toys:None_"), "module tests.toys has no None_"),
        (FactoryConfig(id="tests.toys:__name__"), "is str, and no class or function that makes an env"),
        (given(Oracle, kwargs={"width": 3}), "Environment 'env' cannot be made: got an unexpected keyword argument"),
    ],
)
def test_what_makes_nothing_is_refused(config, message):
    with pytest.raises(UserError, match=message):
        config.check()


def test_what_makes_something_else_is_refused():
    with pytest.raises(UserError, match=r"what was given for it makes int, and no gymnasium\.Env"):
        given(lambda: 3).probed(0)


def test_only_what_a_new_process_finds_has_an_import_path():
    def local():
        pass

    assert import_path(Oracle) == "tests.toys:Oracle"
    assert import_path(Oracle.step) is None
    assert import_path(local) is import_path(lambda: 3) is import_path(partial(Oracle)) is None
