"""Batched environments: what they say is told as if each instance were alone."""

from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest

from envs.api import InstanceFailed, Setup
from envs.gym.probe import random_action
from envs.spec import UserError
from envs.vector.config import VectorConfig
from tests.envs.playing import Playing
from tests.toys import oracle_length, oracle_truncates

NO_ENVPOOL = find_spec("envpool") is None


def manager(tmp_path, vector, instances=6, **settings):
    config = VectorConfig(vector=vector, instances=instances, **settings)
    config.check()
    return config.make_manager(Setup(3, tmp_path))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("mode", ["same_step", "next_step"])
def test_every_step_is_a_sample_and_every_end_has_its_own_last_observation(tmp_path, mode, workers):
    with manager(tmp_path, f"tests.batches:{mode}", workers=workers) as games:
        assert list(games.start()) == [mode]
        playing = Playing(games)
        while min(games.begun) < 15:
            playing.turn()
        assert games.samples.sum() == len(playing.log)
    open_, ends = {}, Counter()
    for instance, _, agent, (high, low, step, last, action), reward, *over, final, metrics in playing.log:
        assert instance == agent
        seed = int(high) * 65536 + int(low)
        before = open_.get(agent)
        if before is not None:  # the same episode goes on, or the next one begins
            assert (seed, step, last) == before
        assert reward == 100 * (step + 1) + action
        ended = step + 1 == oracle_length(seed)
        assert over == [ended and not oracle_truncates(seed), ended and oracle_truncates(seed)]
        assert metrics == ({"steps": step + 1, "flag": 1.0} if ended else None)
        assert final == ([high, low, step + 1, action] if over[1] else None)
        ends[tuple(over)] += 1
        open_[agent] = (seed + 17, 0, -1) if ended else (seed, step + 1, action)
    assert ends[True, False] > 10
    assert ends[False, True] > 10


def test_a_batch_that_breaks_is_begun_again_and_named(tmp_path):
    with manager(tmp_path, "tests.batches:broken", restarts=1, instances=2) as games:
        games.start()
        playing = Playing(games)
        with pytest.raises(InstanceFailed, match="the batch broke"):
            [playing.turn() for _ in range(1000)]
        assert sum(playing.lost.values()) >= 2


def test_observations_of_several_parts_are_taken_one_by_one(tmp_path):
    with manager(tmp_path, "tests.batches:mixed", instances=3) as games:
        (spec,) = games.start().values()
        rng = np.random.default_rng(0)
        while games.samples.sum() < 60:
            for name, said in games.recv(100.0).items():
                assert not len(said.lost), "an action that the mask forbids ends it"
                asked = said.decisions
                assert [each.shape[1:] for each in asked.observations] == [o.shape for o in spec.observations]
                actions = [random_action(spec, mask, rng) for mask in asked.mask]
                games.send(name, asked.agent, *(np.stack(rows) for rows in zip(*actions)))


@pytest.mark.parametrize(
    ("vector", "settings", "message"),
    [
        ("tests.batches:disabled", {}, "its autoreset mode is .*: instances that end must be reset"),
        ("tests.batches:too_few", {"instances": 4}, "makes 1 instances, and num_envs=2 were asked for"),
        ("tests.batches:nothing", {}, "module tests.batches has no nothing"),
        ("tests.toys:oracle_length", {}, "env.kwargs.* cannot be made"),
        ("gymnasium:CartPol-v1", {}, "Unknown environment id 'CartPol-v1'"),
        ("gymnasium:CartPole-v1", {"batch": 3}, "env.batch=3 is for EnvPool"),
    ],
)
def test_what_does_not_fit_is_one_message(tmp_path, vector, settings, message):
    with pytest.raises(UserError, match=message):
        manager(tmp_path, vector, **settings).start()


@pytest.mark.parametrize(
    "vector", ["gymnasium:CartPole-v1", pytest.param("envpool:CartPole-v1", marks=pytest.mark.extras)]
)
def test_cartpole_of_both_libraries_ends_where_it_should(tmp_path, vector):
    if vector.startswith("envpool") and NO_ENVPOOL:
        pytest.skip("envpool is not installed")
    with manager(tmp_path, vector, instances=8) as games:
        assert list(games.start()) == ["CartPole-v1"]
        length, lengths = Counter(), []
        while len(lengths) < 40:
            for name, said in games.recv(100.0).items():
                for agent, ended, reward in zip(said.results.agent, said.results.terminated, said.results.reward):
                    length[agent] += 1
                    assert reward == 1
                    if ended:
                        lengths.append(length.pop(agent))
                new = ~np.isin(said.decisions.agent, list(length))
                assert (np.abs(said.decisions.observations[0][new]) <= 0.05).all(), "an episode begins upright"
                count = len(said.decisions.agent)
                games.send(name, said.decisions.agent, np.zeros((count, 0), np.float32), np.ones((count, 1), np.int32))
    assert set(lengths) <= set(range(8, 12)), "pushed to one side it falls in 8 to 11 steps"


@pytest.mark.extras
@pytest.mark.skipif(NO_ENVPOOL, reason="envpool is not installed")
def test_of_envpool_those_are_taken_that_are_done_first(tmp_path):
    with manager(tmp_path, "envpool:CartPole-v1", instances=8, batch=2) as games:
        games.start()
        sizes = Counter()
        for _ in range(30):
            for name, said in games.recv(100.0).items():
                count = len(said.decisions.agent)
                sizes[count] += 1
                games.send(name, said.decisions.agent, np.zeros((count, 0), np.float32), np.ones((count, 1), np.int32))
    assert min(sizes) <= 2
