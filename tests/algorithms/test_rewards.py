import torch

from algorithms.rewards import ScoredRows, make_signals, total_score
from algorithms.settings import ExtrinsicSettings, RewardSettings


def test_extrinsic_reward_is_weighted_by_its_strength():
    signals = make_signals(RewardSettings(ExtrinsicSettings(0.5)))
    assert total_score(signals, ScoredRows(torch.tensor([[2.0, -4.0]]))).tolist() == [[1.0, -2.0]]


def test_signals_add_up():
    signals = make_signals(RewardSettings()) + make_signals(RewardSettings(ExtrinsicSettings(2.0)))
    assert total_score(signals, ScoredRows(torch.tensor([1.0]))).tolist() == [3.0]
