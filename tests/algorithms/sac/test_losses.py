"""Losses of soft actor-critic, computed by hand."""

import math

import pytest
import torch

from algorithms.networks.distributions import FORBIDDEN, Categorical
from algorithms.sac.losses import (
    SampledAction,
    block_entropies,
    critic_loss,
    min_soft_value,
    policy_loss,
    temperature_loss,
)

NO_ACTIONS = torch.zeros(1, 0)
NO_TEMPERATURES = torch.zeros(4)


def choosing(*branches, log_prob=None):
    """One row that chooses with these probabilities in each branch, beside a continuous action if it has `log_prob`."""
    width = max(map(len, branches))
    log_probs = torch.full((1, len(branches), width), FORBIDDEN)
    for i, probabilities in enumerate(branches):
        log_probs[0, i, : len(probabilities)] = torch.tensor(probabilities).log().clamp(min=FORBIDDEN)
    if log_prob is None:
        return SampledAction(NO_ACTIONS, torch.zeros(1), Categorical(log_probs))
    return SampledAction(torch.zeros(1, 1), torch.tensor([log_prob]), Categorical(log_probs))


def drawn(log_prob):
    return SampledAction(torch.zeros(1, 1), torch.tensor([log_prob]), None)


def heads(first, second):
    """Q (2, 1, B, K) of two critics."""
    return torch.tensor([[first], [second]])


def test_one_branch_is_worth_the_smaller_value_of_each_choice():
    # The smaller of the critics' values: 1 and 2.
    value = min_soft_value(heads([[1.0, 4.0]], [[3.0, 2.0]]), choosing([0.25, 0.75]), torch.tensor([0.5]))
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert value.item() == pytest.approx(0.25 * 1 + 0.75 * 2 + 0.5 * entropy)


def test_critics_that_agree_on_every_joint_action_have_their_common_value():
    # Heads moved by (+1, -1, 0) and (-1, +1, 0): their sums are the same, whatever is chosen.
    common = torch.tensor([[1.0, 2.0], [-3.0, 0.5], [0.0, 4.0]])
    moved = torch.tensor([[1.0], [-1.0], [0.0]])
    q = torch.stack([common + moved, common - moved])[:, None]
    action = choosing([0.5, 0.5], [0.25, 0.75], [1.0, 0.0])
    value = min_soft_value(q, action, NO_TEMPERATURES)
    assert value.item() == pytest.approx(1.5 + (0.25 * -3 + 0.75 * 0.5) + 0)


def test_the_minimum_over_two_branches_is_that_of_the_value():
    # Critic 1: 0.5 * 1 + 0.5 * 2 = 1.5 and 0.25 * 10 + 0.75 * 20 = 17.5; critic 2: 0.5 and 0.25 * 4 + 0.75 * 24 = 19.
    q = heads([[1.0, 2.0], [10.0, 20.0]], [[0.0, 1.0], [4.0, 24.0]])
    value = min_soft_value(q, choosing([0.5, 0.5], [0.25, 0.75]), torch.tensor([1.0, 0.1]))
    entropy = math.log(2) - 0.1 * (0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert value.item() == pytest.approx(19 + entropy), "head by head it would be 18.5 - 1"


def test_the_minimum_over_two_branches_beside_a_continuous_action_is_that_of_the_value():
    # Critic 1: 1.5 + 17.5 = 19; critic 2: 0.5 + 19 = 19.5.
    q = heads([[1.0, 2.0], [10.0, 20.0]], [[0.0, 1.0], [4.0, 24.0]])
    value = min_soft_value(q, choosing([0.5, 0.5], [0.25, 0.75], log_prob=2.0), torch.tensor([0.5, 0.0, 0.0]))
    assert value.item() == pytest.approx(19 - 0.5 * 2), "head by head it would be 18 - 1"


@pytest.mark.parametrize("continuous", [False, True])
def test_the_minimum_over_three_branches_is_that_of_the_value(continuous):
    q = heads([[1.0, 2.0], [10.0, 20.0], [0.0, 8.0]], [[5.0, 6.0], [0.0, 12.0], [1.0, 3.0]])
    action = choosing([0.5, 0.5], [1.0, 0.0], [0.5, 0.5], log_prob=2.0 if continuous else None)
    # Critic 1: 1.5 + 10 + 4 = 15.5; critic 2: 5.5 + 0 + 2 = 7.5. Branches 1 and 3 add entropies of ln 2.
    value = min_soft_value(q, action, torch.tensor([0.5, 0.1, 1.0, 0.2])[not continuous :])
    assert value.item() == pytest.approx(7.5 - 0.5 * 2 * continuous + 0.3 * math.log(2))


def test_each_row_has_a_smaller_critic_of_its_own():
    q = torch.tensor([[[[1.0], [1.0]], [[5.0], [5.0]]], [[[3.0], [0.0]], [[9.0], [0.0]]]])
    log_probs = torch.zeros(2, 2, 1)
    action = SampledAction(torch.zeros(2, 0), torch.zeros(2), Categorical(log_probs))
    assert min_soft_value(q, action, NO_TEMPERATURES).tolist() == [2, 9]


def test_every_block_has_its_own_temperature():
    action = choosing([0.5, 0.5], [0.5, 0.5], log_prob=-3.0)
    value = min_soft_value(torch.ones(2, 1, 2, 2), action, torch.tensor([0.1, 1.0, 10.0]))
    assert value.item() == pytest.approx(2 + 0.1 * 3 + 1.0 * math.log(2) + 10 * math.log(2))


def test_continuous_value_is_the_smaller_critic_plus_entropy():
    value = min_soft_value(torch.tensor([[5.0], [4.0]]), drawn(2.0), torch.tensor([0.5]))
    assert value.item() == pytest.approx(4 - 0.5 * 2)


def test_policy_loss_of_continuous_actions_is_alpha_log_prob_minus_the_smaller_q():
    q, log_prob = torch.tensor([[5.0, 1.0], [4.0, 3.0]], requires_grad=True), torch.tensor([2.0, -1.0])
    action = SampledAction(torch.zeros(2, 1), log_prob.requires_grad_(), None)
    loss = policy_loss(q, action, torch.tensor([0.5]))
    assert loss.item() == pytest.approx(((0.5 * 2 - 4) + (0.5 * -1 - 1)) / 2)
    of_q, of_log_prob = torch.autograd.grad(loss, [q, log_prob])
    assert of_q.tolist() == [[0, -0.5], [-0.5, 0]]
    assert of_log_prob.tolist() == [0.25, 0.25]


@pytest.mark.parametrize("continuous", [False, True])
def test_policy_over_several_branches_follows_the_critic_whose_value_is_smaller(continuous):
    # The values of the test of two branches: critic 1 says 19, critic 2 says 19.5.
    q = heads([[1.0, 2.0], [10.0, 20.0]], [[0.0, 1.0], [4.0, 24.0]]).requires_grad_()
    logits = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]).log().requires_grad_()
    actions, log_prob = (torch.zeros(1, 1), torch.tensor([2.0])) if continuous else (NO_ACTIONS, torch.zeros(1))
    action = SampledAction(actions, log_prob, Categorical(logits.log_softmax(-1)))
    loss = policy_loss(q, action, torch.zeros(3) if not continuous else torch.tensor([0.5, 0.0, 0.0]))
    assert loss.item() == pytest.approx(-19 + 0.5 * 2 * continuous)
    of_q, of_logits = torch.autograd.grad(loss, [q, logits])
    torch.testing.assert_close(of_q, heads([[-0.5, -0.5], [-0.25, -0.75]], [[0.0, 0.0], [0.0, 0.0]]))
    # Of a branch of probabilities p and values q: -p (q - expected q).
    torch.testing.assert_close(of_logits, torch.tensor([[[0.25, -0.25], [0.25 * 7.5, -0.75 * 2.5]]]))


@pytest.mark.parametrize("continuous", [False, True])
def test_policy_over_three_branches_follows_the_critic_whose_value_is_smaller(continuous):
    # Critic 1: 1.5 + 10 + 4 = 15.5; critic 2: 5.5 + 6 + 2 = 13.5, though its first head says more.
    q = heads([[1.0, 2.0], [10.0, 10.0], [0.0, 8.0]], [[5.0, 6.0], [0.0, 12.0], [1.0, 3.0]]).requires_grad_()
    logits = torch.zeros(1, 3, 2, requires_grad=True)
    actions, log_prob = (torch.zeros(1, 1), torch.tensor([2.0])) if continuous else (NO_ACTIONS, torch.zeros(1))
    action = SampledAction(actions, log_prob, Categorical(logits.log_softmax(-1)))
    loss = policy_loss(q, action, torch.tensor([0.5, 0.1, 1.0, 0.2])[not continuous :])
    assert loss.item() == pytest.approx(-13.5 + 0.5 * 2 * continuous - 1.3 * math.log(2))
    of_q, of_logits = torch.autograd.grad(loss, [q, logits])
    torch.testing.assert_close(of_q, heads([[0.0] * 2] * 3, [[-0.5] * 2] * 3))
    # Each branch is even, so its entropy has no slope: -p (q - expected q).
    torch.testing.assert_close(of_logits, torch.tensor([[[0.25, -0.25], [3.0, -3.0], [0.5, -0.5]]]))


def test_policy_over_one_branch_follows_the_smaller_value_of_each_choice():
    q = heads([[1.0, 4.0]], [[3.0, 2.0]])
    logits = torch.tensor([[[0.25, 0.75]]]).log().requires_grad_()
    loss = policy_loss(
        q, SampledAction(NO_ACTIONS, torch.zeros(1), Categorical(logits.log_softmax(-1))), torch.zeros(1)
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, torch.tensor([[[0.25 * 0.75, -0.75 * 0.25]]]))


def test_values_of_choices_add_up_over_branches():
    q = heads([[1.0, 2.0], [10.0, 20.0]], [[3.0, 4.0], [30.0, 40.0]]).requires_grad_()
    loss = critic_loss(q, torch.tensor([[1, 0]]), torch.tensor([10.0]))
    assert loss.item() == ((12 - 10) ** 2 + (34 - 10) ** 2) / 2
    (gradient,) = torch.autograd.grad(loss, q)
    assert gradient.tolist() == [[[[0, 2], [2, 0]]], [[[0, 24], [24, 0]]]]


def test_critic_loss_of_hand_computed_values():
    q = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    loss = critic_loss(q, torch.zeros(2, 0), torch.tensor([1.0, 1.0]))
    assert loss.item() == pytest.approx((0 + 1 + 4 + 9) / 4)
    (gradient,) = torch.autograd.grad(loss, q)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 1.0], [2.0, 3.0]]) / 2)


def test_masked_rows_count_in_no_loss():
    q, mask = torch.tensor([[1.0, 99.0], [3.0, -99.0]]), torch.tensor([1.0, 0.0])
    assert critic_loss(q, torch.zeros(2, 0), torch.tensor([1.0, 1.0]), mask).item() == pytest.approx((0 + 4) / 2)
    action = SampledAction(torch.zeros(2, 1), torch.tensor([2.0, 77.0]), None)
    assert policy_loss(q, action, torch.tensor([0.5]), mask).item() == pytest.approx(0.5 * 2 - 1)
    assert block_entropies(action, mask).tolist() == [-2]


def test_temperature_rises_where_the_entropy_is_below_its_target():
    log_temperatures = torch.tensor([-1.0, 2.0], requires_grad=True)
    loss = temperature_loss(log_temperatures, torch.tensor([0.1, 0.9]), torch.tensor([0.5, 0.5]))
    (gradient,) = torch.autograd.grad(loss, log_temperatures)
    torch.testing.assert_close(gradient, torch.tensor([-0.4, 0.4]))
