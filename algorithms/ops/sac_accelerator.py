"""The update of SAC with gradients by hand: what `algorithms.sac.update` computes, in less time.

It serves MLPs as policy and critics, and steps aside for all else. Nothing here changes a result.

Shapes: as in `sac.py`; O outputs of the policy's head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from algorithms.metrics import variance
from algorithms.networks.distributions import Categorical, SquashedGaussian
from algorithms.networks.inputs import Encoder
from algorithms.networks.mlp import MLP, StackedMLP
from algorithms.off_policy import OffPolicyBatch
from algorithms.ops.manual_grad import DensePass, SquashedPass, StackedPass
from algorithms.policy import LOG_STD_RANGE, Policy
from algorithms.sac.critic import ADVANTAGE_SCALE, Critic
from algorithms.sac.losses import SampledAction, block_entropies, min_soft_value, soft_value, temperature_loss
from algorithms.sac.update import Losses, Networks

Update = Callable[[OffPolicyBatch, Tensor], tuple[Losses, list[Tensor]]]


def accelerated_update(networks: Networks) -> Update | None:
    """What gives losses and gradients of a batch and target entropies; None for networks that are not known here."""
    policy, critic = networks.policy, networks.critic
    known = type(policy) is Policy and type(critic) is Critic
    known &= type(policy.trunk) is MLP and type(critic.stack) is StackedMLP and critic.values == 1
    for network in (policy, critic):
        known &= network.recurrent_layer is None and type(network.encoder) is Encoder and network.encoder.is_flat
    return partial(_update, networks) if known else None


@torch.no_grad()
def _update(networks: Networks, batch: OffPolicyBatch, target_entropies: Tensor) -> tuple[Losses, list[Tensor]]:
    policy, critic, _, target_critic, log_temperatures = networks
    count, loss_mask, returns = len(batch.returns), batch.loss_mask, batch.returns
    weights = torch.full_like(returns, 1 / count) if loss_mask is None else loss_mask / loss_mask.sum().clamp(min=1)
    alpha = log_temperatures.exp()
    all_observed = policy.prepare(batch.observations)[0]
    observed, next_observed = all_observed.chunk(2)
    policy_pass = DensePass(cast(MLP, policy.trunk), policy.head, all_observed)
    sampling = _Sampling(policy, policy_pass.outputs, batch)
    action, next_action = sampling.action(slice(count)), sampling.action(slice(count, None))

    # Actions taken and the policy's go through the critics together.
    continuous = action.continuous if action.continuous.shape[1] else None
    critic_pass = StackedPass(critic.stack, observed, batch.continuous, continuous)
    q = critic.by_head(critic_pass.outputs)
    policy_q = q if critic_pass.evaluated is None else critic.by_head(critic_pass.evaluated)
    target_pass = StackedPass(target_critic.stack, next_observed, next_action.continuous)
    next_q = target_critic.by_head(target_pass.outputs)
    target_q = torch.addcmul(returns, batch.next_discount, min_soft_value(next_q, next_action, alpha))

    loss_critic, of_q, errors = _critic_loss(q, batch.discrete, target_q, weights)
    loss_policy, of_action = _policy_loss(policy_q, action, alpha, weights)
    of_evaluated = None if of_action.q is None else _of_outputs(critic, of_action.q)
    of_continuous, of_critic = critic_pass.gradients(_of_outputs(critic, of_q), of_evaluated)
    gradients = [*policy_pass.gradients(sampling.of_outputs(of_action, of_continuous)), *of_critic]
    entropies = block_entropies(action, loss_mask)
    if log_temperatures.requires_grad:
        gradients.append(entropies - target_entropies)
    loss_temperature = temperature_loss(log_temperatures, entropies, target_entropies)
    value, variances = target_q @ weights, (variance(errors, loss_mask), variance(target_q, loss_mask))
    return Losses(loss_critic, loss_policy, loss_temperature, value, *variances, entropies, alpha), gradients


class _OfAction(NamedTuple):
    """The gradient of the policy's loss by what it sees of actions; None of what they lack."""

    q: Tensor | None
    """As q: of the values of continuous actions."""
    log_prob: Tensor | None
    """(N,)."""
    log_probs: Tensor | None
    """(N, B, K) of the branches."""


class _Sampling:
    """What the policy does at steps and ends (2 * N rows) where its head says `outputs` (2 * N, O)."""

    def __init__(self, policy: Policy, outputs: Tensor, batch: OffPolicyBatch) -> None:
        self._outputs = outputs
        continuous, self._discrete = policy.distribution_of(outputs, batch.mask)
        self._squashed = SquashedPass(continuous, batch.noise) if isinstance(continuous, SquashedGaussian) else None
        if self._squashed is not None:
            self._continuous, self._log_prob = self._squashed.actions, self._squashed.log_prob
        else:
            self._continuous, self._log_prob = batch.noise, batch.noise.sum(-1)

    def action(self, rows: slice) -> SampledAction:
        """That at some rows."""
        discrete = None if self._discrete is None else Categorical(self._discrete.log_probs[rows])
        return SampledAction(self._continuous[rows], self._log_prob[rows], discrete)

    def of_outputs(self, of_action: _OfAction, of_continuous: Tensor | None) -> Tensor:
        """(N, O) gradient of the outputs at steps."""
        parts = []
        if self._squashed is not None and of_continuous is not None and of_action.log_prob is not None:
            of_mean, of_log_std = self._squashed.gradients(of_continuous, of_action.log_prob)
            size = of_mean.shape[1]
            raw = self._outputs[: len(of_mean), size : 2 * size]
            parts += [of_mean, torch.ops.aten.hardtanh_backward(of_log_std, raw, *LOG_STD_RANGE)]
        if self._discrete is not None and of_action.log_probs is not None:
            log_probs = self._discrete.log_probs[: len(of_action.log_probs)]
            of_logits = torch.ops.aten._log_softmax_backward_data(of_action.log_probs, log_probs, -1, log_probs.dtype)
            parts.append(of_logits.flatten(1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _critic_loss(q: Tensor, discrete: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`critic_loss`, its gradient by q, and the errors (S, N); `weights` (N,) of the rows add up to 1."""
    if q.dim() == 2:
        errors = q - targets
        return *_squared_errors(errors, weights), errors
    choices = discrete[None, ..., None].expand(len(q), -1, -1, 1)
    errors = q.gather(-1, choices).sum((-2, -1)) - targets
    loss, of_values = _squared_errors(errors, weights)
    of_q = torch.zeros_like(q).scatter_(-1, choices, of_values[..., None, None].expand_as(choices))
    return loss, of_q, errors


def _squared_errors(errors: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """() weighted mean of squares over both critics, and the gradient (S, N) by the errors."""
    gradient = errors * (weights * (2 / len(errors)))
    return (errors * gradient).sum() / 2, gradient


def _policy_loss(q: Tensor, action: SampledAction, alpha: Tensor, weights: Tensor) -> tuple[Tensor, _OfAction]:
    """`policy_loss`, and its gradient; `weights` (N,) of the rows add up to 1."""
    if q.dim() == 4 and q.shape[2] > 1:  # the critic that says less of all branches together
        critics = soft_value(q, action, alpha).argmin(0)[:, None, None].expand(q.shape[1:])
        min_q = q.gather(0, critics[None])[0]
    else:
        min_q, critics = q.min(0)
    loss = soft_value(min_q, action, alpha) @ -weights
    of_min_q, of_log_probs = -weights, None
    if action.discrete is not None:
        log_probs = action.discrete.log_probs
        branch_alpha = alpha[-log_probs.shape[1] :, None]
        of_min_q = log_probs.exp() * of_min_q[:, None, None]
        of_log_probs = of_min_q * (min_q - branch_alpha * log_probs - branch_alpha)
    if not action.continuous.shape[1]:
        return loss, _OfAction(None, None, of_log_probs)
    of_q = torch.zeros_like(q).scatter_(0, critics[None], of_min_q[None])
    return loss, _OfAction(of_q, alpha[:1] * weights, of_log_probs)


def _of_outputs(critic: Critic, of_q: Tensor) -> Tensor:
    """(S, O, N) gradient of the critics' stack's outputs, from that of q."""
    if of_q.dim() == 2:
        return of_q.unsqueeze(1)
    if critic.dueling:
        of_advantages = (of_q - of_q.mean(-1, keepdim=True)) * ADVANTAGE_SCALE
        of_q = torch.cat([of_q.sum(-1, keepdim=True), of_advantages], dim=-1)
    return of_q.flatten(2).mT
