import numpy as np
import pytest
import torch

from algorithms.returns import accumulate_backward, estimate_returns, n_step_returns


def tensor(*values):
    return torch.tensor(values)


def test_gae_of_a_hand_computed_episode():
    # discount 0.5, lambda 0.5; deltas: 1 + 0.5*2 - 1 = 1, 0 + 0.5*4 - 2 = 0, 3 + 0 - 4 = -1 (terminated)
    linked = torch.tensor([True, True, False])
    advantages, targets = estimate_returns(
        tensor(1.0, 0.0, 3.0), tensor(1.0, 2.0, 4.0), tensor(2.0, 4.0, 0.0), linked, torch.ones(3), 0.5, 0.5
    )
    torch.testing.assert_close(advantages, tensor(1 - 0.0625, -0.25, -1.0))
    torch.testing.assert_close(targets, tensor(1.9375, 1.75, 3.0))


def test_vtrace_of_a_hand_computed_episode():
    # Deltas as above, weights 0.5, 1, 0.25. Corrections, from behind: -0.25; 0 + 0.25*1*-0.25 = -0.0625;
    # 0.5*1 + 0.25*0.5*-0.0625 = 0.4921875. Advantages: delta + 0.25 * the next correction.
    linked = torch.tensor([True, True, False])
    weights = tensor(0.5, 1.0, 0.25)
    advantages, targets = estimate_returns(
        tensor(1.0, 0.0, 3.0), tensor(1.0, 2.0, 4.0), tensor(2.0, 4.0, 0.0), linked, weights, 0.5, 0.5
    )
    torch.testing.assert_close(targets, tensor(1.4921875, 1.9375, 3.75))
    torch.testing.assert_close(advantages, tensor(1 - 0.015625, -0.0625, -1.0))


def test_on_fresh_data_targets_are_values_plus_advantages():
    generator = torch.Generator().manual_seed(0)
    rewards, values, following = torch.randn(3, 40, generator=generator)
    linked = torch.rand(40, generator=generator) < 0.8
    advantages, targets = estimate_returns(rewards, values, following, linked, torch.ones(40), 0.9, 0.95)
    torch.testing.assert_close(targets, values + advantages)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
def test_rounds_over_the_whole_vector_equal_the_recursion_row_by_row(size):
    rng = np.random.default_rng(size)
    values, decay = rng.normal(size=size), 0.99 * (rng.random(size) < 0.9)
    decay[-1] = 0
    expected, total = np.zeros(size), 0.0
    for i in reversed(range(size)):
        total = values[i] + decay[i] * total
        expected[i] = total
    ours = accumulate_backward(torch.from_numpy(values), torch.from_numpy(decay))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-10)


def test_segments_do_not_leak_into_each_other():
    values, linked = torch.ones(4), torch.tensor([True, False, True, False])
    _, targets = estimate_returns(values, torch.zeros(4), torch.zeros(4), linked, torch.ones(4), 0.5, 1.0)
    torch.testing.assert_close(targets, tensor(1.5, 1.0, 1.5, 1.0))


def test_n_step_return_of_hand_computed_walks():
    rewards = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 0.0]])
    torch.testing.assert_close(n_step_returns(rewards, tensor(1.0, 0.5, 0.25)), tensor(3.0, 2.0))
    # Of several steps, each with two.
    torch.testing.assert_close(n_step_returns(rewards, tensor(1.0, 0.5)), tensor(2.0, 4.0, 2.0, 2.0))
