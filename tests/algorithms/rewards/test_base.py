"""Signals are scored apart, and summed for the values that an algorithm learns."""

import pytest
import torch

from algorithms.imitation.demonstrations import Steps
from algorithms.rewards.base import Rewards, RewardSignal, Scores

CPU = torch.device("cpu")
STEPS = Steps((), *torch.zeros(3, 4, 0), torch.zeros(4, dtype=torch.bool), ())
GIVEN = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


class Constant(RewardSignal):
    """A signal that pays every step and the absorbing state the same."""

    def __init__(self, reward, strength=1.0):
        self.reward, self.strength = reward, torch.tensor(strength)

    def score(self, steps):
        return Scores(torch.full((len(steps.mask),), self.reward), torch.tensor(self.reward))


def two(**more):
    return Rewards(2.0, {"one": Constant(0.5, strength=0.5), "two": Constant(-1.0)}, CPU, **more)


def scaled(scales, **more):
    rewards = two(normalize=True, **more)
    rewards.load_weights(
        {
            name: torch.tensor([9.0, 0.0, 0.0, 0.0, scale], dtype=torch.float64)
            for name, scale in zip(("extrinsic", "one", "two"), scales)
        }
    )
    return rewards


def test_the_environments_reward_is_weighted_by_its_strength():
    rewards = Rewards(0.5, {}, CPU)
    earned = rewards.combine(rewards.score(torch.tensor([[2.0, -4.0]]), None))
    assert earned.rewards.tolist() == [[[1.0, -2.0]]]
    assert earned.absorbing.tolist() == [0.0]
    assert not rewards.look


def test_signals_add_up_in_the_shape_of_the_rewards():
    rewards = two(discount=0.5)
    earned = rewards.combine(rewards.score(GIVEN, STEPS))
    assert earned.rewards.tolist() == [[[1.25, 3.25], [5.25, 7.25]]]
    assert earned.absorbing.tolist() == [-0.75 / 0.5], "what is paid for ever"


def test_metrics_are_what_each_signal_pays_a_row_that_counts():
    rewards = two()
    rewards.log(rewards.score(GIVEN, STEPS), torch.tensor([[True, False], [True, False]]))
    assert rewards.metrics() == {"reward/extrinsic": 4.0, "reward/one": 0.25, "reward/two": -1.0}
    rewards.log(rewards.score(GIVEN, STEPS))
    assert rewards.metrics() == {"reward/extrinsic": 5.0, "reward/one": 0.25, "reward/two": -1.0}


def test_a_signal_counts_by_its_strength_over_its_scale():
    rewards = scaled((4.0, 0.25, 2.0), discount=0.5)
    earned = rewards.combine(rewards.score(GIVEN, STEPS))
    # 2 / 4 * reward + 0.5 / 0.25 * 0.5 - 1 / 2
    assert earned.rewards.tolist() == [[[1.0, 1.5], [2.0, 2.5]]]
    assert earned.absorbing.tolist() == [(0.5 * 0.5 / 0.25 - 1 / 2) / 0.5]
    assert rewards.units.tolist() == [pytest.approx((2 * 4 + 0.5 * 0.25 + 2) / 3.5)]
    assert rewards.metrics()["reward/one_return_scale"] == 0.25


def test_a_value_for_each_signal_is_in_its_own_units():
    rewards = scaled((4.0, 0.25, 2.0), discount=0.5, value_of="signal")
    earned = rewards.combine(rewards.score(GIVEN, STEPS))
    assert earned.rewards.flatten(1).tolist() == [[0.25, 0.5, 0.75, 1.0], [2.0] * 4, [-0.5] * 4]
    assert earned.absorbing.tolist() == [0.0, 4.0, -1.0]
    assert rewards.value_weights.tolist() == [2.0, 0.5, 1.0]
    assert rewards.units.tolist() == [8.0, 0.125, 2.0]


@pytest.mark.parametrize("value_of", ["discount", "signal"])
def test_signals_of_one_discount_make_a_value_in_raw_units(value_of):
    rewards = two(discount=0.5, discounts=[0.5, 0.75, 0.5], value_of=value_of)
    assert rewards.discounts == [0.5, 0.75]
    earned = rewards.combine(rewards.score(GIVEN, STEPS))
    assert earned.rewards.flatten(1).tolist() == [[1.0, 3.0, 5.0, 7.0], [0.25] * 4]
    assert earned.absorbing.tolist() == [-1.0 / 0.5, 0.25 / 0.25]


def test_the_algorithms_discount_has_a_value_even_if_no_signal_is_of_it():
    rewards = Rewards(1.0, {}, CPU, 0.5, [0.9], True, "discount")
    assert rewards.discounts == [0.5, 0.9]
    assert rewards.combine(rewards.score(GIVEN, None)).rewards.flatten(1).tolist() == [[0.0] * 4, [1.0, 2.0, 3.0, 4.0]]


def test_a_reward_newer_than_the_scales_is_cut_off():
    """A return is within 10 scales, and a reward the difference of two."""
    rewards = scaled((4.0, 0.25, 2.0))
    earned = rewards.combine(rewards.score(torch.tensor([[1e9, -1e9], [0.0, 79.0]]), STEPS))
    assert (earned.rewards.flatten() * 2).tolist() == [81.0, -79.0, 1.0, 80.0]
