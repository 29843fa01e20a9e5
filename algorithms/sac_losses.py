"""Losses of soft actor-critic as pure functions.

Shapes: N rows, S = 2 critics, C continuous actions, B branches as they are chosen, K choices of the largest,
T = (C > 0) + B action blocks, each with a temperature. Values are q: (S, N, B, K) heads of choices, (S, N) without
branches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from algorithms.bookkeeping import column_mean, mean
from algorithms.distributions import Categorical


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


def chosen_values(q: Tensor, discrete: Tensor) -> Tensor:
    """(S, N) values of the choices taken, (N, B)."""
    if q.dim() == 2:
        return q
    choices = discrete[None, ..., None].expand(len(q), -1, -1, 1)
    return q.gather(-1, choices)[..., 0].sum(-1)


def soft_values(sampled: Sampled, q: Tensor, temperatures: Tensor) -> Tensor:
    """(N,) expected value plus entropy of a policy."""
    smaller = q.min(0).values
    if sampled.discrete is None:
        return smaller - temperatures * sampled.log_prob
    log_probs = sampled.discrete.log_probs
    branches = log_probs.shape[1]
    values = (log_probs.exp() * (smaller - temperatures[-branches:, None] * log_probs)).sum((-2, -1))
    if sampled.continuous.shape[1]:
        values = values - temperatures[0] * sampled.log_prob
    return values


def critic_loss(values: Tensor, targets: Tensor, counted: Tensor | None = None) -> Tensor:
    """() mean squared error of both critics' values (S, N) against targets (N,)."""
    if counted is None:
        return F.mse_loss(values, targets.expand_as(values))
    return mean((values - targets).square(), counted)


def block_entropies(sampled: Sampled, counted: Tensor | None = None) -> Tensor:
    """(T,) mean entropy of each action block."""
    if sampled.discrete is None:
        return -mean(sampled.log_prob, counted)[None]
    entropies = column_mean(sampled.discrete.entropy(), counted)
    if not sampled.continuous.shape[1]:
        return entropies
    return torch.cat([-mean(sampled.log_prob, counted)[None], entropies])


def temperature_gradient(entropies: Tensor, target_entropies: Tensor) -> Tensor:
    """(T,) of log temperatures: raises a block's while its entropy is below its target.

    It is that of log temperature * (entropy - target), where the entropy counts as a constant.
    """
    return entropies - target_entropies
