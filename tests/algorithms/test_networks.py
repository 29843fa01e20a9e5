import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from algorithms.networks import Encoder, StackedMLP
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
    for copy in range(2):
        y = x
        for i, (weight, bias) in enumerate(zip(stack.weights, stack.biases)):
            y = y @ weight[copy] + bias[copy]
            if i < len(stack.weights) - 1:
                y = F.relu(F.layer_norm(y, y.shape[-1:]))
        outputs.append(y)
    return torch.stack(outputs)


@pytest.mark.parametrize("outputs", [1, 3, 12])
@pytest.mark.parametrize("hidden", [[8, 7], [8], []])
def test_stacked_mlps_and_their_gradients_equal_separate_ones(hidden, outputs):
    stack = StackedMLP(2, 6, hidden, outputs).double()
    for bias in stack.biases:
        torch.nn.init.normal_(bias)
    features, others = (torch.randn(5, size, dtype=torch.double, requires_grad=True) for size in (4, 2))
    ours, theirs = stack(features, others), separate(stack, torch.cat([features, others], dim=-1))
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours[0], ours[1])
    weights = torch.randn_like(ours)
    for asked in ([features, others, *stack.parameters()], [others], [*stack.parameters()]):
        gradients = (torch.autograd.grad((y * weights).sum(), asked, retain_graph=True) for y in (ours, theirs))
        for mine, expected in zip(*gradients):
            torch.testing.assert_close(mine, expected)


def test_stack_makes_no_gradient_that_nobody_asks_for():
    stack = StackedMLP(2, 6, [8, 7], 1).requires_grad_(False)
    features, others = torch.randn(5, 4), torch.randn(5, 2, requires_grad=True)
    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            made.append(tuple(result.shape) if isinstance(result, torch.Tensor) else None)
            return result

    outputs = stack(features, others)
    with Watch():
        torch.autograd.grad(outputs.sum(), others)
    assert not {(2, 6, 8), (2, 8, 7)} & {*made}, "weights"
    assert (2, 5, 2) in made
    assert (2, 5, 6) not in made, "what the others stand beside"
