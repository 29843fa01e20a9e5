"""Behavioral cloning: its loss by hand, its weight, and a policy that does what was demonstrated."""

import math

import numpy as np
import pytest
import torch

from algorithms.imitation.cloning import Cloning, cloning_loss
from algorithms.networks.distributions import FORBIDDEN, Categorical, Gaussian, SquashedGaussian
from algorithms.policy import ActionDistribution, Policy
from algorithms.settings import CloningSettings, NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec
from tests.algorithms.rewards.test_gail import HYBRID, demonstrated, policy_of


def test_loss_of_hand_computed_actions():
    gaussian = SquashedGaussian(torch.tensor([[0.5], [-1.0]]), torch.zeros(2, 1))
    categorical = Categorical(torch.tensor([[[0.25, 0.75]], [[0.5, 0.5]]]).log())
    continuous, discrete = torch.tensor([[0.0], [1.0]]), torch.tensor([[0], [1]])
    squares = (math.tanh(0.5) ** 2 + (math.tanh(-1) - 1) ** 2) / 2
    surprise = (math.log(4) + math.log(2)) / 2
    loss = cloning_loss(ActionDistribution(gaussian, categorical), continuous, discrete)
    assert loss.item() == pytest.approx(squares + surprise)
    assert cloning_loss(ActionDistribution(gaussian, None), continuous, discrete).item() == pytest.approx(squares)


def test_a_choice_that_its_mask_forbids_teaches_nothing():
    log_probs = torch.tensor([[[math.log(0.5), FORBIDDEN]]], requires_grad=True)
    loss = cloning_loss(ActionDistribution(None, Categorical(log_probs)), torch.zeros(1, 0), torch.tensor([[1]]))
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, [log_probs])
    assert not gradient.any()


def test_weight_falls_to_nothing_over_the_samples():
    cloning = Cloning(
        CloningSettings("x", strength=2.0, anneal_samples=100), demonstrated(HYBRID), policy_of(HYBRID), 0
    )
    assert cloning.active
    cloning.set_progress(75)
    assert cloning.metrics()["cloning/weight"] == pytest.approx(0.5)
    cloning.set_progress(100)
    assert not cloning.active
    none = Cloning(CloningSettings("x", updates_before=5, anneal_samples=0), demonstrated(HYBRID), policy_of(HYBRID), 0)
    assert not none.active


@pytest.mark.parametrize("kind", ["ppo", "sac"])
def test_updates_before_make_the_policy_do_what_was_demonstrated(kind):
    spec = BehaviorSpec("b", (ObservationSpec("vector", (2,), "float32"),), 1, (2, 2))
    rows = demonstrated(spec, 200)
    # What is right follows from the observation, and the second branch goes with the first.
    fields, numbers = rows.fields, slice(1, 201)
    fields["continuous"][numbers, 0] = fields["observation_0"][numbers, 1].clip(-0.8, 0.8)
    fields["discrete"][numbers, 0] = fields["observation_0"][numbers, 0] > 0
    fields["discrete"][numbers, 1] = 1 - fields["discrete"][numbers, 0]
    policy = Policy(spec, NetworkSettings([32], normalize=False), kind)
    spread = None if policy.log_std is None else policy.log_std.clone()
    cloning = Cloning(CloningSettings("x", updates_before=800, batch_size=64), rows, policy, 0)
    while cloning.updates_left:
        cloning.update()
    observations = (fields["observation_0"][numbers].copy(),)
    nothing = np.zeros((200, 0), np.float32)
    continuous, discrete, *_ = policy.act(observations, fields["mask"][numbers], nothing, None, deterministic=True)
    assert (discrete == fields["discrete"][numbers]).mean() > 0.95
    assert abs(continuous - fields["continuous"][numbers]).mean() < 0.15
    assert spread is None or torch.equal(policy.log_std, spread)


def test_passes_go_through_all_demonstrations_with_a_rate_of_their_own(monkeypatch):
    settings = CloningSettings("x", strength=0.5, anneal_samples=100, learning_rate=0.01, batch_size=32, epochs=2)
    cloning = Cloning(settings, demonstrated(HYBRID, 100), policy_of(HYBRID), 0)
    rates, seen = [], []
    step = cloning._step
    monkeypatch.setattr(
        cloning,
        "_step",
        lambda chosen, sampled: (
            rates.append(float(cloning._optimizer.learning_rate)),
            seen.append(chosen),
            step(chosen, sampled),
        ),
    )
    assert not cloning.active  # it is no part of the algorithm's loss
    cloning.set_progress(50)
    cloning.passes()
    assert rates == pytest.approx([0.01 * 0.5 * 0.5] * 6)  # 100 // 32 batches a pass
    assert all(len(torch.cat(seen[i : i + 3]).unique()) == 96 for i in (0, 3))
    assert not torch.equal(seen[0], seen[3])
    cloning.set_progress(100)
    cloning.passes()
    assert len(rates) == 6


def test_passes_over_some_demonstrations_take_no_more_of_them():
    settings = CloningSettings("x", batch_size=8, epochs=3, epoch_samples=20)
    cloning = Cloning(settings, demonstrated(HYBRID, 100), policy_of(HYBRID), 0)
    cloning.passes()
    assert int(cloning._optimizer.steps) == 3 * 2


def test_the_loss_of_drawn_actions_narrows_the_spread():
    log_std = torch.zeros(1, requires_grad=True)
    gaussian = Gaussian(torch.zeros(1000, 1), log_std)
    drawn, _ = gaussian.sample(torch.Generator().manual_seed(0))
    distribution = ActionDistribution(gaussian, None)
    loss = cloning_loss(distribution, torch.zeros(1000, 1), torch.zeros(1000, 0).long(), None, drawn)
    assert torch.autograd.grad(loss, log_std)[0].item() == pytest.approx(2, abs=0.3)  # of the square of the deviation
