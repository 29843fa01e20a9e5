"""Our player under mlagents-envs' own UnityEnvironment."""

import socket

import numpy as np
import pytest

import envs.unity.messages  # noqa: F401 - before mlagents_envs
from envs.gymnasium import GymEnv, behavior_spec
from envs.seeding import episode_seed
from envs.spaces import ActionCodec, follow, observation_parts
from envs.unity.player import write_launcher

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
                theirs = theirs.transpose(1, 2, 0)  # images are sent with their channels last
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
    terminated, truncated = play(start(word, f"agents={agents}"), recipe, agents, steps)
    expected = {"Basic-v0": (1, 0), "Pendulum-v1": (0, 1), "Oracle-v0": (1, 1), "Hybrid-v0": (1, 1)}.get(
        recipe.behavior, (0, 0)
    )
    assert (terminated > 0, truncated > 0) == tuple(map(bool, expected))
