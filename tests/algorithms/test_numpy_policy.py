import json

import numpy as np
import pytest
import torch

from algorithms.networks import distributions
from algorithms.numpy_policy import NumpyActor
from algorithms.policy import Policy
from algorithms.settings import Activation, Cell, MemorySettings, NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec

VECTOR = ObservationSpec("vector", (4,), "float32")
TABLE = ObservationSpec("table", (2, 3), "float32", 0.5)
PLANES = ObservationSpec("planes", (3, 4, 8), "uint8", 0.25)
THINGS = ObservationSpec("things", (6, 3), "float32", entities=True)
ALLIES = ObservationSpec("allies", (2, 4), "float32", entities=True)
IMAGE = ObservationSpec("image", (24, 24, 3), "uint8", 1 / 255)
SPECS = {
    "continuous": BehaviorSpec("b", (VECTOR,), 2),
    "discrete": BehaviorSpec("b", (PLANES, VECTOR, TABLE), 0, (4,)),
    "bytes": BehaviorSpec("b", (PLANES,), 0, (3, 3), True),
    "branches": BehaviorSpec("b", (TABLE,), 0, (5, 2, 3), True),
    "padded": BehaviorSpec("b", (VECTOR,), 0, (2, 4)),
    "sets": BehaviorSpec("b", (THINGS, VECTOR, PLANES, ALLIES), 2, (3,)),
    "set alone": BehaviorSpec("b", (THINGS,), 1),
    "hybrid": BehaviorSpec("b", (VECTOR, PLANES), 3, (2, 3), True),
}
KINDS = pytest.mark.parametrize("kind", ["ppo", "sac", "deterministic"])
EVERY = pytest.mark.parametrize("name", list(SPECS))
MEMORIES = [{"memory": MemorySettings(Cell[name], 24)} for name in ("lstm", "gru")]
TOGETHER = pytest.mark.parametrize("joint_choices", [0, 1000])


def policy_of(spec, kind, seed=0, **settings):
    """A policy far from uniform, with statistics that some inputs are clipped by."""
    torch.manual_seed(seed)
    policy = Policy(spec, NetworkSettings(**{"hidden": [16, 8], **settings}), kind).requires_grad_(False)
    policy.flat.add_(torch.randn(policy.flat.shape) * 0.2)
    policy.scale.exp_()
    policy.scale[:1] = 30
    return policy


def decisions(spec, rows, seed=0, state=0):
    rng = np.random.default_rng(seed)
    observations = tuple(
        (rng.normal(0, 2, (rows, *o.shape)) if o.dtype == "float32" else rng.integers(0, 9, (rows, *o.shape))).astype(
            o.dtype
        )
        for o in spec.observations
    )
    for each, entities in zip(spec.observations, observations):
        if each.entities:
            entities[rng.random(entities.shape[:2]) < 0.4] = 0
            entities[1::7] = 0
    mask = rng.random((rows, spec.mask_size)) < 0.5  # leaves some branches nothing
    mask[: rows // 4] = True
    return observations, mask, rng.normal(0, 1, (rows, state)).astype(np.float32)


def in_torch(policy, observations, mask, state):
    inputs = policy.prepare([torch.from_numpy(x) for x in observations])
    return policy(inputs, torch.from_numpy(mask), torch.from_numpy(state))


def assert_torch_agrees(policy, rows, monkeypatch, actor=None):
    """With the same noise torch draws the same continuous actions; and all have the same log-probabilities."""
    seen = decisions(policy.spec, rows, state=policy.state_size)
    acted = (actor or NumpyActor(policy)).act(*seen, np.random.default_rng(1))
    assert [x.dtype for x in acted] == [np.float32, np.int32, np.float32, np.float32]
    shapes = [(rows, policy.spec.continuous_size), (rows, len(policy.spec.branches)), (rows,), seen[2].shape]
    assert [x.shape for x in acted] == shapes
    continuous, discrete, log_prob, after = acted
    np.testing.assert_allclose(after, policy.act(*seen, None).recurrent_state, rtol=1e-5, atol=1e-6)
    distribution, expected = in_torch(policy, *seen), torch.zeros(rows)
    if distribution.continuous is not None:
        noise = torch.from_numpy(np.random.default_rng(1).standard_normal(continuous.shape, np.float32))
        monkeypatch.setattr(distributions, "_noise_like", lambda mean, generator: noise)
        actions, expected = distribution.continuous.sample(None)
        np.testing.assert_allclose(continuous, actions, rtol=1e-5, atol=1e-5)
    if distribution.discrete is not None:
        index = policy.branches.index(torch.from_numpy(discrete).long())
        expected = expected + distribution.discrete.log_prob(index)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5, atol=1e-5)


@KINDS
@EVERY
@TOGETHER
@pytest.mark.parametrize("rows", [1, 40])
def test_every_kind_of_spec_acts_as_in_torch(name, kind, joint_choices, rows, monkeypatch):
    assert_torch_agrees(policy_of(SPECS[name], kind, joint_choices=joint_choices), rows, monkeypatch)


ACTIVATIONS = [{"activation": activation} for activation in Activation]
SCALED = [{"action_scale": 1 / 3}, {"clip_inputs": 1.0}]
NETWORKS = [{"normalize": False}, {"hidden": []}, {"hidden": [300]}, *SCALED, *ACTIVATIONS, *MEMORIES]


@pytest.mark.parametrize("kind", ["ppo", "sac"])
@pytest.mark.parametrize("settings", NETWORKS)
def test_every_kind_of_network_acts_as_in_torch(settings, kind, monkeypatch):
    assert_torch_agrees(policy_of(SPECS["hybrid"], kind, **settings), 20, monkeypatch)


@KINDS
def test_new_weights_in_the_published_vector_count_at_once(kind, monkeypatch):
    policy = policy_of(SPECS["hybrid"], kind)
    actor = NumpyActor(policy)
    policy.flat.numpy()[:] = policy_of(SPECS["hybrid"], kind, seed=1).flat
    assert_torch_agrees(policy, 20, monkeypatch, actor)


@TOGETHER
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["bytes", "branches", "hybrid"])
def test_choices_come_as_often_as_they_are_likely(name, masked, joint_choices):
    spec, rows = SPECS[name], 50_000
    policy = policy_of(spec, "ppo", joint_choices=joint_choices)
    observations = [np.repeat(x, rows, axis=0) for x in decisions(spec, 1)[0]]
    mask = np.ones((rows, spec.mask_size), bool)
    if masked:
        mask[:, 1] = False  # one choice of the first branch; and nothing is left of the last branch
        mask[:, -spec.branches[-1] :] = False
    nothing = np.zeros((rows, 0), np.float32)
    _, discrete, *_ = NumpyActor(policy).act(observations, mask, nothing, np.random.default_rng(0))
    likely = (
        in_torch(policy, [x[:1] for x in observations], mask[:1], nothing[:1])
        .discrete.log_probs[0]
        .exp()
        .double()
        .numpy()
    )
    index = policy.branches.index(torch.from_numpy(discrete).long()).numpy()
    for branch, choices in enumerate(index.T):
        seen = np.bincount(choices, minlength=likely.shape[1])
        possible = likely[branch] > 0
        assert not seen[~possible].any()
        expected = rows * likely[branch][possible]
        freedom = possible.sum() - 1
        surprise = (np.square(seen[possible] - expected) / expected).sum()
        assert surprise <= freedom + 4 * np.sqrt(2 * freedom)
    assert not masked or not (discrete[:, 0] == 1).any()
    assert len(np.unique(discrete[:, -1])) == spec.branches[-1]


@pytest.mark.parametrize("draw", [0.0, 1 - 2.0**-24])
def test_the_least_and_the_largest_draw_take_what_is_allowed(draw):
    class Extreme:
        def random(self, shape, dtype):
            return np.full(shape, draw, dtype)

    spec = SPECS["branches"]
    policy = policy_of(spec, "sac", joint_choices=0)
    observations, _, nothing = decisions(spec, 2000)
    mask = np.ones((2000, spec.mask_size), bool)
    mask[:, [0, 4, 7, 9]] = False  # the first and the last of the first and the last branch
    _, discrete, log_prob, _ = NumpyActor(policy).act(observations, mask, nothing, Extreme())
    first, last = (1, 1) if draw == 0 else (3, 1)
    assert (discrete == [first, draw > 0, last]).all()
    assert np.isfinite(log_prob).all()


def test_actor_goes_on_from_a_saved_random_state():
    policy = policy_of(SPECS["hybrid"], "sac")
    actor, generator, other = NumpyActor(policy), np.random.default_rng(3), np.random.default_rng(4)
    actor.act(*decisions(policy.spec, 3), generator)
    other.bit_generator.state = json.loads(json.dumps(generator.bit_generator.state))
    for ours, theirs in zip(*(actor.act(*decisions(policy.spec, 5), each) for each in (generator, other))):
        np.testing.assert_array_equal(ours, theirs)


def test_images_and_what_is_not_known_do_not_fit():
    class Own(Policy):
        pass

    settings = NetworkSettings(hidden=[8])
    assert all(NumpyActor.fits(Policy(spec, settings, "ppo")) for spec in SPECS.values())
    assert not NumpyActor.fits(Policy(BehaviorSpec("b", (VECTOR, IMAGE), 1), settings, "ppo"))
    assert not NumpyActor.fits(Own(SPECS["continuous"], settings, "ppo"))
    other = Policy(SPECS["continuous"], settings, "ppo")
    other.trunk = torch.nn.Sequential(other.trunk)
    assert not NumpyActor.fits(other)
