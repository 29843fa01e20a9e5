import numpy as np
import pytest
import torch

from algorithms.networks.custom import CustomNetwork, network_class
from algorithms.networks.inputs import Encoder
from algorithms.numpy_policy import NumpyActor
from algorithms.policy import Policy
from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import PPOSettings
from algorithms.ppo.value import Value
from algorithms.rewards.gail import Discriminator
from algorithms.rewards.settings import GAILSettings
from algorithms.sac.critic import Critic
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.algorithms.custom_toys import NoParameters, Trunk
from tests.algorithms.loops import make_rows

VECTOR = ObservationSpec("vector", (4,), "float32")
IMAGE = ObservationSpec("image", (24, 24, 3), "uint8", 1 / 255)
SPEC = BehaviorSpec("b", (IMAGE, VECTOR), 1, (3,))
VECTORS = BehaviorSpec("b", (VECTOR,), 1, (3,))


def custom(name, hidden=(6, 5)):
    return NetworkSettings(list(hidden), custom=f"tests.algorithms.custom_toys:{name}")


@pytest.mark.parametrize("kind", ["ppo", "sac"])
def test_a_custom_network_stands_in_place_of_encoder_and_hidden_layers(kind):
    policy = Policy(SPEC, custom("Trunk"), kind)
    assert isinstance(policy.encoder.network, Trunk)
    assert [tuple(p.shape) for p in policy.parameters() if p.dim() > 1] == [(6, 5), (policy.head.out_features, 6)]
    actions = policy.act(
        (np.zeros((2, 24, 24, 3), np.uint8), np.zeros((2, 4), np.float32)),
        np.ones((2, 3), bool),
        np.zeros((2, 0), np.float32),
        torch.Generator(),
    )
    assert [x.shape for x in actions] == [(2, 1), (2, 1), (2,), (2, 0)]


def test_the_value_has_a_custom_network_of_its_own_or_shares_the_policys():
    policy = Policy(SPEC, custom("Trunk"), "ppo")
    own = Value(policy, shared=False, count=1)
    assert [tuple(p.shape) for p in own.parameters() if p.dim() > 1] == [(6, 5), (1, 6)]
    shared = Value(policy, shared=True, count=1)
    assert [tuple(p.shape) for p in shared.parameters() if p.dim() > 1] == [(1, 6)]


def test_hidden_layers_of_the_critics_follow_a_custom_network():
    critic = Critic(SPEC, custom("Trunk"))
    assert isinstance(critic.encoder.network, Trunk)
    assert [tuple(weight.shape[1:]) for weight in critic.stack.weights][:2] == [(6 + 1, 6), (6, 5)]


def test_the_discriminator_keeps_an_encoder():
    assert isinstance(Discriminator(SPEC, GAILSettings(), custom("Trunk")).encoder, Encoder)


def test_numpy_does_not_act_for_a_custom_network():
    assert NumpyActor.fits(Policy(VECTORS, NetworkSettings([6]), "ppo"))
    assert not NumpyActor.fits(Policy(VECTORS, custom("Trunk"), "ppo"))
    assert not NumpyActor.fits(Policy(VECTORS, custom("NoParameters"), "ppo"))


def test_what_is_published_moves_a_custom_network():
    learned, actor = Policy(VECTORS, custom("Trunk"), "ppo"), Policy(VECTORS, custom("Trunk"), "ppo")
    seen = (np.ones((1, 4), np.float32),), np.ones((1, 3), bool), np.zeros((1, 0), np.float32)
    actor.flat.copy_(learned.flat)
    for ours, theirs in zip(*(p.act(*seen, None, deterministic=True) for p in (learned, actor))):
        np.testing.assert_array_equal(ours, theirs)
    assert (actor.encoder.network.layer.weight == learned.encoder.network.layer.weight).all()


@pytest.mark.parametrize(("kind", "settings"), [(PPO, PPOSettings), (SAC, SACSettings)])
@pytest.mark.parametrize("name", ["Trunk", "NoParameters"])
def test_algorithms_are_made_with_custom_networks_that_follow_from_the_seed(kind, settings, name):
    def made(seed):
        return kind(VECTORS, settings(network=custom(name)), make_rows(VECTORS, 9000), "cpu", seed).weights()

    first, again, other = made(1), made(1), made(2)
    assert all((first[key] == again[key]).all() for key in first)
    assert any((first[key] != other[key]).any() for key in first)


def test_a_network_without_parameters_is_one():
    assert isinstance(CustomNetwork(VECTORS, custom("NoParameters")).network, NoParameters)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("custom_toys", "'custom_toys' is no import path: write package.module:Class"),
        ("no_such:Trunk", r"cannot be imported \(ModuleNotFoundError: No module named 'no_such'\)"),
        ("tests.algorithms.custom_toys:Trunc", "module tests.algorithms.custom_toys has no Trunc"),
        ("tests.algorithms.custom_toys:NUMBER", "must be a subclass of torch.nn.Module"),
        ("tests.algorithms.custom_toys:math", "must be a subclass of torch.nn.Module"),
        (
            "tests.algorithms.custom_toys:TakesOne",
            r"cannot be called with \(spec, settings\): too many positional arguments",
        ),
    ],
)
def test_a_path_that_names_no_network_is_refused_with_the_settings(path, words):
    settings = NetworkSettings(custom=path)
    with pytest.raises(UserError, match=f"^algorithm.network.custom: .*{words}"):
        PPOSettings(network=settings).validate()
    with pytest.raises(UserError, match=f"^behaviors.A.algorithm.network.custom: .*{words}"):
        SACSettings(network=settings).validate("behaviors.A.algorithm")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Fails", r"cannot be made for behavior 'b' \(KeyError: 'nothing there'\)"),
        ("NoFeatures", "has features=None: it must say how many it returns, as an int above 0"),
        ("FailsForward", r"fails on inputs of shapes \[\(1, 4\)\] \(RuntimeError: .*"),
        ("Squeezes", r"returns torch.float32 of shape \(6,\) for 1 rows; it must be torch.float32 of shape \(1, 6\)"),
        ("Doubles", r"returns torch.float64 of shape \(1, 6\) for 1 rows"),
        ("NoTensor", "returns list for 1 rows"),
        ("Buffers", "has the buffer 'norm.running_mean', and only parameters reach the actors"),
        ("Idle", "has the parameter 'extra.weight', which is frozen or has no part in the features"),
        ("Frozen", "has the parameter 'layer.weight', which is frozen or has no part in the features"),
        ("Detached", "has the parameter 'layer.weight', which is frozen or has no part in the features"),
    ],
)
def test_a_class_that_lacks_what_is_needed_is_refused_as_it_is_made(name, words):
    assert network_class(f"tests.algorithms.custom_toys:{name}", "key")
    with pytest.raises(UserError, match=f"^network.custom: tests.algorithms.custom_toys:{name} {words}"):
        Policy(VECTORS, custom(name), "ppo")
