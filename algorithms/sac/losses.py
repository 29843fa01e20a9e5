"""Losses of soft actor-critic and their gradients, by hand, as pure functions.

Shapes: N rows, S = 2 critics, C continuous actions, B branches as they are chosen, K choices of the largest,
T = (C > 0) + B action blocks, each with a temperature. Values are q: (S, N, B, K) heads of choices, (S, N) without
branches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from algorithms.metrics import column_mean, mean
from algorithms.networks.distributions import Categorical


class Sampled(NamedTuple):
    """One action of a policy for each row: the continuous part drawn, the branches as whole distributions."""

    continuous: Tensor
    """(N, C)."""
    log_prob: Tensor
    """(N,) of the continuous part."""
    discrete: Categorical | None

    def split(self, count: int) -> tuple[Sampled, Sampled]:
        """The first `count` rows, and the others."""
        first, others = slice(count), slice(count, None)
        return self._part(first), self._part(others)

    def _part(self, rows: slice) -> Sampled:
        discrete = None if self.discrete is None else Categorical(self.discrete.log_probs[rows])
        return Sampled(self.continuous[rows], self.log_prob[rows], discrete)


class Gradients(NamedTuple):
    """Of a loss of what a policy does, at N rows; None of what it has not."""

    worth: Tensor | None
    """As q: of the values of continuous actions."""
    continuous: Tensor | None
    """(N, C)."""
    log_prob: Tensor | None
    """(N,)."""
    log_probs: Tensor | None
    """(N, B, K) of the branches."""


def soft_values(sampled: Sampled, worth: Tensor, temperatures: Tensor) -> Tensor:
    """(N,) expected value plus entropy of a policy, whose actions are `worth` so much: (N, B, K) or (N,)."""
    if sampled.discrete is not None:
        worth = (sampled.discrete.log_probs.exp() * _surprising(sampled.discrete, worth, temperatures)).sum((-2, -1))
    return _with_entropy(worth, sampled, temperatures)


def policy_loss(sampled: Sampled, q: Tensor, temperatures: Tensor, weights: Tensor) -> tuple[Tensor, Gradients]:
    """() what soft values of a policy's actions fall short of 0 on average, by the smaller of their values q.

    `weights` (N,) of the rows add up to 1.
    """
    worth, critics = q.min(0)
    minus, of_log_probs = -weights, None
    of_worth = minus
    if sampled.discrete is not None:
        log_probs = sampled.discrete.log_probs
        probabilities, surprising = log_probs.exp(), _surprising(sampled.discrete, worth, temperatures)
        worth = (probabilities * surprising).sum((-2, -1))
        of_worth = probabilities * minus[:, None, None]
        of_log_probs = of_worth * (surprising - temperatures[-log_probs.shape[1] :, None])
    loss = _with_entropy(worth, sampled, temperatures) @ minus
    if not sampled.continuous.shape[1]:
        return loss, Gradients(None, None, None, of_log_probs)
    of_q = torch.zeros_like(q).scatter_(0, critics[None], of_worth[None])
    return loss, Gradients(of_q, None, temperatures[:1] * weights, of_log_probs)


def _surprising(discrete: Categorical, worth: Tensor, temperatures: Tensor) -> Tensor:
    """(N, B, K) what choices are worth, and pay for being unlikely."""
    return worth - temperatures[-worth.shape[1] :, None] * discrete.log_probs


def _with_entropy(worth: Tensor, sampled: Sampled, temperatures: Tensor) -> Tensor:
    """(N,) that, and what continuous actions pay for being unlikely."""
    if not sampled.continuous.shape[1]:
        return worth
    return torch.addcmul(worth, temperatures[:1], sampled.log_prob, value=-1)


def critic_loss(q: Tensor, discrete: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """() mean squared error of both critics' values of choices (N, B) against targets (N,), and its gradient by q.

    The value of choices is the sum of their heads. `weights` (N,) of the rows add up to 1.
    """
    if q.dim() == 2:
        return _squared_errors(q - targets, weights)
    choices = discrete[None, ..., None].expand(len(q), -1, -1, 1)
    loss, of_values = _squared_errors(q.gather(-1, choices).sum((-2, -1)) - targets, weights)
    return loss, torch.zeros_like(q).scatter_(-1, choices, of_values[..., None, None].expand_as(choices))


def _squared_errors(errors: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """() weighted mean of squares over both critics, and the gradient (S, N) by the errors."""
    gradient = errors * (weights * (2 / len(errors)))
    return (errors * gradient).sum() / 2, gradient


def block_entropies(sampled: Sampled, loss_mask: Tensor | None = None) -> Tensor:
    """(T,) mean entropy of each action block."""
    if sampled.discrete is None:
        return -mean(sampled.log_prob, loss_mask)[None]
    entropies = column_mean(sampled.discrete.entropy(), loss_mask)
    if not sampled.continuous.shape[1]:
        return entropies
    return torch.cat([-mean(sampled.log_prob, loss_mask)[None], entropies])


def temperature_gradient(entropies: Tensor, target_entropies: Tensor) -> Tensor:
    """(T,) of log temperatures: raises a block's while its entropy is below its target.

    It is that of log temperature * (entropy - target), where the entropy counts as a constant.
    """
    return entropies - target_entropies
