import numpy as np
import pytest
import torch

from algorithms.rewards.rnd import RND, Distillation
from algorithms.rewards.settings import RNDSettings
from tests.algorithms.rewards.intrinsic_steps import CONTINUOUS, HYBRID, PICTURES, policy_of, steps_of


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


def test_images_are_normalized_pixel_by_pixel_over_the_steps_that_went_on():
    rnd = RND("rnd", RNDSettings(strength=1.0, updates_per_sample=1.0, batch_size=99), policy_of(PICTURES), {}, seed=0)
    batches = [steps_of(PICTURES, 12, seed=seed, ends=0.3) for seed in range(3)]
    for steps in batches:
        steps.following[1][:, 0, 0, 0] = 77
        rnd.learn(steps, 1)
    seen = torch.cat([steps.following[1][~steps.terminated] for steps in batches]).double() / 255
    (pixels,) = rnd._model.pixels
    assert 0 < pixels.count.item() == len(seen) < 36
    torch.testing.assert_close(pixels.mean, seen.mean(0), atol=1e-6, rtol=0)
    normalized = pixels(torch.cat([steps.following[1][~steps.terminated] for steps in batches]))
    torch.testing.assert_close(normalized.mean(0), torch.zeros(20, 24, 3), atol=1e-4, rtol=0)
    expected = torch.ones(20, 24, 3)
    expected[0, 0, 0] = 0  # it never changed
    torch.testing.assert_close(normalized.std(0, correction=0), expected, atol=1e-4, rtol=0)
    changed = torch.full((1, 20, 24, 3), 78, dtype=torch.uint8)
    assert pixels(changed)[0, 0, 0, 0].item() == pytest.approx(1, abs=1e-4), "one grey level"
    assert pixels(changed + 20)[0, 0, 0, 0].item() == 5


def test_networks_see_normalized_images():
    """In a game of faint pictures what moves is as loud as in one of strong contrast."""
    policy = policy_of(PICTURES)
    model = Distillation(policy.spec, RNDSettings(), policy.network)
    faint = steps_of(PICTURES, 40)
    strong = faint.following[1] // 4 * 4
    errors = []
    for image in (strong, 100 + strong // 4):
        model.pixels[0].load_state_dict({key: torch.zeros_like(x) for key, x in model.pixels[0].state_dict().items()})
        steps = faint._replace(following=(faint.following[0], image))
        model.look(policy, steps)
        errors.append(model.errors(policy, steps))
    torch.testing.assert_close(*errors, rtol=1e-3, atol=1e-5)


def test_a_state_of_the_version_before_has_no_statistics_of_images():
    rnd, other = (
        RND("rnd", RNDSettings(strength=1.0, updates_per_sample=1.0), policy_of(PICTURES), {}, seed) for seed in (0, 1)
    )
    state = {key: value for key, value in rnd.state_dict().items() if not key.startswith("pixels/")}
    assert len(state) < len(rnd.state_dict())
    other.load_state_dict(state)
    assert torch.equal(other.state_dict()["model"], state["model"])


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
