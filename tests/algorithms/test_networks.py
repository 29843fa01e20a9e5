import pytest
import torch
from torch.nn import functional as F

from algorithms.networks import Encoder, ImageEncoder, StackedMLP, is_image
from envs.spec import BehaviorSpec, ObservationSpec


def observation(*shape, dtype="uint8", scale=1.0):
    return ObservationSpec("o", shape, dtype, scale)


@pytest.mark.parametrize(
    ("shape", "image"),
    [((3, 20, 20), True), ((84, 84, 3), True), ((3, 19, 40), False), ((3, 10, 8), False), ((30, 30), False)],
)
def test_images_are_told_by_their_shape(shape, image):
    assert is_image(observation(*shape)) is image


@pytest.mark.parametrize("shape", [(3, 20, 20), (21, 37, 3), (1, 84, 84), (20, 20, 20)])
def test_image_of_any_size_above_the_smallest_passes(shape):
    encoder = ImageEncoder(observation(*shape))
    assert encoder(torch.zeros(2, *shape, dtype=torch.uint8)).shape == (2, encoder.features)


def test_both_channel_orders_give_the_same_features():
    first, last = ImageEncoder(observation(3, 24, 30)), ImageEncoder(observation(24, 30, 3))
    last.load_state_dict(first.state_dict())
    image = torch.randint(0, 256, (2, 3, 24, 30), dtype=torch.uint8)
    torch.testing.assert_close(first(image), last(image.permute(0, 2, 3, 1)))


def test_image_is_multiplied_by_its_scale():
    raw, scaled = ImageEncoder(observation(3, 24, 30)), ImageEncoder(observation(3, 24, 30, scale=0.5))
    scaled.load_state_dict(raw.state_dict())
    image = torch.full((1, 3, 24, 30), 8, dtype=torch.uint8)
    torch.testing.assert_close(scaled(image), raw(image // 2))


def test_encoder_joins_the_vector_and_all_images():
    spec = BehaviorSpec("b", (observation(5, dtype="float32"), observation(3, 24, 24), observation(20, 20, 1)), 1)
    encoder = Encoder(spec)
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
