"""Passes whose gradients are written by hand, against the networks themselves and autograd."""

import pytest
import torch
from torch import nn

from algorithms.networks.distributions import SquashedGaussian
from algorithms.networks.mlp import MLP, StackedMLP
from algorithms.ops.manual_grad import DensePass, SquashedPass, StackedPass
from algorithms.ops.matmul import _has_one_dnn, prefers_one_dnn
from algorithms.settings import Activation

EVERY_ACTIVATION = pytest.mark.parametrize("activation", list(Activation))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def by_autograd(outputs, weights, asked):
    return torch.autograd.grad((outputs * weights).sum(), asked)


@EVERY_ACTIVATION
@pytest.mark.parametrize("learned", [5, 3])
@pytest.mark.parametrize("hidden", [[8, 7], [8], []])
def test_dense_layers_and_their_gradients_from_the_first_rows(hidden, learned, activation):
    trunk = MLP(6, hidden, activation).double()
    head, x = nn.Linear(trunk.features, 4).double(), torch.randn(5, 6).double()
    expected, weights = head(trunk(x)), torch.randn(learned, 4).double()
    with torch.no_grad():
        done = DensePass(trunk, head, x)
        gradients = done.gradients(weights)
    torch.testing.assert_close(done.outputs, expected)
    asked = [*trunk.parameters(), *head.parameters()]
    for mine, theirs in zip(gradients, by_autograd(expected[:learned], weights, asked), strict=True):
        torch.testing.assert_close(mine, theirs)


@EVERY_ACTIVATION
def test_large_products_and_their_gradients_equal_those_of_torchs_own_layers(activation):
    trunk, head, x = MLP(168, [168, 170], activation), nn.Linear(170, 150), torch.randn(320, 168)
    assert all(prefers_one_dnn(x, layer.weight) for layer in trunk.layers) == _has_one_dnn()
    expected, weights = head(trunk(x)), torch.randn(320, 150)
    with torch.no_grad():
        done = DensePass(trunk, head, x)
        gradients = done.gradients(weights)
    torch.testing.assert_close(done.outputs, expected, atol=1e-4, rtol=1e-4)
    asked = [*trunk.parameters(), *head.parameters()]
    for mine, theirs in zip(gradients, by_autograd(expected, weights, asked), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


@EVERY_ACTIVATION
@pytest.mark.parametrize("evaluates", [True, False])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("hidden", [[8, 7], [8], [7, 8], []])
def test_stacked_layers_give_evaluated_inputs_a_gradient_and_parameters_that_of_the_others(
    hidden, outputs, evaluates, activation
):
    stack = StackedMLP(2, 6, hidden, outputs, activation).double()
    for bias in stack.biases:
        nn.init.normal_(bias)
    features, others, evaluated = (torch.randn(5, size).double() for size in (4, 2, 2))
    evaluated.requires_grad_()
    q, evaluated_q = (stack(torch.cat([features, x], dim=-1)) for x in (others, evaluated))
    of_q, of_evaluated_q = torch.randn_like(q), torch.randn_like(q)
    with torch.no_grad():
        done = StackedPass(stack, features, others, evaluated if evaluates else None)
        of_evaluated, of_parameters = done.gradients(of_q, of_evaluated_q if evaluates else None)
    torch.testing.assert_close(done.outputs, q)
    for mine, theirs in zip(of_parameters, by_autograd(q, of_q, [*stack.parameters()]), strict=True):
        torch.testing.assert_close(mine, theirs)
    if evaluates:
        torch.testing.assert_close(done.evaluated, evaluated_q)
        torch.testing.assert_close(of_evaluated, *by_autograd(evaluated_q, of_evaluated_q, [evaluated]))
    else:
        assert done.evaluated is None
        assert of_evaluated is None


@pytest.mark.parametrize("learned", [5, 3])
def test_squashed_actions_and_their_gradients_from_the_first_rows(learned):
    mean, log_std = (torch.randn(5, 2).double().requires_grad_() for _ in range(2))
    noise, of_actions, of_log_prob = torch.randn(5, 2).double(), torch.randn(learned, 2), torch.randn(learned)
    of_actions, of_log_prob = of_actions.double(), of_log_prob.double()
    distribution = SquashedGaussian(mean, log_std)
    actions, log_prob = distribution.actions(noise)
    with torch.no_grad():
        done = SquashedPass(distribution, noise)
        gradients = done.gradients(of_actions, of_log_prob)
    torch.testing.assert_close(done.actions, actions)
    torch.testing.assert_close(done.log_prob, log_prob)
    loss = (actions[:learned] * of_actions).sum() + log_prob[:learned] @ of_log_prob
    for mine, theirs in zip(gradients, torch.autograd.grad(loss, [mean, log_std]), strict=True):
        torch.testing.assert_close(mine, theirs[:learned])
