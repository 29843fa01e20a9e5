import torch

from algorithms.imitation.demonstrations import Steps
from algorithms.rewards.base import Rewards, RewardSignal, Scores

CPU = torch.device("cpu")
STEPS = Steps((), *torch.zeros(3, 4, 0), torch.zeros(4, dtype=torch.bool), ())


class Constant(RewardSignal):
    """A signal that pays every step and the absorbing state the same."""

    def __init__(self, reward, strength=1.0):
        self.reward, self.strength = reward, torch.tensor(strength)

    def score(self, steps):
        return Scores(torch.full((len(steps.mask),), self.reward), torch.tensor(self.reward))


def test_the_environments_reward_is_weighted_by_its_strength():
    rewards = Rewards(0.5, {}, CPU)
    scores = rewards.score(torch.tensor([[2.0, -4.0]]), None)
    assert scores.rewards.tolist() == [[1.0, -2.0]]
    assert scores.absorbing == 0
    assert not rewards.look


def test_signals_add_up_in_the_shape_of_the_rewards():
    rewards = Rewards(2.0, {"one": Constant(0.5, strength=0.5), "two": Constant(-1.0)}, CPU)
    scores = rewards.score(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), STEPS)
    assert scores.rewards.tolist() == [[1.25, 3.25], [5.25, 7.25]]
    assert scores.absorbing == -0.75
    rewards.score(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), STEPS, torch.tensor([[True, False], [True, False]]))
    assert rewards.metrics() == {"reward/extrinsic": 4.5, "reward/one": 0.25, "reward/two": -1.0}
    rewards.score(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), STEPS)
    assert rewards.metrics() == {"reward/extrinsic": 5.0, "reward/one": 0.25, "reward/two": -1.0}
