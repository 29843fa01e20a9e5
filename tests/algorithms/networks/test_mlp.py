import copy

import pytest
import torch
from torch.nn import functional as F

from algorithms.networks.inputs import Encoder
from algorithms.networks.mlp import MLP, StackedMLP
from algorithms.settings import Activation, NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec


def observation(*shape, dtype="uint8", scale=1.0):
    return ObservationSpec("o", shape, dtype, scale)


def test_encoder_joins_the_vector_and_all_images():
    spec = BehaviorSpec("b", (observation(5, dtype="float32"), observation(3, 24, 24), observation(20, 20, 1)), 1)
    encoder = Encoder(spec, NetworkSettings())
    inputs = [torch.ones(2, 5), torch.zeros(2, 3, 24, 24), torch.zeros(2, 20, 20, 1)]
    features = encoder(inputs)
    assert features.shape == (2, encoder.features)
    assert (features[:, :5] == 1).all()


def applied(activation, x):
    return {"relu": x.clamp(min=0), "silu": x / (1 + (-x).exp()), "tanh": 1 - 2 / (1 + (2 * x).exp())}[activation.name]


EVERY = pytest.mark.parametrize("activation", list(Activation))


@EVERY
def test_every_hidden_layer_is_followed_by_the_activation(activation):
    torch.manual_seed(0)
    mlp, x = MLP(6, [8, 7], activation), torch.randn(5, 6)
    expected = x
    for layer in mlp.layers:
        expected = applied(activation, expected @ layer.weight.T + layer.bias)
    torch.testing.assert_close(mlp(x), expected)


def separate(stack, x):
    """What the copies of a stack do, each by itself."""
    outputs = []
    for i in range(2):
        y = x
        *hidden, (weight, bias) = zip(stack.weights, stack.biases)
        for w, b in hidden:
            y = y @ w[i] + b[i]
            y = applied(stack.activation, F.layer_norm(y, y.shape[-1:]))
        outputs.append(weight[i] @ y.T + bias[i])
    return torch.stack(outputs)


@EVERY
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("hidden", [[8, 7], [8], []])
def test_stacked_mlps_equal_separate_ones(hidden, outputs, activation):
    torch.manual_seed(0)
    stack = StackedMLP(2, 6, hidden, outputs, activation)
    for bias in stack.biases:
        torch.nn.init.normal_(bias)
    x = torch.randn(5, 6)
    torch.testing.assert_close(stack(x), separate(stack, x))
    assert not torch.allclose(stack(x)[0], stack(x)[1])


def test_a_copied_stack_goes_through_its_own_parameters():
    stack = StackedMLP(2, 6, [8], 1)
    copied, x = copy.deepcopy(stack), torch.randn(5, 6)
    before = stack(x)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(1)
    assert torch.equal(stack(x), before)
    torch.testing.assert_close(copied(x), separate(copied, x))
