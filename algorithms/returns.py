"""Advantages and value targets of a rollout: GAE and V-trace as one backward recursion.

Shapes: N rows, agent by agent, each agent's rows in the order of time; `...` nothing, or V values.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def estimate_returns(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    linked: Tensor,
    weights: Tensor,
    discount: float | Tensor,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Returns advantages (..., N) for the policy and targets (..., N) for the values.

    They are V-trace's (arXiv 1802.01561) with lambda; with weights of 1 exactly GAE's (arXiv 1506.02438).

    Args:
        rewards: (..., N) what each row's action earned.
        values: (..., N) of the rows.
        next_values: (..., N) of what followed each row, 0 where the episode terminated.
        linked: (N,) bool, whether row i + 1 follows row i in the same episode; False for the last row.
        weights: (N,) truncated importance weights of the policy learned over the policy that acted.
        discount: weight of a reward one step later; (V, 1) of each value.
        gae_lambda: decay of multi-step corrections.
    """
    deltas = rewards + discount * next_values - values
    decay = discount * gae_lambda * linked.to(values.dtype)
    corrections = accumulate_backward(weights * deltas, decay * weights)
    following = F.pad(corrections[..., 1:], (0, 1))
    return deltas + decay * following, values + corrections


def accumulate_backward(values: Tensor, decay: Tensor) -> Tensor:
    """(..., N) `total[i] = values[i] + decay[i] * total[i + 1]`, in log2(N) rounds of whole-vector operations.

    A recursion row by row would take thousands of launches for one rollout.
    """
    shift = 1
    while shift < values.shape[-1]:
        ahead_values, ahead_decay = F.pad(values[..., shift:], (0, shift)), F.pad(decay[..., shift:], (0, shift))
        values = values + decay * ahead_values
        decay = decay * ahead_decay
        shift *= 2
    return values


def n_step_returns(rewards: Tensor, discounts: Tensor) -> Tensor:
    """(B * (S - n + 1),) sums over n steps from each one on, of rewards (B, S).

    `discounts` (n,) weight the steps of a sum.
    """
    if rewards.shape[1] == len(discounts):
        return rewards @ discounts
    return (rewards.unfold(1, len(discounts), 1) @ discounts).flatten()
