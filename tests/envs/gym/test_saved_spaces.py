"""Gymnasium's spaces as JSON."""

import json

import numpy as np
import pytest
from gymnasium import spaces

from envs.gym.saved_spaces import space_from_dict, space_to_dict
from envs.spec import UserError


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (3,), np.float32),
        spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, np.inf]), dtype=np.float64),
        spaces.Box(0, 255, (4, 5, 3), np.uint8),
        spaces.Box(-1, 1, (), np.float32),
        spaces.Discrete(4, start=-2),
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [2, 3]]),
        spaces.MultiBinary((2, 3)),
        spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple([spaces.MultiBinary(3), spaces.Box(0, 1, (1,))])}),
    ],
)
def test_a_space_is_the_same_again(space):
    again = space_from_dict(json.loads(json.dumps(space_to_dict(space))))
    assert again == space
    if isinstance(space, spaces.Dict):
        assert list(again.spaces) == list(space.spaces)


def test_bounds_that_are_all_the_same_take_one_number():
    assert space_to_dict(spaces.Box(0, 255, (84, 84, 3), np.uint8))["high"] == 255


def test_a_space_of_another_kind_is_refused():
    with pytest.raises(UserError, match="Text"):
        space_to_dict(spaces.Text(3))
    with pytest.raises(ValueError, match="'Sphere' is no kind of space"):
        space_from_dict({"kind": "Sphere"})
