"""Attention over entities, held against numbers computed by hand and against what it must not depend on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from algorithms.networks.attention import EntityAttention, SelfAttention
from algorithms.networks.inputs import Encoder
from algorithms.policy import Policy
from algorithms.settings import Activation, AttentionSettings, NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec, UserError

PLACE = ObservationSpec("place", (3,), "float32")
ALLIES = ObservationSpec("allies", (4, 2), "float32", entities=True)
FOES = ObservationSpec("foes", (6, 5), "float32", entities=True)
SPEC = BehaviorSpec("Gather", (ALLIES, PLACE, FOES), continuous_size=2, branches=(3,))
SETTINGS = NetworkSettings([16], attention=AttentionSettings(size=8, heads=2, layers=2))


def entities(rng, spec, counts):
    most, size = spec.shape
    x = rng.standard_normal((len(counts), most, size)).astype(np.float32)
    for row, count in zip(x, counts):
        row[count:] = 0
    return torch.from_numpy(x)


def observed(counts=((2, 6), (0, 3), (4, 0), (0, 0)), seed=0):
    rng = np.random.default_rng(seed)
    allies, foes = zip(*counts)
    place = torch.from_numpy(rng.standard_normal((len(counts), 3)).astype(np.float32))
    return [entities(rng, ALLIES, allies), place, entities(rng, FOES, foes)]


def features(policy, observations):
    return policy.encoder(policy.prepare(observations))


@pytest.fixture
def policy():
    torch.manual_seed(1)
    return Policy(SPEC, SETTINGS, "ppo")


def by_hand(attention, context, sets):
    """What an attention of one layer says of one row: entity by entity, of those that are there."""

    def norm(x):
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5)

    def linear(layer, x):
        return layer.weight.detach().double().numpy() @ x + (0 if layer.bias is None else layer.bias.detach().numpy())

    own = linear(attention.context, context)
    embedded = [
        norm(np.maximum(linear(embed, np.append(x, 1)) + own, 0))
        for embed, each in zip(attention.embeddings, sets)
        for x in each
        if x.any()
    ]
    (layer,) = attention.layers
    size = len(own) // layer.heads
    out = []
    for x in embedded:
        parts = []
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            query = linear(layer.query, x)[part]
            scores = np.array([query @ linear(layer.key, other)[part] for other in embedded]) / np.sqrt(size)
            weights = np.exp(scores - scores.max())
            values = np.array([linear(layer.value, other)[part] for other in embedded])
            parts.append(weights / weights.sum() @ values)
        out.append(norm(x + linear(layer.out, np.concatenate(parts))))
    return np.concatenate([np.mean(out, axis=0), np.max(out, axis=0)])


def test_it_is_what_the_formulas_say():
    torch.manual_seed(0)
    attention = EntityAttention([ALLIES, FOES], 3, AttentionSettings(size=8, heads=2), Activation["relu"])
    allies, place, foes = observed()
    marked = [torch.cat([x, (x != 0).any(-1, keepdim=True)], dim=-1) for x in (allies, foes)]
    found = attention(place, marked).detach().numpy()
    for row in range(3):
        right = by_hand(attention, place[row].double().numpy(), [x[row].double().numpy() for x in (allies, foes)])
        np.testing.assert_allclose(found[row], right, atol=1e-5)
    assert not found[3].any()  # nobody is there


def test_the_order_of_entities_and_the_length_of_the_padding_do_not_matter(policy):
    allies, place, foes = observed()
    there = features(policy, [allies, place, foes])
    shuffled = features(policy, [allies.flip(1), place, foes[:, torch.randperm(6)]])
    torch.testing.assert_close(shuffled, there)
    longer = replace(SPEC, observations=(replace(ALLIES, shape=(9, 2)), PLACE, FOES))
    other = Policy(longer, SETTINGS, "ppo")
    other.flat.copy_(policy.flat)
    padded = torch.cat([allies, torch.zeros(4, 5, 2)], dim=1)
    torch.testing.assert_close(features(other, [padded, place, foes]), there)


def test_an_entity_is_absent_only_if_all_its_numbers_are_0(policy):
    allies, place, foes = observed(((1, 0), (1, 0)))
    allies[0, 1] = torch.tensor([0, 1e-30])
    allies[1, 1] = torch.tensor([0.03, 0.04])  # of norm 0.05, which ML-Agents takes for padding
    vector, one, _ = policy.prepare([allies, place, foes])
    assert one[..., -1].tolist() == [[1, 1, 0, 0]] * 2
    assert vector.shape == (2, 3)
    with_them = features(policy, [allies, place, foes])
    allies[:, 1] = 0
    assert (with_them != features(policy, [allies, place, foes])).any(1).all()


def test_entities_depend_on_each_other_and_on_what_else_is_observed(policy):
    for changed in range(3):
        before, after = observed(((4, 6),)), observed(((4, 6),))
        after[changed][:, 0] += 1
        assert (features(policy, before) != features(policy, after)).any()


def test_all_parameters_learn_and_absent_entities_get_no_gradient(policy):
    allies, place, foes = observed()
    foes.requires_grad_()
    policy.features(policy.prepare([allies, place, foes]), torch.zeros(4, 0))[0].square().sum().backward()
    assert (foes.grad != 0).any(-1).tolist() == [[True] * 6, [True] * 3 + [False] * 3, [False] * 6, [False] * 6]
    attention = policy.encoder.attention
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in attention.parameters())


def test_only_entities_that_are_there_are_normalised(policy):
    allies, place, foes = (x.numpy() for x in observed(((2, 6), (4, 3))))
    allies[..., 1][allies.any(-1)] = 7  # never changes
    groups = policy.normalized_rows([allies, place, foes])
    assert [rows.shape for rows in groups] == [(2, 3), (6, 2), (9, 5)]
    policy.shift.copy_(torch.from_numpy(np.concatenate([rows.mean(0) for rows in groups])))
    _, seen, _ = policy.prepare([torch.from_numpy(x) for x in (allies, place, foes)])
    assert not seen[0, 2:].any()
    assert seen[..., -1].sum() == 6
    assert abs(seen[..., 0].sum()) < 1e-5
    assert not seen[..., 1].any()  # and still each is there


def test_without_normalisation_numbers_stay_as_they_are():
    policy = Policy(SPEC, replace(SETTINGS, normalize=False), "ppo")
    observations = observed()
    _, allies, foes = policy.prepare(observations)
    assert torch.equal(allies[..., :-1], observations[0])
    assert torch.equal(foes[..., :-1], observations[2])


def test_a_set_alone_is_enough():
    policy = Policy(replace(SPEC, observations=(FOES,)), SETTINGS, "sac")
    assert policy.encoder.features == 16
    foes = observed()[2]
    assert features(policy, [foes]).shape == (4, 16)


def test_size_and_heads_have_to_fit():
    with pytest.raises(UserError, match=r"attention\.size=10 must be divisible by .*\.heads=4"):
        NetworkSettings(attention=AttentionSettings(size=10, heads=4)).validate("algorithm.network")


def test_the_layer_copes_with_nobody():
    found = SelfAttention(8, 2)(torch.randn(3, 5, 8), torch.zeros(3, 5, 1, dtype=torch.bool))
    assert found.isfinite().all()


def test_what_the_encoder_gets_is_told_to_networks_of_ones_own():
    encoder = Encoder(SPEC, SETTINGS)
    assert [tuple(x.shape) for x in Policy(SPEC, SETTINGS, "ppo").prepare(observed())] == [(4, 3), (4, 4, 3), (4, 6, 6)]
    assert encoder.features == 3 + 16
    assert not encoder.is_flat
