import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from algorithms.policy import Policy
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec

VECTOR = ObservationSpec("vector", (4,), "float32")
PLANES = ObservationSpec("planes", (3, 10, 8), "uint8")
IMAGE = ObservationSpec("image", (24, 24, 3), "uint8", 1 / 255)
SPECS = {
    "continuous": BehaviorSpec("b", (VECTOR,), 2),
    "discrete": BehaviorSpec("b", (VECTOR, PLANES), 0, (4,)),
    "branches": BehaviorSpec("b", (PLANES,), 0, (5, 2), True),
    "hybrid": BehaviorSpec("b", (VECTOR, IMAGE), 3, (2, 3), True),
    "image": BehaviorSpec("b", (IMAGE,), 1),
}
SMALL = NetworkSettings(hidden=[16, 16])


def decisions(spec, rows, seed=0):
    rng = np.random.default_rng(seed)
    observations = tuple(rng.normal(0, 2, (rows, *o.shape)).astype(o.dtype) for o in spec.observations)
    mask = rng.random((rows, spec.mask_size)) < 0.5
    return observations, mask, np.zeros((rows, 0), np.float32)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("kind", ["ppo", "sac", "deterministic"])
@pytest.mark.parametrize("name", list(SPECS))
@pytest.mark.parametrize("deterministic", [False, True])
def test_every_kind_of_spec_acts_with_the_right_shapes_and_types(name, kind, deterministic):
    spec = SPECS[name]
    for rows in (1, 5):
        acted = Policy(spec, SMALL, kind).act(*decisions(spec, rows), generator(), deterministic)
        assert [x.dtype for x in acted] == [np.float32, np.int32, np.float32, np.float32]
        shapes = [(rows, spec.continuous_size), (rows, len(spec.branches)), (rows,), (rows, 0)]
        assert [x.shape for x in acted] == shapes
        assert (acted[1] < np.array(spec.branches)).all()
        assert all(np.isfinite(x).all() for x in acted)


@pytest.mark.parametrize(
    ("kind", "asked", "expected"),
    [("ppo", None, math.exp(-0.5)), ("ppo", 1.5, 1.5), ("sac", None, 1), ("sac", 0.3, 0.3)],
)
@pytest.mark.parametrize("name", ["continuous", "hybrid"])
def test_continuous_actions_begin_with_the_deviation_asked_for(name, kind, asked, expected):
    policy = Policy(SPECS[name], replace(SMALL, initial_deviation=asked), kind)
    observations, mask, state = decisions(SPECS[name], 50)
    inputs = policy.prepare([torch.from_numpy(x) for x in observations])
    with torch.no_grad():
        log_std = policy(inputs, torch.from_numpy(mask), torch.from_numpy(state)).continuous.log_std
    # The state moves SAC's a little at the start, as the first weights of its head are small.
    torch.testing.assert_close(log_std.exp(), torch.full_like(log_std, expected), rtol=0.1 * (kind == "sac"), atol=1e-6)


@pytest.mark.parametrize("kind", ["ppo", "sac", "deterministic"])
@pytest.mark.parametrize("name", list(SPECS))
def test_policy_that_takes_over_the_published_vector_acts_alike(name, kind):
    spec = SPECS[name]
    learned, actor = Policy(spec, SMALL, kind), Policy(spec, SMALL, kind)
    learned.shift += 1.5
    learned.scale *= 0.5
    actor.flat.copy_(learned.flat)
    for ours, theirs in zip(learned.act(*decisions(spec, 6), generator()), actor.act(*decisions(spec, 6), generator())):
        np.testing.assert_array_equal(ours, theirs)


def test_published_vector_keeps_its_values_when_it_moves():
    policy = Policy(SPECS["hybrid"], SMALL, "ppo")
    before, vector = policy.flat.clone(), torch.empty_like(policy.flat)
    policy.move_to(vector)
    assert torch.equal(vector, before)
    vector.zero_()
    assert not any(p.any() for p in policy.parameters())


@pytest.mark.parametrize("name", list(SPECS))
def test_log_prob_of_acting_is_that_of_learning(name):
    spec = SPECS[name]
    policy = Policy(spec, SMALL, "ppo")
    observations, mask, state = decisions(spec, 6)
    continuous, discrete, log_prob, _ = policy.act(observations, mask, state, generator())
    inputs = policy.prepare([torch.from_numpy(x) for x in observations])
    distribution = policy(inputs, torch.from_numpy(mask), torch.from_numpy(state))
    index = policy.branches.index(torch.from_numpy(discrete).long())
    learned = distribution.log_prob(torch.from_numpy(continuous), index)
    np.testing.assert_allclose(learned.detach(), log_prob, rtol=1e-4, atol=1e-5)


def test_only_allowed_choices_are_taken():
    spec = BehaviorSpec("b", (VECTOR,), 0, (5, 2), True)
    policy = Policy(spec, SMALL, "sac")
    observations, mask, state = decisions(spec, 500)
    mask[:, 0] = mask[:, 5] = True
    for deterministic in (False, True):
        _, discrete, *_ = policy.act(observations, mask, state, generator(), deterministic)
        assert mask[np.arange(500), discrete[:, 0]].all()
        assert mask[np.arange(500), 5 + discrete[:, 1]].all()


def test_deterministic_action_does_not_depend_on_the_generator():
    policy = Policy(SPECS["hybrid"], SMALL, "sac")
    first = policy.act(*decisions(policy.spec, 4), torch.Generator().manual_seed(1), deterministic=True)
    second = policy.act(*decisions(policy.spec, 4), None, deterministic=True)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_vectors_are_normalised_and_clipped_but_bytes_only_scaled():
    bytes_ = ObservationSpec("bytes", (2,), "uint8", 0.5)
    policy = Policy(BehaviorSpec("b", (bytes_, VECTOR), 1), SMALL, "ppo")
    policy.shift.copy_(torch.tensor([1.0, 2.0, 3.0, 0.0]))
    policy.scale.copy_(torch.tensor([2.0, 1.0, 1.0, 1e6]))
    (x,) = policy.prepare([torch.tensor([[4, 200]], dtype=torch.uint8), torch.tensor([[2.0, 2.0, 0.0, 1.0]])])
    assert x.tolist() == [[2.0, 0.0, -3.0, 10.0, 2.0, 100.0]]


def test_without_normalisation_vectors_pass_as_they_are():
    policy = Policy(SPECS["continuous"], NetworkSettings(hidden=[8], normalize=False), "ppo")
    (x,) = policy.prepare([torch.tensor([[2.0, -300.0, 0.0, 1.0]])])
    assert x.tolist() == [[2.0, -300.0, 0.0, 1.0]]
    assert policy.normalized_size == 0
