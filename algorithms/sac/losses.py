"""Losses of soft actor-critic (arXiv 1812.05905; branches as in arXiv 1910.07207) as pure functions.

Shapes: N rows, S = 2 critics, C continuous actions, B branches as they are chosen, K choices of the largest,
T = (C > 0) + B action blocks, each with a temperature (alpha). q is (S, N, B, K), a head for each choice; the heads of
those that are chosen add up to the value of an action. Without branches it is (S, N). Signals of several discounts have
V values, and q is (S, V, N, ...): a policy is judged by their sum, and the first one includes the entropy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from algorithms.metrics import column_mean, mean
from algorithms.networks.distributions import Categorical


class SampledAction(NamedTuple):
    """An action of the policy for each row: its continuous part drawn, its branches as whole distributions."""

    continuous: Tensor
    """(N, C)."""
    log_prob: Tensor
    """(N,) of the continuous part."""
    discrete: Categorical | None


def critic_loss(q: Tensor, discrete: Tensor, targets: Tensor, loss_mask: Tensor | None = None) -> Tensor:
    """() mean squared error of both critics' values of actions taken, choices (N, B), against targets (N,), (V, N)."""
    q = taken_q(q, discrete)
    return mean(F.mse_loss(q, targets.expand_as(q), reduction="none"), loss_mask)


def policy_loss(q: Tensor, action: SampledAction, temperatures: Tensor, loss_mask: Tensor | None = None) -> Tensor:
    """() mean of alpha * log_prob - min q, as expected over the policy's choices."""
    return mean(-min_soft_value(q, action, temperatures), loss_mask)


def temperature_loss(log_temperatures: Tensor, entropies: Tensor, target_entropies: Tensor) -> Tensor:
    """() raises the temperature of a block (T,) while its entropy is below its target, and lowers it above."""
    return log_temperatures @ (entropies - target_entropies)


def min_soft_value(q: Tensor, action: SampledAction, temperatures: Tensor) -> Tensor:
    """(N,) soft value by the critic that says less (clipped double Q, arXiv 1802.09477).

    What a critic learns with several branches is the sum of their heads, to which a head may add what another one
    subtracts: the minimum is taken of the sum. The heads of one branch are values of actions, compared one by one.
    """
    if q.dim() == 4 and q.shape[2] > 1:
        return soft_value(q, action, temperatures).amin(0)
    return soft_value(q.min(0).values, action, temperatures)


def min_soft_values(q: Tensor, action: SampledAction, temperatures: Tensor) -> Tensor:
    """(V, N) parts of `min_soft_value` of the sum of q (S, V, N, ...): all are of the critic that says less of it."""
    total = q.sum(1)
    branches = q.dim() == 5
    by_branch = branches and q.shape[3] == 1
    smaller = total.argmin(0) if by_branch or not branches else soft_value(total, action, temperatures).argmin(0)
    places = smaller if smaller.dim() == q.dim() - 2 else smaller[:, None, None]
    chosen = q.gather(0, places.expand(1, *q.shape[1:]))[0]
    values = soft_value(chosen, action, torch.zeros_like(temperatures))
    entropy = soft_value(torch.zeros_like(chosen[0]), action, temperatures)
    return torch.cat([values[:1] + entropy, values[1:]])


def soft_value(q: Tensor, action: SampledAction, temperatures: Tensor) -> Tensor:
    """(..., N) the expectation of q - alpha * log_prob, q (..., N, B, K) or (..., N)."""
    value = q
    if action.discrete is not None:
        log_probs = action.discrete.log_probs
        alpha = temperatures[-log_probs.shape[1] :, None]
        value = (log_probs.exp() * (q - alpha * log_probs)).sum((-2, -1))
    if action.continuous.shape[1]:
        value = torch.addcmul(value, temperatures[:1], action.log_prob, value=-1)
    return value


def taken_q(q: Tensor, discrete: Tensor) -> Tensor:
    """(S, ..., N) of the choices (N, B) taken: the sum of their heads. Where there are none, q is that."""
    if not discrete.shape[1]:
        return q
    return q.gather(-1, discrete[..., None].expand(*q.shape[:-1], 1)).sum((-2, -1))


def block_entropies(action: SampledAction, loss_mask: Tensor | None = None) -> Tensor:
    """(T,) mean entropy of each action block."""
    entropies = []
    if action.continuous.shape[1]:
        entropies.append(-mean(action.log_prob, loss_mask)[None])
    if action.discrete is not None:
        entropies.append(column_mean(action.discrete.entropy(), loss_mask))
    return entropies[0] if len(entropies) == 1 else torch.cat(entropies)
