import copy

import pytest
import torch
from torch.nn import functional as F

from algorithms.networks.mlp import Encoder, StackedMLP
from algorithms.settings import NetworkSettings
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


def separate(stack, x):
    """What the copies of a stack do, each by itself."""
    outputs = []
    for i in range(2):
        y = x
        *hidden, (weight, bias) = zip(stack.weights, stack.biases)
        for w, b in hidden:
            y = y @ w[i] + b[i]
            y = F.relu(F.layer_norm(y, y.shape[-1:]))
        outputs.append(weight[i] @ y.T + bias[i])
    return torch.stack(outputs)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("hidden", [[8, 7], [8], []])
def test_stacked_mlps_equal_separate_ones(hidden, outputs):
    torch.manual_seed(0)
    stack = StackedMLP(2, 6, hidden, outputs)
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
