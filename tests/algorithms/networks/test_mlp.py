import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from algorithms.networks.mlp import MLP, Encoder, StackedMLP
from algorithms.ops.matmul import _has_one_dnn, prefers_one_dnn
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


def test_large_products_and_their_gradients_equal_those_of_torchs_own_layers():
    torch.manual_seed(0)
    network = MLP(168, [168, 170])
    x = torch.randn(320, 168, requires_grad=True)
    assert all(prefers_one_dnn(x, layer.weight) for layer in network.layers) == _has_one_dnn()
    asked, weights = [x, *network.parameters()], torch.randn(320, 170)
    ours, theirs = network(x), network.plain(x)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    gradients = (torch.autograd.grad((y * weights).sum(), asked) for y in (ours, theirs))
    for mine, expected in zip(*gradients):
        torch.testing.assert_close(mine, expected, atol=1e-3, rtol=1e-3)


def separate(stack, x):
    """What the copies of a stack do, each by itself."""
    outputs = []
    for copy in range(2):
        y = x
        *hidden, (weight, bias) = zip(stack.weights, stack.biases)
        for w, b in hidden:
            y = y @ w[copy] + b[copy]
            y = F.relu(F.layer_norm(y, y.shape[-1:]))
        outputs.append(weight[copy] @ y.T + bias[copy])
    return torch.stack(outputs)


def random_stack(hidden, outputs):
    stack = StackedMLP(2, 6, hidden, outputs).double()
    for bias in stack.biases:
        torch.nn.init.normal_(bias)
    return stack, *(torch.randn(5, size, dtype=torch.double, requires_grad=True) for size in (4, 2, 2))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("hidden", [[8, 7], [8], []])
def test_stacked_mlps_and_their_gradients_equal_separate_ones(hidden, outputs):
    stack, features, others, _ = random_stack(hidden, outputs)
    (ours, _), theirs = stack(features, others), separate(stack, torch.cat([features, others], dim=-1))
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours[0], ours[1])
    weights = torch.randn_like(ours)
    for asked in ([features, others, *stack.parameters()], [others], [*stack.parameters()]):
        gradients = (torch.autograd.grad((y * weights).sum(), asked, retain_graph=True) for y in (ours, theirs))
        for mine, expected in zip(*gradients):
            torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("hidden", [[8, 7], [8], []])
def test_what_is_judged_beside_gets_the_gradient_of_what_it_is_worth_and_nothing_else_does(hidden, outputs):
    stack, features, others, judged = random_stack(hidden, outputs)
    both = torch.cat(stack(features, others, judged), dim=-1)
    taken = separate(stack, torch.cat([features, others], dim=-1))
    worth = separate(stack, torch.cat([features, judged], dim=-1))
    torch.testing.assert_close(both, torch.cat([taken, worth], dim=-1))
    weights, of_worth = torch.randn_like(taken), torch.randn_like(worth)
    asked = [features, others, *stack.parameters(), judged]
    ours = torch.autograd.grad((both * torch.cat([weights, of_worth], dim=-1)).sum(), asked)
    expected = torch.autograd.grad((taken * weights).sum(), asked[:-1], retain_graph=True)
    expected += torch.autograd.grad((worth * of_worth).sum(), [judged])
    for mine, theirs in zip(ours, expected):
        torch.testing.assert_close(mine, theirs)


def test_stack_makes_no_gradient_that_nobody_asks_for():
    stack, features, others, judged = random_stack([8, 7], 1)
    stack.requires_grad_(False)
    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            made.append(tuple(result.shape) if isinstance(result, torch.Tensor) else None)
            return result

    _, worth = stack(features.detach(), others.detach(), judged)
    with Watch():
        torch.autograd.grad(worth.sum(), judged)
    assert not {(2, 6, 8), (2, 8, 7)} & {*made}, "weights"
    assert (2, 5, 2) in made
    assert not {(2, 5, 6), (2, 10, 6), (2, 10, 2)} & {*made}, "what it stands beside, and what was done"
