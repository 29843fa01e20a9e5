"""Losses of proximal policy optimisation as pure functions, with the decoupled objective of `algorithms.ppo.ppo`.

Shapes: N rows of a rollout, M rows of a minibatch, V values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from algorithms.metrics import column_mean, mean


def policy_loss(
    log_prob: Tensor,
    proximal_log_prob: Tensor,
    weights: Tensor,
    advantages: Tensor,
    clip: Tensor,
    loss_mask: Tensor | None = None,
) -> Tensor:
    """() the decoupled clipped objective, to be minimised, of (M,) rows.

    Log-probabilities (M, D) are those of an action's parts: each has a ratio of its own, and the mean of all counts, as
    in ML-Agents.
    """
    ratio = (log_prob - proximal_log_prob).exp()
    judged = advantages if ratio.dim() == 1 else advantages[:, None]
    objective = torch.minimum(ratio * judged, ratio.clamp(1 - clip, 1 + clip) * judged)
    return -mean(weights * (objective if ratio.dim() == 1 else objective.mean(-1)), loss_mask)


def value_loss(
    values: Tensor, old_values: Tensor, targets: Tensor, clip: float | None, loss_mask: Tensor | None = None
) -> Tensor:
    """(V,) half the squared error of (M, V) rows; a value that moved by more than `clip` earns nothing by going on."""
    errors = (values - targets).square()
    if clip is not None:
        clipped = old_values + (values - old_values).clamp(-clip, clip)
        errors = torch.maximum(errors, (clipped - targets).square())
    return 0.5 * column_mean(errors, loss_mask)


def importance_weights(proximal_log_prob: Tensor, behavior_log_prob: Tensor, largest: float) -> Tensor:
    """(N,) proximal over behaviour probability, truncated."""
    return (proximal_log_prob - behavior_log_prob).exp().clamp(max=largest)
