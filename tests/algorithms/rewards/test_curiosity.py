import math

import numpy as np
import pytest
import torch

from algorithms.imitation.demonstrations import Steps
from algorithms.networks.distributions import Branches
from algorithms.rewards.curiosity import Curiosity, Dynamics, forward_error, inverse_loss
from algorithms.rewards.settings import CuriositySettings
from tests.algorithms.rewards.intrinsic_steps import CONTINUOUS, DISCRETE, HYBRID, policy_of, steps_of


def test_forward_error_is_half_the_mean_square():
    foretold, found = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0, 1.0], [0.0, 0.0]])
    assert forward_error(foretold, found).tolist() == [(4 + 1) / 4, 0]


def test_inverse_loss_of_hand_computed_outputs():
    # Two continuous actions, then branches of three choices and two, padded to three.
    outputs = torch.tensor([[0.5, 0.0, 1.0, 2.0, 0.0, 0.0, 1.0, 9.0]])
    mask = torch.tensor([[True, False, True, True, True]])
    steps = Steps((), mask, torch.tensor([[0.25, 8.0]]), torch.tensor([[2, 1]]), torch.tensor([False]), ())
    squares = 0.25**2 + 1  # the second is clipped to 1
    surprise = math.log(math.exp(1) + 1) - 0 + math.log(1 + math.exp(1)) - 1
    assert inverse_loss(outputs, Branches((3, 2), 0), steps).item() == pytest.approx(squares + surprise)


def test_branches_that_are_chosen_together_are_told_together():
    outputs = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
    mask = torch.tensor([[True, True, False, True, True]])
    steps = Steps((), mask, torch.zeros(1, 0), torch.tensor([[1, 0]]), torch.tensor([False]), ())
    # Combinations (0, 0), (0, 1), (1, 0), (1, 1); the last two are forbidden.
    surprise = math.log(sum(math.exp(x) for x in range(4))) - 2
    assert inverse_loss(outputs, Branches((3, 2), 128), steps).item() == pytest.approx(surprise)


@pytest.mark.parametrize("joint_choices", [0, 128])
def test_a_mask_that_leaves_one_choice_leaves_nothing_to_tell(joint_choices):
    policy = policy_of(HYBRID, joint_choices)
    steps = steps_of(HYBRID, 16)
    mask = torch.zeros(16, 5, dtype=torch.bool)
    mask.scatter_(1, steps.discrete + torch.tensor([0, 3]), True)
    outputs = torch.randn(16, 2 + policy.branches.count * policy.branches.width)
    reported = outputs[:, :2] - steps.continuous.clamp(-1, 1)
    loss = inverse_loss(outputs, policy.branches, steps._replace(mask=mask))
    torch.testing.assert_close(loss, reported.square().sum(-1))


def numpy_dynamics(dynamics, policy, steps):
    """Errors and inverse losses of a network without hidden layers, in numpy."""

    def linear(name, x):
        weights = dict(dynamics.named_parameters())
        return x @ weights[f"{name}.weight"].detach().numpy().T + weights[f"{name}.bias"].detach().numpy()

    def phi(observations):
        encoding = linear("phi.head", observations[0].numpy())
        centred = encoding - encoding.mean(1, keepdims=True)
        return centred / np.sqrt(centred.var(1, keepdims=True) + 1e-5)

    before, after = phi(steps.observations), phi(steps.following)
    actions = np.clip(steps.continuous.numpy(), -1, 1)
    foretold = linear("forward_model.1", np.concatenate([before, actions], axis=1))
    reported = linear("inverse.1", np.concatenate([before, after], axis=1))
    return ((foretold - after) ** 2).mean(1) / 2, ((reported - actions) ** 2).sum(1)


def test_losses_of_a_tiny_network_are_those_of_numpy():
    policy = policy_of(CONTINUOUS)
    dynamics, steps = Dynamics(policy, CuriositySettings(hidden=[], encoding_size=4)), steps_of(CONTINUOUS, 6)
    errors, inverse = numpy_dynamics(dynamics, policy, steps)
    found, losses = dynamics.evaluate(policy, steps)
    np.testing.assert_allclose(found.detach(), errors, rtol=1e-4)
    np.testing.assert_allclose(losses[0].detach(), errors, rtol=1e-4)
    np.testing.assert_allclose(losses[1].detach(), inverse, rtol=1e-4)
    np.testing.assert_allclose(dynamics.errors(policy, steps).detach(), errors, rtol=1e-4)


def test_the_encoder_learns_from_both_losses_in_the_papers_shares():
    policy = policy_of(CONTINUOUS)
    dynamics = Dynamics(policy, CuriositySettings(hidden=[8]))
    assert dynamics.losses == {"curiosity/loss_forward": 0.2, "curiosity/loss_inverse": 0.8}
    for loss in dynamics.evaluate(policy, steps_of(CONTINUOUS, 6))[1]:
        (gradient,) = torch.autograd.grad(loss.sum(), [dynamics.phi.head.weight], retain_graph=True)
        assert gradient.any()


def sequences(count, seed, noise=0.0):
    """Steps on a line whose first number the action moves; the last is noise, which no action moves."""
    steps = steps_of(DISCRETE, count, seed)
    (before,) = steps.observations
    after = before.clone()
    after[:, 0] += steps.discrete[:, 0] - 1.0
    after[:, 2] = noise * steps.following[0][:, 2]
    return steps._replace(following=(after,))


def test_the_encoding_does_not_collapse():
    settings = CuriositySettings(strength=1.0, hidden=[32], learning_rate=3e-3, updates_per_sample=1.0)
    curiosity = Curiosity("curiosity", settings, policy_of(DISCRETE), {}, seed=0)
    steps = sequences(512, 0)
    curiosity.learn(steps, 300)
    curiosity.metrics()
    curiosity.learn(steps, 20)
    # The second branch moves nothing: of it no more can be told than that there are two choices.
    assert curiosity.metrics()["curiosity/loss_inverse"] < 0.15 * math.log(3) + math.log(2)
    with torch.no_grad():
        _, encodings = curiosity._model._encode(curiosity.policy, steps)
        before, _ = encodings.chunk(2, dim=-1)
    assert before.std(0).mean() > 0.2
