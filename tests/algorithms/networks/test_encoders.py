import pytest
import torch
from torch import nn

from algorithms.networks.encoders import ImageEncoder, is_image
from algorithms.networks.inputs import Encoder
from algorithms.onnx.build import build_model
from algorithms.policy import Policy
from algorithms.rewards.gail import Discriminator
from algorithms.rewards.settings import GAILSettings
from algorithms.sac.critic import Critic
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec, UserError

SIMPLE, NATURE, IMPALA = "simple", "nature", "impala"


def observation(*shape, dtype="uint8", scale=1.0):
    return ObservationSpec("o", shape, dtype, scale)


def encoder_of(kind, *shape, scale=1.0):
    torch.manual_seed(0)
    return ImageEncoder(observation(*shape, scale=scale), kind)


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((3, 20, 20), True),
        ((84, 84, 3), True),
        ((3, 5, 40), True),
        ((10, 10, 4), True),
        ((4, 8, 3), False),
        ((30, 30), False),
        ((2, 3, 30, 30), False),
    ],
)
def test_images_are_told_by_their_shape(shape, image):
    assert is_image(observation(*shape), NetworkSettings()) is image


def test_small_images_are_flattened_where_that_is_asked_for():
    settings = NetworkSettings(flatten_below=20)
    assert not is_image(observation(3, 19, 40), settings)
    assert is_image(observation(3, 20, 20), settings)
    assert is_image(observation(3, 10, 8), NetworkSettings(encoder=IMPALA, flatten_below=20))


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((3, 84, 84), True),
        ((84, 84, 3), False),
        ((3, 40, 8), True),
        ((40, 30, 8), False),
        ((10, 10, 16), False),
        ((16, 10, 10), True),
        ((10, 10, 10), False),
    ],
)
def test_the_channels_of_an_image_are_told_by_its_shape(shape, first):
    encoder = ImageEncoder(observation(*shape), SIMPLE)
    assert encoder.shape == (shape if first else (shape[2], *shape[:2]))
    assert encoder.permutes is not first


def test_images_of_minatar_go_through_two_layers_of_three_pixels():
    encoder = encoder_of(SIMPLE, 10, 10, 4)
    shapes = [tuple(p.shape) for p in encoder.parameters() if p.dim() > 1]
    assert shapes == [(16, 4, 3, 3), (32, 16, 3, 3)]
    assert encoder.features == 32 * 6 * 6
    assert encoder_of(SIMPLE, 3, 19, 40).features == 32 * 15 * 36
    assert next(tuple(p.shape) for p in encoder_of(SIMPLE, 3, 20, 20).parameters() if p.dim() > 1) == (16, 3, 8, 8)


@pytest.mark.parametrize("kind", [NATURE, IMPALA])
def test_encoders_that_are_asked_for_take_everything_with_three_axes(kind):
    assert is_image(observation(3, 10, 8), NetworkSettings(encoder=kind))
    assert not is_image(observation(30, 30), NetworkSettings(encoder=kind))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [(SIMPLE, shape) for shape in [(3, 20, 20), (21, 37, 3), (1, 84, 84), (20, 20, 20), (5, 5, 1), (4, 19, 6)]]
    + [(NATURE, shape) for shape in [(3, 36, 36), (37, 51, 3), (4, 84, 84)]]
    + [(IMPALA, shape) for shape in [(3, 8, 8), (11, 9, 3), (4, 84, 84)]],
)
def test_images_of_any_size_from_the_least_side_on_pass(kind, shape):
    encoder = encoder_of(kind, *shape)
    features = encoder(torch.randint(0, 2, (2, *shape), dtype=torch.uint8))
    assert features.shape == (2, encoder.features)
    assert (features[0] != features[1]).any()


def test_the_nature_cnn_is_that_of_the_paper():
    encoder = encoder_of(NATURE, 4, 84, 84)
    shapes = [tuple(p.shape) for p in encoder.parameters() if p.dim() > 1]
    assert shapes == [(32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3), (512, 3136)]
    assert encoder.features == 512


def test_the_impala_network_is_that_of_the_paper():
    encoder = encoder_of(IMPALA, 3, 72, 96)
    shapes = [tuple(p.shape) for p in encoder.parameters() if p.dim() > 1]
    sections = [(16, 3, 3, 3), *[(16, 16, 3, 3)] * 4, (32, 16, 3, 3), *[(32, 32, 3, 3)] * 9]
    assert shapes == [*sections, (256, 32 * 9 * 12)]
    assert encoder.features == 256


def test_encoders_for_few_pixels_are_those_of_ml_agents():
    shapes = [tuple(p.shape) for p in encoder_of("match3", 9, 8, 6).parameters() if p.dim() > 1]
    assert shapes == [(35, 6, 3, 3), (144, 35, 3, 3), (128, 144 * 5 * 4)]
    assert [tuple(p.shape) for p in encoder_of("fully_connected", 2, 3, 1).parameters() if p.dim() > 1] == [(128, 6)]


@pytest.mark.parametrize("kind", [SIMPLE, NATURE, IMPALA, "match3", "fully_connected", f"{__name__}:Tiny"])
def test_every_encoder_ends_in_as_many_units_as_are_asked_for(kind):
    spec = BehaviorSpec("b", (observation(40, 40, 3), observation(5, dtype="float32")), 2)
    policy = Policy(spec, NetworkSettings([8], encoder=kind, encoder_units=24), "ppo")
    assert policy.encoder.features == 24 + 5
    inputs = policy.prepare([torch.ones(2, 40, 40, 3, dtype=torch.uint8), torch.ones(2, 5)])
    assert policy.encoder(inputs).shape == (2, 29)
    build_model(policy, channels_last=True)


@pytest.mark.parametrize("kind", [SIMPLE, NATURE, IMPALA])
def test_both_channel_orders_give_the_same_features(kind):
    first, last = encoder_of(kind, 3, 36, 40), encoder_of(kind, 36, 40, 3)
    image = torch.randint(0, 256, (2, 3, 36, 40), dtype=torch.uint8)
    torch.testing.assert_close(first(image), last(image.permute(0, 2, 3, 1)))


@pytest.mark.parametrize("kind", [SIMPLE, NATURE, IMPALA])
def test_images_are_multiplied_by_their_scale(kind):
    raw, scaled = encoder_of(kind, 3, 36, 40), encoder_of(kind, 3, 36, 40, scale=0.5)
    image = torch.full((1, 3, 36, 40), 8, dtype=torch.uint8)
    torch.testing.assert_close(scaled(image), raw(image // 2))


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        (
            NATURE,
            (3, 35, 80),
            r"encoder=nature does not fit observation 'o' of shape \(3, 35, 80\): it needs 36 .* 35; ",
        ),
        (NATURE, (3, 35, 80), "choose network.encoder=impala or simple"),
        (NATURE, (7, 7, 3), "choose network.encoder=simple, which"),
        (IMPALA, (3, 10, 7), "it needs 8 pixels a side, the smaller side has 7; choose network.encoder=simple, which"),
    ],
)
def test_an_encoder_that_does_not_fit_an_images_size_is_refused(kind, shape, words):
    spec = BehaviorSpec("b", (observation(*shape),), 1)
    with pytest.raises(UserError, match=words):
        Encoder(spec, NetworkSettings(encoder=kind))


@pytest.mark.parametrize("kind", [SIMPLE, NATURE, IMPALA])
def test_policy_and_encoder_agree_on_what_is_an_image(kind):
    small = ObservationSpec("small", (3, 40, 8 if kind is IMPALA else 4), "float32")
    spec = BehaviorSpec("b", (small, observation(40, 40, 3), observation(5, dtype="float32")), 1)
    if kind is NATURE:
        spec = BehaviorSpec("b", spec.observations[1:], 1)
    settings = NetworkSettings([8], encoder=kind)
    policy = Policy(spec, settings, "ppo")
    rows = [torch.ones(2, *o.shape, dtype=getattr(torch, o.dtype)) for o in spec.observations]
    inputs = policy.prepare(rows)
    assert [tuple(x.shape[1:]) for x in inputs[1:]] == {
        SIMPLE: [(40, 40, 3)],
        NATURE: [(40, 40, 3)],
        IMPALA: [(3, 40, 8), (40, 40, 3)],
    }[kind]
    assert inputs[0].shape == (2, 5 + (480 if kind is SIMPLE else 0))
    assert policy.normalized_size == inputs[0].shape[1]
    assert policy.features(inputs, torch.zeros(2, 0))[0].shape == (2, 8)


@pytest.mark.parametrize("kind", [SIMPLE, NATURE, IMPALA])
def test_critic_and_discriminator_see_the_policys_inputs(kind):
    spec = BehaviorSpec("b", (observation(40, 40, 3), observation(5, dtype="float32")), 2)
    settings = NetworkSettings([8], encoder=kind)
    policy, critic = Policy(spec, settings, "sac"), Critic(spec, settings)
    inputs = policy.prepare([torch.ones(2, 40, 40, 3, dtype=torch.uint8), torch.ones(2, 5)])
    for encoder in (policy.encoder, critic.encoder, Discriminator(spec, GAILSettings(), settings).encoder):
        assert encoder(inputs).shape == (2, encoder.features)
        assert encoder.features == policy.encoder.features


class Tiny(nn.Module):
    min_side = 3

    def __init__(self, channels, height, width):
        super().__init__()
        self.layer, self.features = nn.Linear(channels * height * width, 5), 5

    def forward(self, images):
        return self.layer(images.flatten(1))


class Silent(Tiny):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.features = None


def test_an_encoder_of_ones_own_takes_images_and_goes_into_models():
    settings = NetworkSettings([8], encoder=f"{__name__}:Tiny")
    spec = BehaviorSpec("b", (observation(4, 4, 3, scale=0.5), observation(2)), 2)
    policy = Policy(spec, settings, "ppo")
    assert policy.images == [True, False]
    assert policy.encoder.features == 5 + 2
    build_model(policy, channels_last=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("simpel", r"network.encoder=simpel: unknown encoder; did you mean simple\? there is simple, nature, impala"),
        (f"{__name__}:Tinny", "has no Tinny"),
        (f"{__name__}:observation", "must be a subclass of torch.nn.Module"),
        (f"{__name__}:Tiny", "it needs 3 pixels a side, the smaller side has 2"),
        (f"{__name__}:Silent", "has features=None: it must say how many it returns"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(name, words):
    side = 2 if name.endswith("Tiny") else 4
    with pytest.raises(UserError, match=words):
        ImageEncoder(observation(3, side, 9), name)
