"""The update of soft actor-critic: what its networks say of a batch, and the losses that follow.

Shapes: as in `sac.py`; F features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from algorithms.metrics import mean, variance
from algorithms.networks.distributions import SquashedGaussian
from algorithms.off_policy import OffPolicyBatch
from algorithms.policy import Policy
from algorithms.sac.critic import Critic
from algorithms.sac.losses import (
    SampledAction,
    block_entropies,
    critic_loss,
    min_soft_value,
    min_soft_values,
    policy_loss,
    taken_q,
    temperature_loss,
)

Inputs = tuple[Tensor, ...]


class Networks(NamedTuple):
    """What an update learns, and what it learns with."""

    policy: Policy
    critic: Critic
    fixed_critic: Critic
    """The same critics, in the same memory, as constants: the policy's loss teaches them nothing."""
    target_critic: Critic
    log_temperatures: nn.Parameter
    """(T,) ln alpha."""


class Losses(NamedTuple):
    """Of one batch, and what shows how learning goes."""

    critic: Tensor
    policy: Tensor
    temperature: Tensor
    value: Tensor
    """() mean target of the critics, of several values that of their sum."""
    error_variance: Tensor
    """() variance of the targets less what the critics say."""
    target_variance: Tensor
    """()."""
    entropies: Tensor
    """(T,) mean of each action block."""
    temperatures: Tensor
    """(T,)."""


def sac_losses(networks: Networks, batch: OffPolicyBatch, target_entropies: Tensor) -> Losses:
    """The losses of critics, policy and temperatures; `target_entropies` (T,) are what the temperatures aim at."""
    policy, critic, fixed_critic, target_critic, log_temperatures = networks
    loss_mask = batch.loss_mask
    alpha = log_temperatures.detach().exp()
    steps, ends = policy_inputs(policy, batch)
    action, next_action = sample_actions(policy, steps, ends, batch)

    # The critics learn the n-step return and the soft value behind it.
    with torch.no_grad():
        next_q = target_critic(features_at(target_critic, ends, batch, ENDS), next_action.continuous)
        soft = min_soft_value if critic.values == 1 else min_soft_values
        target_q = torch.addcmul(batch.returns, batch.next_discount, soft(next_q, next_action, alpha))
    features = features_at(critic, steps, batch, STEPS)
    q = critic(features, batch.continuous)

    # The policy learns to do what they value. Its continuous actions go into them; its choices are among their heads.
    has_continuous = action.continuous.shape[1] > 0
    policy_q = fixed_critic(features.detach(), action.continuous) if has_continuous else q.detach()
    if critic.values > 1:
        policy_q = policy_q.sum(1)

    # The temperatures learn to keep the policy's entropy where it is wanted.
    with torch.no_grad():
        entropies = block_entropies(action, loss_mask)
        errors, whole = target_q - taken_q(q, batch.discrete), target_q
        if critic.values > 1:
            errors, whole = errors.sum(-2), whole.sum(0)
    return Losses(
        critic_loss(q, batch.discrete, target_q, loss_mask),
        policy_loss(policy_q, action, alpha, loss_mask),
        temperature_loss(log_temperatures, entropies, target_entropies),
        mean(whole, loss_mask),
        variance(errors, loss_mask),
        variance(whole, loss_mask),
        entropies,
        alpha,
    )


def policy_inputs(policy: Policy, batch: OffPolicyBatch) -> tuple[Inputs, Inputs]:
    """Inputs of networks at steps, and at their ends; with a recurrent state both are all places, replayed in order."""
    inputs = policy.prepare(batch.observations)
    if batch.places is not None:
        return inputs, inputs
    steps, ends = zip(*(x.chunk(2) for x in inputs))
    return steps, ends


def sample_actions(
    policy: Policy, steps: Inputs, ends: Inputs, batch: OffPolicyBatch
) -> tuple[SampledAction, SampledAction]:
    """What the policy does at steps (N rows), and at their ends, from where it gets no gradient."""
    if batch.places is None:
        at_steps, _ = policy.features(steps, batch.recurrent_state)
        with torch.no_grad():
            at_ends, _ = policy.features(ends, batch.recurrent_state)
    else:
        at_steps, at_ends = policy.features(steps, batch.recurrent_state)[0][batch.places].chunk(2)
    (mask, next_mask), (noise, next_noise) = batch.mask.chunk(2), batch.noise.chunk(2)
    action = sample(policy, at_steps, mask, noise)
    with torch.no_grad():
        return action, sample(policy, at_ends, next_mask, next_noise)


def sample(policy: Policy, features: Tensor, mask: Tensor, noise: Tensor) -> SampledAction:
    """What the policy does where it has features (N, F), under a mask (N, A), by standard normal noise (N, C)."""
    continuous, discrete = policy.distribution(features, mask)
    if isinstance(continuous, SquashedGaussian):
        return SampledAction(*continuous.actions(noise), discrete)
    return SampledAction(noise, noise.sum(-1), discrete)


STEPS, ENDS = 0, 1
"""The halves of what a batch has twice: at the steps to learn from, and at the ends of their returns."""


def features_at(critic: Critic, inputs: Inputs, batch: OffPolicyBatch, half: int) -> Tensor:
    """(N, F) of a critic at one half of the places."""
    features, _ = critic.features(inputs, batch.recurrent_state)
    return features if batch.places is None else features[batch.places.chunk(2)[half]]
