"""Actions of an environment's own, turned into rows of a spec."""

import numpy as np
import pytest
from gymnasium import spaces

from envs.gym.spaces import ActionCodec

SPACES = [
    spaces.Discrete(4),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([31, 2]),
    spaces.MultiDiscrete([2, 2], start=[5, -1]),
    spaces.MultiDiscrete([[2, 3], [4, 5]]),
    spaces.MultiBinary(3),
    spaces.Box(np.float32([-2, 0]), np.float32([2, 10])),
    spaces.Box(-9, 9, (2, 2), np.int64),
    spaces.Dict(
        aim=spaces.Box(np.float32([0, -2]), np.float32([1, 2])),
        pick=spaces.Tuple((spaces.Discrete(3, start=1), spaces.MultiBinary(2))),
    ),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_encode_is_the_inverse_of_decode(space):
    codec = ActionCodec(space)
    rng = np.random.default_rng(3)
    space.seed(5)
    for _ in range(30):
        action = space.sample()
        rows = codec.encode(action)
        assert [row.dtype for row in rows] == [np.float32, np.int32]
        again = codec.decode(*rows)
        for mine, theirs in zip(spaces.flatten(space, again), spaces.flatten(space, action)):
            assert mine == pytest.approx(theirs, abs=1e-5)
        discrete = np.array([rng.integers(n) for n in codec.branches], np.int32)
        np.testing.assert_array_equal(codec.encode(codec.decode(rows[0], discrete))[1], discrete)


def test_continuous_actions_are_scaled_to_their_bounds_and_clipped():
    codec = ActionCodec(spaces.Box(np.float32([-2, 3]), np.float32([2, 3])))
    assert codec.encode([1.0, 3.0])[0].tolist() == [0.5, 0.0]
    assert codec.encode([9.0, 3.0])[0].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("space", "action", "message"),
    [
        (spaces.Discrete(3), 3, "the action space takes 0..2, not 3"),
        (spaces.Discrete(3), 1.5, "the action space takes 0..2, not 1.5"),
        (spaces.Discrete(3, start=2), 1, "takes 2..4, not 1"),
        (spaces.MultiDiscrete([31, 2]), [31, 0], r"takes 0..30 and 0..1, not \[31, 0\]"),
        (spaces.MultiDiscrete([31, 2]), 4, "takes 0..30 and 0..1, not 4"),
        (spaces.Box(0, 1, (2,)), [0.5], r"takes 2 finite numbers, not \[0.5\]"),
        (spaces.Box(0, 1, (1,)), [float("nan")], r"takes 1 finite numbers, not \[nan\]"),
        (spaces.Dict(a=spaces.Discrete(2)), {"b": 1}, r"parts \(KeyError\('a'\)\)"),
        (spaces.Tuple((spaces.Discrete(2),)), 1, "parts"),
        (spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))), (1, 7), r"action space\[1\] takes 0..2, not 7"),
    ],
)
def test_what_is_no_action_of_the_space_is_refused(space, action, message):
    with pytest.raises(ValueError, match=message):
        ActionCodec(space).encode(action)
