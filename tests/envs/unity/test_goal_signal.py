import torch

from algorithms.policy import Policy
from algorithms.settings import NetworkSettings
from tests.envs.unity.protocol.test_decoding import BEHAVIOR, add_agent, decode, floats, unity_message

from envs.unity.protocol.decoding import Decoder  # isort: skip

GOAL_SIGNAL = 1
"""As mlagents-envs' ObservationTypeProto numbers it."""


def goal(values):
    observation = floats(values, "goal")
    observation.observation_type = GOAL_SIGNAL
    return observation


def test_a_goal_signal_is_an_input_like_any_other():
    built = unity_message(continuous=2)
    add_agent(built, floats([1, 2, 3]), goal([0, 1]), id=7)
    add_agent(built, floats([4, 5, 6]), goal([1, 0]), id=8)
    decoder = Decoder()
    agents = decode(built, decoder)[BEHAVIOR]
    assert sorted(x.tolist() for x in agents.observations) == [[[0, 1], [1, 0]], [[1, 2, 3], [4, 5, 6]]]

    spec = decoder.specs["Runner"]
    assert {o.name: o.shape for o in spec.observations} == {"goal": (2,), "sensor": (3,)}
    policy = Policy(spec, NetworkSettings([8]), "ppo")
    inputs = policy.prepare([torch.from_numpy(x) for x in agents.observations])
    assert len(inputs) == 1
    assert sorted(inputs[0][0].tolist()) == [0, 1, 1, 2, 3]
    first, second = policy.encoder(inputs)
    assert (first != second).any()
