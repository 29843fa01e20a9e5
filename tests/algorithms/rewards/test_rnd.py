import numpy as np
import torch

from algorithms.rewards.rnd import RND, Distillation
from algorithms.rewards.settings import RNDSettings
from tests.algorithms.rewards.intrinsic_steps import CONTINUOUS, HYBRID, policy_of, steps_of


def test_error_of_a_tiny_network_is_that_of_numpy():
    policy = policy_of(CONTINUOUS)
    model = Distillation(policy.spec, RNDSettings(hidden=[], encoding_size=4), policy.network)
    steps = steps_of(CONTINUOUS, 6, shift=4.0)
    seen = np.clip(steps.following[0].numpy(), -5, 5)
    assert (seen == 5).any()
    outputs = [seen @ net.head.weight.detach().numpy().T for net in (model.predictor, model.target)]
    expected = ((outputs[0] - outputs[1]) ** 2).mean(1)
    errors, losses = model.evaluate(policy, steps)
    np.testing.assert_allclose(errors.detach(), expected, rtol=1e-4)
    assert losses == (errors,)


def test_only_what_agents_came_to_see_counts():
    rnd = RND("rnd", RNDSettings(strength=1.0, updates_per_sample=1.0), policy_of(HYBRID), {}, seed=0)
    steps, other = steps_of(HYBRID, 8), steps_of(HYBRID, 8, seed=1)
    rnd.learn(steps, 3)
    paid = rnd.score(steps).rewards
    assert torch.equal(rnd.score(other._replace(following=steps.following)).rewards, paid)
    assert not torch.equal(rnd.score(steps._replace(following=other.following)).rewards, paid)


def test_the_random_network_stays_as_it_is_and_the_predictor_learns():
    rnd = RND("rnd", RNDSettings(strength=1.0, updates_per_sample=1.0), policy_of(HYBRID), {}, seed=0)
    target, predictor = (
        torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).clone()
        for network in (rnd._model.target, rnd._model.predictor)
    )
    rnd.learn(steps_of(HYBRID, 8), 3)
    assert torch.equal(torch.cat([parameter.flatten() for parameter in rnd._model.target.parameters()]), target)
    assert not torch.equal(torch.cat([x.flatten() for x in rnd._model.predictor.parameters()]), predictor)


def test_the_predictor_has_a_layer_more():
    policy = policy_of(HYBRID)
    model = Distillation(policy.spec, RNDSettings(hidden=[16, 12]), policy.network)
    assert [layer.out_features for layer in model.target.trunk.layers] == [16, 12]
    assert [layer.out_features for layer in model.predictor.trunk.layers] == [16, 12, 12]
