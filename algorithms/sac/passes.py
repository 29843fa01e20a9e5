"""Forward passes of SAC's networks, and what makes their parameters' gradients of those of their outputs.

Networks that are nothing but MLPs have both by hand, others (a memory, images, a user's own) by autograd.

Shapes: as in `sac.py`; O outputs of the policy's head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from algorithms.networks.distributions import SquashedGaussian
from algorithms.off_policy import OffPolicyBatch
from algorithms.policy import LOG_STD_RANGE, Policy
from algorithms.sac.critic import Critic
from algorithms.sac.losses import Gradients, Sampled

Inputs = tuple[Tensor, ...]


def policy_pass(
    policy: Policy, inputs: Inputs, batch: OffPolicyBatch
) -> tuple[Tensor, Callable[[Tensor], Sequence[Tensor]]]:
    """(2 * N, O) outputs at steps, then at ends; and the parameters' gradient, from that (N, O) of those at steps.

    `inputs` are those of all places.
    """
    if policy.is_mlp:
        passed = policy.trunk.by_hand(policy.encoder(inputs), policy.head)
        return passed.outputs, lambda of_outputs: passed.gradients(of_outputs)[2:]
    count, parameters = len(batch.returns), list(policy.parameters())
    with torch.enable_grad():
        if batch.places is None:
            at_steps = policy.head(policy.features(tuple(x[:count] for x in inputs), batch.memory)[0])
        else:
            features, _ = policy.features(inputs, batch.memory)
            at_steps, at_ends = policy.head(features[batch.places]).split(count)
    if batch.places is None:
        at_ends = policy.head(policy.features(tuple(x[count:] for x in inputs), batch.memory)[0])
    outputs = torch.cat([at_steps.detach(), at_ends.detach()])
    return outputs, lambda of_outputs: torch.autograd.grad(at_steps, parameters, of_outputs)


def sample(policy: Policy, outputs: Tensor, batch: OffPolicyBatch) -> tuple[Sampled, Callable[[Gradients], Tensor]]:
    """(2 * N rows) what the policy does; and the gradient (N, O) of outputs at steps, from that of what it does."""
    distribution = policy.distribution_of(outputs, batch.mask)
    continuous, discrete = distribution.continuous, distribution.discrete
    if isinstance(continuous, SquashedGaussian):
        squashed = continuous.by_hand(batch.noise)
        actions, log_prob = squashed.outputs
        sampled = Sampled(actions, log_prob, discrete)
    else:
        sampled = Sampled(batch.noise, batch.noise.sum(-1), discrete)

    def gradient(of: Gradients) -> Tensor:
        parts = []
        if isinstance(continuous, SquashedGaussian):
            of_mean, of_log_std, _ = squashed.gradients(of.continuous, of.log_prob)
            size = of_mean.shape[1]
            raw = outputs[: len(of_mean), size : 2 * size]
            parts += [of_mean, torch.ops.aten.hardtanh_backward(of_log_std, raw, *LOG_STD_RANGE)]
        if discrete is not None and of.log_probs is not None:
            parts.append(discrete.gradient_of_logits(of.log_probs).flatten(1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    return sampled, gradient


class Judged(NamedTuple):
    """What critics say, and what follows from its gradient."""

    q: Tensor
    """Values of the steps' actions."""
    worth: Tensor | None
    """Values of what the policy does there."""
    gradients: Callable[[Tensor, Tensor | None], tuple[Tensor | None, Sequence[Tensor]]]
    """Of what the policy does, (N, C), and of the parameters, from those of both values."""


def critic_pass(critic: Critic, inputs: Inputs, batch: OffPolicyBatch, judged: Tensor | None) -> Judged:
    """Values of the steps' actions and of (N, C) `judged`; `inputs` are those at steps, of all places with a memory."""
    if critic.is_mlp:
        passed = critic.stack.by_hand(critic.encoder(inputs), batch.continuous, judged)
        q, worth = passed.outputs
    else:
        parameters = list(critic.parameters())
        with torch.enable_grad():
            judged = None if judged is None else judged.requires_grad_()
            features = features_at(critic, inputs, batch, slice(len(batch.returns)))
            learned, beside = critic.stack(features, batch.continuous, judged)
        q, worth = learned.detach(), None if beside is None else beside.detach()

    def gradients(of_q: Tensor, of_worth: Tensor | None) -> tuple[Tensor | None, Sequence[Tensor]]:
        of_q, of_worth = critic.of_outputs(of_q), None if of_worth is None else critic.of_outputs(of_worth)
        if critic.is_mlp:
            _, _, of_judged, _, *of_parameters = passed.gradients(of_q, of_worth)
            return of_judged, of_parameters
        if judged is None:
            return None, torch.autograd.grad(learned, parameters, of_q)
        of_judged, *of_parameters = torch.autograd.grad((learned, beside), (judged, *parameters), (of_q, of_worth))
        return of_judged, of_parameters

    return Judged(critic.by_head(q), None if worth is None else critic.by_head(worth), gradients)


def features_at(critic: Critic, inputs: Inputs, batch: OffPolicyBatch, rows: slice) -> Tensor:
    """(N, F) of critics at their inputs, of which these rows of `batch.places` are taken if there is a memory."""
    features, _ = critic.features(inputs, batch.memory)
    return features if batch.places is None else features[batch.places[rows]]
