"""Our player under mlagents-envs' own UnityEnvironment."""

import re
import socket
import subprocess
import sys

import numpy as np
import pytest

import envs.unity.protocol.messages  # noqa: F401 - before mlagents_envs
from envs.gym.adapter import GymEnv, behavior_spec
from envs.gym.observations import observation_parts
from envs.gym.spaces import ActionCodec, follow
from envs.seeding import episode_seed
from envs.unity.python_player import write_launcher

SEED = 5


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


@pytest.fixture
def start(tmp_path):
    """Starts a player from a launcher under a UnityEnvironment."""
    from mlagents_envs.environment import UnityEnvironment

    opened = []

    def start(*words, **kwargs):
        launcher = write_launcher(tmp_path / "game.x86_64", words)
        kwargs = {"timeout_wait": 20, "log_folder": str(tmp_path), **kwargs}
        opened.append(UnityEnvironment(str(launcher), base_port=free_port(), seed=SEED, **kwargs))
        return opened[-1]

    yield start
    for environment in opened:
        environment._close(5)


class ByHand:
    """Copies of an env, stepped with the seeds that a player would use."""

    def __init__(self, recipe, agents=1):
        self.envs = [recipe.make() for _ in range(agents)]
        self.parts = observation_parts(self.envs[0].observation_space)
        self.codec = ActionCodec(self.envs[0].action_space)
        self.episodes = [0] * agents

    def reset(self, index):
        self.episodes[index] += 1
        observation, info = self.envs[index].reset(seed=episode_seed(SEED, index, self.episodes[index]))
        return self.rows(observation), 0.0, info

    def rows(self, observation):
        rows = []
        for part in self.parts:
            row = np.zeros(part.spec.shape, part.spec.dtype)
            part.write(follow(observation, part.path), row)
            rows.append(row * np.float32(part.spec.scale))
        return rows

    def step(self, continuous, discrete):
        """Decisions (rows, reward, info) of all agents, and what ended: (rows, reward, truncated)."""
        decisions, ends = [], []
        for index, env in enumerate(self.envs):
            observation, reward, terminated, truncated, info = env.step(
                self.codec.decode(continuous[index], discrete[index])
            )
            if terminated or truncated:
                ends.append((self.rows(observation), reward, truncated and not terminated))
                decisions.append(self.reset(index))
            else:
                decisions.append((self.rows(observation), reward, info))
        return decisions, ends


def assert_same(steps, expected):
    assert len(steps) == len(expected)
    for at, (rows, reward, _) in enumerate(expected):
        for ours, theirs in zip(steps.obs, rows, strict=True):
            if theirs.ndim == 3 and theirs.shape != ours[at].shape:
                theirs = (
                    theirs.transpose(2, 0, 1) if theirs.shape[2] == ours[at].shape[0] else theirs.transpose(1, 2, 0)
                )
            np.testing.assert_allclose(ours[at], theirs, rtol=1e-6)
        assert steps.reward[at] == np.float32(reward)


def play(environment, recipe, agents, steps):
    """Plays both ways; compares all. Returns how many episodes terminated and how many were truncated."""
    from mlagents_envs.base_env import ActionTuple

    environment.reset()
    (name,) = environment.behavior_specs
    assert name == f"{recipe.behavior}?team=0"
    hand = ByHand(recipe, agents)
    decisions, ends = [hand.reset(index) for index in range(agents)], []
    spec = behavior_spec(hand.envs[0], "any", "action_mask" in decisions[0][2])
    action_spec = environment.behavior_specs[name].action_spec
    assert (action_spec.continuous_size, tuple(action_spec.discrete_branches)) == (spec.continuous_size, spec.branches)
    rng = np.random.default_rng(0)
    known, last_ids, ended = set(), None, [0, 0]
    for _ in range(steps):
        asking, closed = environment.get_steps(name)
        assert_same(asking, decisions)
        assert_same(closed, ends)
        assert [bool(cut) for cut in closed.interrupted] == [truncated for *_, truncated in ends]
        for *_, truncated in ends:
            ended[truncated] += 1
        ids = list(asking.agent_id)
        if last_ids is not None:
            new = [ours for ours, theirs in zip(ids, last_ids, strict=True) if ours != theirs]
            gone = [theirs for ours, theirs in zip(ids, last_ids, strict=True) if ours != theirs]
            assert list(closed.agent_id) == gone
            assert not known & set(new)
        known |= set(ids)
        last_ids = ids
        continuous = rng.uniform(-1, 1, (agents, spec.continuous_size)).astype(np.float32)
        discrete = np.zeros((agents, len(spec.branches)), np.int32)
        for index, (_, _, info) in enumerate(decisions):
            masks = info.get("action_mask", [np.ones(size, bool) for size in spec.branches])
            for branch, mask in enumerate(masks):
                if spec.masked:
                    assert list(asking.action_mask[branch][index]) == [not allowed for allowed in mask]
                discrete[index, branch] = rng.choice(np.flatnonzero(mask))
        environment.set_actions(name, ActionTuple(continuous, discrete))
        environment.step()
        decisions, ends = hand.step(continuous, discrete)
    return ended


@pytest.mark.parametrize(
    ("word", "recipe", "agents", "steps"),
    [
        ("env=basic", GymEnv("envs.games:Basic-v0"), 1, 150),
        ("env=Pendulum-v1", GymEnv("Pendulum-v1"), 1, 210),
        ("env=tests.envs.unity.player_toys:Hybrid-v0", GymEnv("tests.envs.unity.player_toys:Hybrid-v0"), 2, 30),
        ("env=tests.toys:Oracle-v0", GymEnv("tests.toys:Oracle-v0"), 3, 60),
        ("env=tests.envs.unity.player_toys:Pictures-v0", GymEnv("tests.envs.unity.player_toys:Pictures-v0"), 2, 5),
    ],
)
def test_player_does_what_the_env_does_by_hand(start, word, recipe, agents, steps):
    import mlagents_envs

    # Of images, mlagents-envs reads only those in HWC before 1.0, and since then only those in CHW.
    layout = "layout=hwc" if mlagents_envs.__version__.startswith("0.") else "layout=chw"
    terminated, truncated = play(start(word, f"agents={agents}", layout), recipe, agents, steps)
    expected = {"Basic-v0": (1, 0), "Pendulum-v1": (0, 1), "Oracle-v0": (1, 1), "Hybrid-v0": (1, 1)}.get(
        recipe.behavior, (0, 0)
    )
    assert (terminated > 0, truncated > 0) == tuple(map(bool, expected))


def test_statistics_parameters_and_time_scale_travel_by_their_side_channels(start):
    from mlagents_envs.side_channel.engine_configuration_channel import EngineConfigurationChannel
    from mlagents_envs.side_channel.environment_parameters_channel import EnvironmentParametersChannel
    from mlagents_envs.side_channel.stats_side_channel import StatsAggregationMethod, StatsSideChannel

    engine, parameters, stats = EngineConfigurationChannel(), EnvironmentParametersChannel(), StatsSideChannel()
    parameters.set_float_parameter("gravity", 1.0)
    engine.set_configuration_parameters(time_scale=1e9)
    # At time scale 1 each step would last longer than the client waits.
    words = ("env=tests.toys:Oracle-v0", "kwargs.length=3", "kwargs.duration=1000", "agents=2")
    environment = start(*words, side_channels=[engine, parameters, stats])
    environment.reset()
    for _ in range(6):
        assert not stats.get_and_reset_stats()
        for _ in range(3):
            environment.step()
        assert dict(stats.get_and_reset_stats()) == {
            "steps": [(3.0, StatsAggregationMethod.AVERAGE)] * 2,
            "flag": [(1.0, StatsAggregationMethod.AVERAGE)] * 2,
        }


def test_reset_of_a_running_environment_begins_anew(start):
    environment = start("env=tests.toys:Oracle-v0", "kwargs.length=9")
    environment.reset()
    environment.step()
    environment.reset()
    decisions, closed = environment.get_steps("Oracle-v0?team=0")
    assert (len(decisions), len(closed), decisions.obs[0][0, 2]) == (1, 0, 0)


def test_a_late_behavior_joins(start):
    environment = start("env=tests.toys:Oracle-v0", "late=Guest:6")
    environment.reset()
    seen = []
    for _ in range(5):
        seen.append(len(environment.behavior_specs))
        environment.step()
    assert seen == [1, 1, 1, 2, 2]
    assert len(environment.get_steps("Guest?team=0")[0]) == 1


def test_a_player_that_was_started_apart_connects_once_someone_listens_and_leaves_with_status_0():
    from mlagents_envs.environment import UnityEnvironment

    port = free_port()
    command = [
        sys.executable,
        "-m",
        "envs.unity.python_player",
        "env=basic",
        "--mlagents-port",
        str(port),
        "-batchmode",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as player:
        assert "connects" in player.stdout.readline()
        environment = UnityEnvironment(None, base_port=port, timeout_wait=20)
        environment.reset()
        environment.step()
        environment.close()
        # mlagents-envs stops its server without waiting for the status that it has sent.
        assert re.search("ends, as .*(status 400|refused a message|connection is gone)", player.stdout.read())
    assert player.returncode == 0


@pytest.mark.parametrize(("fault", "steps", "status"), [("die:1", 0, 3), ("die:5", 1, 3)])
def test_a_player_whose_fault_is_to_die_is_gone_at_that_message(start, fault, steps, status):
    from mlagents_envs.exception import UnityEnvironmentException

    def play():
        environment = start("env=basic", f"fault={fault}")
        environment.reset()
        for step in range(10):
            environment.step()
            done.append(step)

    done = []
    with pytest.raises(UnityEnvironmentException, match=f"return code {status}"):
        play()
    assert len(done) == steps


def test_a_fault_that_is_wanted_once_is_the_first_players_alone(tmp_path):
    command = [
        sys.executable,
        "-m",
        "envs.unity.python_player",
        "env=basic",
        "fault=die:0",
        f"once={tmp_path / 'once'}",
    ]
    assert subprocess.run([*command, "--mlagents-port", "1"], check=False).returncode == 3
    second = subprocess.Popen([*command, "--mlagents-port", "1"], stdout=subprocess.PIPE, text=True)
    with second:
        assert "connects" in second.stdout.readline()
        second.kill()


def test_a_hanging_player_never_connects(tmp_path):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        words = ["env=basic", "fault=hang:0", "--mlagents-port", str(listening.getsockname()[1])]
        command = [sys.executable, "-m", "envs.unity.python_player", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as player:
            assert "hang" in player.stdout.readline()
            with pytest.raises(BlockingIOError):
                listening.accept()
            assert player.poll() is None
            player.kill()


def test_another_api_version_is_refused_by_mlagents(start):
    from mlagents_envs.exception import UnityEnvironmentException

    with pytest.raises(UnityEnvironmentException, match=r"Unity API: 0\.9\.0"):
        start("env=basic", "version=0.9.0")
