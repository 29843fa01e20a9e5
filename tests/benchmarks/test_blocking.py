import pickle

import pytest

from benchmarks.blocking import BlockingInstance
from benchmarks.laws import durations
from benchmarks.supply import Span
from envs.gym.adapter import GymEnv
from envs.seeding import episode_seed

LAW = GymEnv("benchmarks.laws:StepLaw-v0", {"law": "lognormal"}, time_scale=1e6)


def test_instance_draws_the_durations_that_ours_draws():
    env = pickle.loads(pickle.dumps(BlockingInstance(LAW, seed=3, index=2, waits=True)))()
    expected = durations("lognormal", episode_seed(3, 2, 0))
    env.reset(seed=99)
    drawn = []
    for _ in range(450):  # two episodes and a half
        _, _, terminated, truncated, info = env.step(0)
        drawn.append(info["duration"])
        if terminated or truncated:
            env.reset()
    assert drawn == [next(expected) for _ in drawn]


def test_episodes_are_seeded_by_instance_and_episode():
    env = BlockingInstance(GymEnv("CartPole-v1", time_scale=0.0), seed=3, index=2, waits=False)()
    plain = GymEnv("CartPole-v1", time_scale=0.0).make()
    for episode in range(3):
        seen, _ = env.reset(seed=7)
        assert seen.tolist() == plain.reset(seed=episode_seed(3, 2, episode))[0].tolist()


def test_round_span_counts_steps_after_the_first_and_their_scaled_durations():
    env = BlockingInstance(LAW, seed=0, index=0, waits=True)()
    env.reset()
    env.step(0)
    env.get_wrapper_attr("begin_round")()
    drawn = [env.step(0)[4]["duration"] for _ in range(4)]
    samples, seconds, total = env.get_wrapper_attr("round_span")()
    assert samples == 3
    assert total == pytest.approx(sum(drawn[1:]) / 1e6)
    assert seconds > 0
    env.get_wrapper_attr("begin_round")()
    assert env.get_wrapper_attr("round_span")() == Span(0, 0.0, 0.0)
