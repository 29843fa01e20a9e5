"""What agents remember: kept by agent, from its episode's first step to its last, and stored with its rows."""

import numpy as np
import pytest
import torch

from algorithms.policy import Policy
from tests.trainer.wanderers import SPEC, Wanderers, network

CELLS = pytest.mark.parametrize("cell", ["lstm", "gru"])


def remembered(policy, observations):
    """(T, R): the memory before each step of an episode, one step after another."""
    memory = torch.zeros(1, policy.state_size)
    found = []
    for seen in torch.from_numpy(observations):
        found.append(memory[0].numpy())
        with torch.no_grad():
            _, memory = policy.features(policy.prepare([seen[None]]), memory)
    return np.stack(found)


@CELLS
def test_memories_of_agents_that_take_turns_in_one_instance_never_mix(cell):
    policy = Policy(SPEC, network(cell), "ppo")
    wanderers = Wanderers(policy)
    for turn in range(300):
        wanderers.turn(*[turn // 100] * (turn % 100 == 50))
    episodes = wanderers.episodes()
    whole = 0
    for numbers in episodes:
        observations, memory, position = wanderers.rows.gather(
            np.array(numbers), ("observation_0", "memory", "position")
        )
        np.testing.assert_allclose(memory, remembered(policy, observations), atol=1e-5)
        whole += len(numbers) > 8
        steps = len(numbers) - (position[-1] == 0 and len(numbers) > 1)  # the last observation is no step
        assert position[:steps].tolist() == list(range(steps))
    assert whole > 10


def test_a_lost_agent_begins_anew_with_an_empty_memory():
    policy = Policy(SPEC, network("lstm"), "ppo")
    wanderers = Wanderers(policy)
    for _ in range(20):
        wanderers.turn()
    assert wanderers.channel.state()["memories"][2] != [0] * 10
    wanderers.turn(2)
    numbers = wanderers.rows.head
    while 2 not in wanderers.rows.gather(np.arange(numbers + 1, wanderers.rows.head + 1), ("agent",))[0]:
        wanderers.turn()
    new = np.arange(numbers + 1, wanderers.rows.head + 1)
    agent, memory, position = wanderers.rows.gather(new, ("agent", "memory", "position"))
    first = np.flatnonzero(agent == 2)[0]
    assert position[first] == 0
    assert not memory[first].any()


def test_a_channel_goes_on_with_the_memories_that_it_saved():
    policy = Policy(SPEC, network("gru"), "ppo")
    one, other = Wanderers(policy), Wanderers(policy)
    for _ in range(10):
        one.turn()
    other.channel.load_state(one.channel.state())
    assert other.channel.state()["memories"][: len(one.channel.state()["memories"])] == one.channel.state()["memories"]


def test_without_memory_nothing_is_stored():
    policy = Policy(SPEC, network("none"), "ppo")
    assert policy.state_size == 0
    wanderers = Wanderers(policy)
    for _ in range(20):
        wanderers.turn()
    assert not {"memory", "position"} & wanderers.rows.fields.keys()
