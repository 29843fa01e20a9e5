import math

import pytest
import torch
from torch import distributions as reference

from algorithms.networks.distributions import Branches, Gaussian, SquashedGaussian, chosen_branches

NO_MASK = torch.zeros(1, 0, dtype=torch.bool)


def generator():
    return torch.Generator().manual_seed(0)


def test_categorical_of_uneven_branches_agrees_with_the_reference():
    branches = Branches((2, 3), joint_choices=0)
    logits = torch.randn(4, 6, generator=generator())
    ours = branches.categorical(logits, torch.zeros(4, 0, dtype=torch.bool))
    first, second = reference.Categorical(logits=logits[:, :2]), reference.Categorical(logits=logits[:, 3:])
    choices = torch.tensor([[0, 2], [1, 0], [1, 1], [0, 1]])
    expected = first.log_prob(choices[:, 0]) + second.log_prob(choices[:, 1])
    torch.testing.assert_close(ours.log_prob(choices), expected)
    torch.testing.assert_close(ours.entropy(), torch.stack([first.entropy(), second.entropy()], 1))


def test_forbidden_choices_are_never_drawn_and_the_rest_as_often_as_they_should():
    branches = Branches((3, 2), joint_choices=0)
    mask = torch.tensor([[True, False, True, False, True]]).expand(20_000, -1)
    logits = torch.tensor([[0.0, 9.0, math.log(3), 5.0, 0.0, 99.0]]).expand(20_000, -1)
    drawn = branches.categorical(logits, mask).sample(generator())
    assert drawn[:, 0].bincount(minlength=3)[1] == 0
    assert drawn[:, 0].float().mean().item() == pytest.approx(1.5, abs=0.03)
    assert (drawn[:, 1] == 1).all()


def test_padding_is_never_drawn_even_if_nothing_is_allowed():
    branches = Branches((2, 5), joint_choices=0)
    mask = torch.zeros(2000, 7, dtype=torch.bool)
    categorical = branches.categorical(torch.zeros(2000, 10), mask)
    assert categorical.sample(generator()).amax(0).tolist() == [1, 4]
    assert categorical.entropy()[0].tolist() == pytest.approx([math.log(2), math.log(5)])
    assert torch.isfinite(categorical.log_probs).all()


def test_gradients_through_masks_are_finite():
    branches = Branches((3, 2), joint_choices=0)
    mask = torch.tensor([[False, False, False, True, False], [True, False, False, True, True]])
    logits = torch.zeros(2, 6, requires_grad=True)
    categorical = branches.categorical(logits, mask)
    (categorical.entropy().sum() + categorical.log_probs.exp().square().sum()).backward()
    assert torch.isfinite(logits.grad).all()


def test_number_of_allowed_choices_follows_the_mask():
    branches = Branches((3, 2), joint_choices=0)
    mask = torch.tensor([[True, True, False, True, False]])
    assert branches.log_choices(mask).exp().tolist() == [pytest.approx([2.0, 1.0])]
    assert branches.log_choices(NO_MASK).exp().tolist() == [pytest.approx([3.0, 2.0])]


def test_gaussian_agrees_with_the_reference():
    mean, log_std = torch.randn(5, 3, generator=generator()), torch.tensor([-0.1, -1.0, -0.5])
    ours, theirs = Gaussian(mean, log_std), reference.Normal(mean, log_std.exp())
    actions, log_prob = ours.sample(generator())
    torch.testing.assert_close(log_prob, theirs.log_prob(actions).sum(-1))
    torch.testing.assert_close(ours.log_prob(actions), log_prob)
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(-1)[0])


def test_no_entropy_is_paid_for_what_environments_clip():
    log_std = torch.tensor([-1.0, 0.0, 0.1, 3.0], requires_grad=True)
    entropy = Gaussian(torch.zeros(5, 4), log_std).entropy()
    assert entropy.item() == pytest.approx(4 * 0.5 * math.log(2 * math.pi * math.e) - 1)
    (gradient,) = torch.autograd.grad(entropy, log_std)
    assert gradient.tolist() == [1, 1, 0, 0]


def test_squashed_gaussian_agrees_with_the_reference():
    mean, log_std = torch.randn(5, 3, generator=generator()), torch.full((5, 3), -0.7)
    actions, log_prob = SquashedGaussian(mean, log_std).sample(generator())
    base = reference.Normal(mean.double(), log_std.double().exp())
    theirs = reference.TransformedDistribution(base, [reference.TanhTransform()])
    torch.testing.assert_close(log_prob.double(), theirs.log_prob(actions.double()).sum(-1), rtol=1e-3, atol=1e-3)


def test_squashed_gradients_agree_with_numeric_ones():
    mean, log_std, noise = torch.randn(3, 4, 2, dtype=torch.double, generator=generator())
    inputs = mean.clone().requires_grad_(), log_std.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: SquashedGaussian(m, s).actions(noise), inputs)


def test_squashed_log_prob_stays_finite_at_the_bounds():
    mean = torch.full((1, 2), 60.0, requires_grad=True)
    _, log_prob = SquashedGaussian(mean, torch.zeros(1, 2)).sample(generator())
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(mean.grad).all()


def test_few_branches_are_chosen_as_one():
    assert chosen_branches((3, 2), 6) == (6,)
    assert chosen_branches((3, 2), 5) == (3, 2)
    assert chosen_branches((62,), 8) == (62,)
    assert chosen_branches((), 8) == ()


def test_combinations_and_choices_are_each_others_inverse():
    branches = Branches((3, 2, 4), joint_choices=24)
    choices = torch.tensor([[a, b, c] for a in range(3) for b in range(2) for c in range(4)])
    index = branches.index(choices)
    assert index[:, 0].tolist() == list(range(24))
    assert torch.equal(branches.choices(index), choices)


def test_a_combination_is_allowed_if_all_its_choices_are():
    branches = Branches((3, 2), joint_choices=6)
    mask = torch.tensor([[True, False, True, True, False], [False, False, False, True, True]])
    allowed = ~branches.forbidden(mask)[:, 0]
    assert allowed[0].tolist() == [True, False, False, False, True, False]
    assert allowed[1].all(), "a branch that allows nothing counts as unmasked"
    assert branches.log_choices(mask).exp().round().tolist() == [[2], [6]]
    assert branches.forbidden(mask[:, :0]) is None
    assert branches.log_choices(mask[:, :0]).exp().round().tolist() == [[6]]
