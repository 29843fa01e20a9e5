"""A policy in Python takes an environment's observations and gives its actions."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium import spaces

from algorithms.policy import make_policy
from envs.gym.adapter import GymAdapter, behavior_spec
from envs.gym.saved_spaces import space_to_dict
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from outstep.policy import Policy
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig

SMALL = ["env=gym", "env.id=CartPole-v1", "algorithm.network.hidden=[8]"]
EVERYTHING = spaces.Dict(
    {
        "vector": spaces.Box(-1, 1, (3,), np.float32),
        "choice": spaces.Discrete(4, start=2),
        "pair": spaces.Tuple([spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)]),
        "image": spaces.Box(0, 255, (12, 12, 3), np.uint8),
    }
)
ACTIONS = spaces.Dict({"move": spaces.Box(-2, 4, (2,), np.float32), "jump": spaces.Discrete(3, start=1)})


class Env:
    """Only spaces."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


def made(observation_space, action_space, *overrides, prepare_images=True, masked=False):
    """A policy that has learned nothing, and what drives an environment with it in training."""
    env = Env(observation_space, action_space)
    spec = behavior_spec(env, "b", masked, prepare_images)
    config = compose([*SMALL, *overrides], TrainConfig, "config")
    saved = {"observation": space_to_dict(observation_space), "action": space_to_dict(action_space)}
    return Policy(make_policy(spec, config.algorithm), config, saved), GymAdapter(env, spec)


def stacked(observations):
    first = observations[0]
    if isinstance(first, dict):
        return {key: stacked([each[key] for each in observations]) for key in first}
    if isinstance(first, tuple):
        return tuple(stacked([each[i] for each in observations]) for i in range(len(first)))
    return np.array(observations)


@pytest.mark.parametrize("prepare_images", [True, False])
def test_an_observation_is_read_as_in_training(prepare_images):
    policy, adapter = made(EVERYTHING, ACTIONS, prepare_images=prepare_images)
    EVERYTHING.seed(3)
    observation = EVERYTHING.sample()
    rows = tuple(np.zeros((1, *each.shape), each.dtype) for each in policy._spec.observations)
    adapter.observe(observation, tuple(row[0] for row in rows))
    nothing = np.zeros((1, 0), np.float32)
    acted = policy._policy.act(rows, np.ones((1, 0), bool), nothing, None, deterministic=True)
    expected = adapter.action(acted.continuous[0], acted.discrete[0])
    action, state = policy.predict(observation)
    assert state is None
    assert ACTIONS.contains(action)
    assert action["jump"] == expected["jump"]
    np.testing.assert_array_equal(action["move"], expected["move"])


def test_many_observations_give_the_same_as_one_after_another():
    policy, _ = made(EVERYTHING, ACTIONS)
    EVERYTHING.seed(3)
    observations = [EVERYTHING.sample() for _ in range(5)]
    actions, _ = policy.predict(stacked(observations))
    assert actions["move"].shape == (5, 2)
    alone = [policy.predict(each)[0] for each in observations]
    np.testing.assert_allclose(actions["move"], [each["move"] for each in alone], atol=1e-6)
    np.testing.assert_array_equal(actions["jump"], [each["jump"] for each in alone])


@pytest.mark.parametrize("space", [spaces.Discrete(4, start=2), spaces.Box(-1, 1, (), np.float32)])
def test_a_number_is_an_observation(space):
    policy, _ = made(space, spaces.Discrete(2))
    assert np.shape(policy.predict(2 if isinstance(space, spaces.Discrete) else 0.5)[0]) == ()
    assert policy.predict(np.full(3, space.sample()))[0].shape == (3,)


def test_a_mask_forbids_choices():
    policy, _ = made(spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([3, 2]), masked=True)
    for mask in ([False, False, True, True, False], ([0, 0, 1], [1, 0])):
        assert policy.predict(np.zeros(2), mask=mask)[0].tolist() == [2, 0]
    masks = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 1, 0]], bool)
    assert policy.predict(np.zeros((2, 2)), mask=masks)[0].tolist() == [[0, 1], [1, 0]]


def test_a_recurrent_state_goes_in_and_comes_out():
    policy, _ = made(spaces.Box(-1, 1, (2,)), spaces.Discrete(2), "algorithm.network.memory.cell=lstm")
    observations = np.random.default_rng(0).uniform(-1, 1, (3, 4, 2)).astype(np.float32)
    state = None
    for step in observations:
        _, state = policy.predict(step, state)
    assert state.shape == (4, policy.state_size)
    alone = None
    for step in observations:
        _, alone = policy.predict(step[1], alone)
    assert alone.shape == (policy.state_size,)
    np.testing.assert_allclose(alone, state[1], atol=1e-6)
    state[0] = 0  # an episode begins there
    np.testing.assert_allclose(policy.predict(observations[0], state)[1][0], policy.predict(observations[0])[1][0])


def test_actions_are_drawn_by_torchs_generator():
    policy, _ = made(spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,)))
    drawn = []
    for _ in range(2):
        torch.manual_seed(1)
        drawn.append([float(policy.predict(np.zeros(2), deterministic=False)[0][0]) for _ in range(3)])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 3


def test_a_behavior_without_spaces_takes_and_gives_its_parts():
    observations = (ObservationSpec("rays", (3,), "float32"), ObservationSpec("camera", (8, 8, 1), "uint8", 1 / 255))
    config = compose(SMALL, TrainConfig, "config")
    spec = BehaviorSpec("agent", observations, 2, (3, 2))
    policy = Policy(make_policy(spec, config.algorithm), config, None)
    action, _ = policy.predict({"rays": [0, 0.5, 1], "camera": np.zeros((8, 8, 1))})
    assert action["continuous"].shape == (2,)
    assert action["discrete"].shape == (2,)
    one = BehaviorSpec("agent", observations[:1], 0, (3,))
    assert Policy(make_policy(one, config.algorithm), config, None).predict(np.zeros(3))[0] in range(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"observation": np.zeros(3)},
            r"observation 'observation' has shape \[3\]; \[2\] is right, and \[N, 2\] for many",
        ),
        ({"observation": "left"}, r"observation 'observation' has shape \[\]; \[2\] is right"),
        ({"observation": np.full(2, np.nan)}, "where only finite numbers"),
        ({"observation": np.zeros(2), "mask": [1, 1, 1]}, "action_mask has 3 entries"),
        ({"observation": np.zeros(2), "mask": [0, 0]}, "action_mask allows nothing"),
        ({"observation": np.zeros((3, 2)), "mask": np.ones((2, 2))}, "mask of 2 observations: 3 of them need as many"),
        ({"observation": np.zeros(2), "state": np.zeros(3)}, r"state has shape \[3\]; \[\d+\] is right, or None"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    policy, _ = made(spaces.Box(-1, 1, (2,)), spaces.Discrete(2), "algorithm.network.memory.cell=gru", masked=True)
    with pytest.raises(UserError, match=message):
        policy.predict(**arguments)


def test_a_part_that_is_missing_is_named():
    policy, _ = made(EVERYTHING, ACTIONS)
    with pytest.raises(UserError, match="the observation lacks 'choice' of its space"):
        policy.predict({"vector": np.zeros(3)})
    observation = EVERYTHING.sample()
    with pytest.raises(UserError, match="the parts of the observation are not of one number"):
        policy.predict({**observation, "vector": np.zeros((2, 3))})


def test_a_policy_is_exported(tmp_path):
    policy, _ = made(spaces.Box(-1, 1, (2,)), spaces.Discrete(2))
    file = policy.export(tmp_path / "a.onnx")
    assert onnxruntime.InferenceSession(file).get_inputs()
    for name, message in (("a.pt", "name a file that ends in .onnx"), ("a.onnx/b.onnx", "cannot be written")):
        with pytest.raises(UserError, match=message):
            policy.export(tmp_path / name)
