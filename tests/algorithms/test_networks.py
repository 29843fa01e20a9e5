import torch
from torch.nn import functional as F

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


def test_stacked_mlps_equal_separate_ones():
    stack = StackedMLP(2, 6, [8, 7], 3)
    x = torch.randn(5, 6)
    outputs = stack(x)
    for copy in range(2):
        y = x
        for i, (weight, bias) in enumerate(zip(stack.weights, stack.biases)):
            y = y @ weight[copy] + bias[copy]
            if i < 2:
                y = F.relu(F.layer_norm(y, y.shape[-1:]))
        torch.testing.assert_close(outputs[copy], y)
    assert not torch.allclose(outputs[0], outputs[1])
