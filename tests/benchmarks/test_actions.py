import gymnasium
import numpy as np
import pytest

from benchmarks.actions import RandomActions, discrete_branches
from envs.spec import UserError


def test_actions_of_an_instance_do_not_depend_on_who_else_asks():
    together, apart = RandomActions((31, 2), 3, seed=5), RandomActions((31, 2), 3, seed=5)
    expected = np.stack([together.take(np.arange(3)) for _ in range(50)])  # (step, instance, branch)
    for step in range(50):
        assert np.array_equal(apart.take(np.array([2]))[0], expected[step, 2])
    for step in range(50):
        assert np.array_equal(apart.take(np.array([1, 0])), expected[step, [1, 0]])


def test_actions_use_every_choice_and_differ_between_instances_and_seeds():
    actions = RandomActions((3, 2), 2, seed=0)
    drawn = np.stack([actions.take(np.arange(2)) for _ in range(200)])
    assert set(drawn[..., 0].ravel()) == {0, 1, 2}
    assert set(drawn[..., 1].ravel()) == {0, 1}
    assert not np.array_equal(drawn[:, 0], drawn[:, 1])
    other = RandomActions((3, 2), 2, seed=1)
    assert not np.array_equal(drawn, np.stack([other.take(np.arange(2)) for _ in range(200)]))


def test_branches_of_discrete_spaces():
    assert discrete_branches(gymnasium.spaces.Discrete(4)) == (4,)
    assert discrete_branches(gymnasium.spaces.MultiDiscrete([31, 2])) == (31, 2)


@pytest.mark.parametrize("space", [gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(4, start=1)])
def test_other_spaces_are_refused(space):
    with pytest.raises(UserError, match="Discrete"):
        discrete_branches(space)
