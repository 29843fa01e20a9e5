import os
import pickle
import subprocess
import sys

import gymnasium
import pytest

from envs.gym.adapter import GymEnv
from envs.spec import UserError
from tests.toys import AddSteps


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (GymEnv("CartPol-v1"), ["'CartPol-v1'", "CartPole-v1"]),
        (GymEnv("cartpole-v1"), ["CartPole-v1"]),
        (GymEnv("CartPole"), ["CartPole-v1"]),
        (GymEnv("CartPole-v99"), ["CartPole-v1"]),
        (GymEnv("zzz/qqq-v0"), ["No module that was imported has registered ids of zzz/", "package.module:Name-v0"]),
        (GymEnv("no.such.module:Game-v0"), ["no.such.module:Game-v0", "cannot be imported"]),
        (GymEnv("tests.toys:Oracel-v0"), ["Oracle-v0"]),
        (
            GymEnv("CartPole-v1", wrappers=("gymnasium.wrappers:NoSuch",)),
            ["wrappers:NoSuch: module", "has no NoSuch"],
        ),
        (GymEnv("CartPole-v1", wrappers=("NoModule",)), ["'NoModule'", "package.module:Class"]),
        (
            GymEnv("CartPole-v1", wrappers=("tests.toys:__name__",)),
            ["a str: it must be a class", "gymnasium.Wrapper"],
        ),
    ],
    ids=lambda value: "" if isinstance(value, list) else value.id,
)
def test_what_cannot_be_made_is_refused_with_the_nearest(env, words):
    with pytest.raises(UserError) as refused:
        env.check()
    assert all(word in str(refused.value) for word in words), refused.value


def test_a_missing_optional_library_is_one_clear_error():
    gymnasium.register("Librarian-v0", entry_point="no_such_library.envs:Librarian")
    with pytest.raises(UserError, match=r"'Librarian-v0' cannot be loaded.*no_such_library"):
        GymEnv("Librarian-v0").check()


def test_wrappers_go_on_from_the_inside_out_with_their_arguments():
    env = GymEnv(
        "tests.toys:Oracle-v0",
        {"length": 4},
        ("tests.toys.Unchanged", {"path": "tests.toys:AddSteps", "kwargs": {"bonus": 0.5}}),
    )
    env.check()
    made = env.make()
    assert isinstance(made, AddSteps)
    assert made.bonus == 0.5
    assert made.unwrapped.length == 4


def test_a_recipe_travels_to_other_processes():
    env = GymEnv("CartPole-v1", {"a": 1}, ("x:y",), 3.0)
    assert pickle.loads(pickle.dumps(env)) == env


@pytest.mark.parametrize(
    ("env_id", "name"),
    [("CartPole-v1", "CartPole-v1"), ("envs.games:BubbleShooter-v0", "BubbleShooter-v0"), ("ALE/Pong-v5", "Pong-v5")],
)
def test_a_behavior_is_named_after_its_env_without_module_and_namespace(env_id, name):
    assert GymEnv(env_id).behavior == name


def test_only_an_env_made_to_render_has_a_picture():
    assert GymEnv("tests.toys:Oracle-v0").make().render_mode is None
    env = GymEnv("tests.toys:Oracle-v0").make(render=True)
    env.reset(seed=1)
    assert env.render().shape == (4, 6, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="displays of Linux")
def test_drawing_without_a_display_prints_nothing():
    pytest.importorskip("pygame")
    code = (
        "from envs.gym.adapter import GymEnv; env = GymEnv('CartPole-v1', {'render_mode': 'rgb_array'}).make(); "
        "env.reset(); env.render()"
    )
    environment = {
        k: v for k, v in os.environ.items() if k.partition("_")[0] not in ("XDG", "SDL", "DISPLAY", "WAYLAND")
    }
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
