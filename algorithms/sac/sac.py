"""Soft actor-critic (arXiv 1801.01290, 1812.05905; branches as in arXiv 1910.07207) for hybrid actions.

Continuous actions go into the critics; each discrete branch comes out of them as a head: Q is the sum of the heads of
the choices taken, and expectations over branches are exact. Without branches there is one head of width 1. Few branches
are chosen as one (`network.joint_choices`), as a sum of heads knows nothing of how the choices of two go together.

With a memory, a batch is sequences whose steps are replayed one after another; policy and critics each remember. The
policy begins with what the actor remembered there, critics with nothing.

Shapes: W sequences of a batch, P places of each, L of them steps, those that only lead up to others included, N = W * L
(without memory P = 2, L = 1); R numbers of memory; n steps of a return; S = 2 critics, C continuous actions, B branches
as they are chosen, K choices of the largest, T = (C > 0) + B action blocks, each with a temperature.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from algorithms.base import Network
from algorithms.metrics import column_mean
from algorithms.off_policy import OffPolicy, OffPolicyBatch, frozen
from algorithms.sac.critic import Critic
from algorithms.sac.losses import (
    Sampled,
    block_entropies,
    critic_loss,
    policy_loss,
    soft_values,
    temperature_gradient,
)
from algorithms.sac.passes import Inputs, critic_pass, features_at, policy_pass, sample


class SAC(OffPolicy):
    """Learns `policy` from replayed rows."""

    publish_every = 4
    """Updates between publications of the policy: a fraction of a decision apart, and the copy is not free."""
    joint_optimizer = True
    graphed = True

    def build(self) -> dict[str, Network]:
        """Makes the critics, their targets, and the logarithms of the temperatures."""
        spec, settings = self.spec, self.settings
        self.critic = Critic(spec, settings.network, settings.dueling)
        self.target = frozen(self.critic)
        blocks = ["continuous"] * (spec.continuous_size > 0)
        blocks += [f"branch_{i}" for i in range(self.policy.branches.count)]
        self.log_temperatures = nn.Parameter(
            torch.full((len(blocks),), math.log(settings.temperature)), settings.learn_temperature
        )
        self._names = [
            *("loss/critic", "loss/policy", "sac/value"),
            *(f"policy/entropy_{block}" for block in blocks),
            *(f"sac/temperature_{block}" for block in blocks),
        ]
        self._continuous_target = torch.full(
            (int(spec.continuous_size > 0),), settings.continuous_entropy * spec.continuous_size, device=self.device
        )
        # Critics were `weights/critic` and `weights/target` while their last layer lay the other way round.
        return {"critics": self.critic, "temperatures": self.log_temperatures, "targets": self.target}

    @torch.no_grad()
    def learn(self, batch: OffPolicyBatch) -> None:
        """One update on the device: static shapes, and nothing waits for a result."""
        count, loss_mask = len(batch.returns), batch.loss_mask
        inputs = self.policy.prepare(batch.observations)
        at_steps = at_ends = inputs  # with a memory all places, as networks go through all of them
        if batch.places is None:
            at_steps, at_ends = tuple(x[:count] for x in inputs), tuple(x[count:] for x in inputs)
        temperatures = self.log_temperatures.exp()
        outputs, of_policy = policy_pass(self.policy, inputs, batch)
        both, of_outputs = sample(self.policy, outputs, batch)
        sampled, following = both.split(count)
        # Critics and policy step together, so the critics that judge the policy are those that learn.
        judged = sampled.continuous if self.spec.continuous_size else None
        q, worth, of_critics = critic_pass(self.critic, at_steps, batch, judged)
        targets = self._targets(at_ends, batch, following, temperatures)
        weights = torch.full_like(targets, 1 / count) if loss_mask is None else loss_mask / loss_mask.sum().clamp(min=1)
        loss_critic, of_q = critic_loss(q, batch.discrete, targets, weights)
        loss_policy, of_sampled = policy_loss(sampled, q if worth is None else worth, temperatures, weights)
        of_judged, of_critic_parameters = of_critics(of_q, of_sampled.worth)
        of_policy_parameters = of_policy(of_outputs(of_sampled._replace(continuous=of_judged)))
        gradients = [*of_policy_parameters, *of_critic_parameters]
        if self.cloning is not None and self.cloning.active:
            torch._foreach_add_(gradients[: len(of_policy_parameters)], self.cloning.gradients())
        entropies = block_entropies(sampled, loss_mask)
        if self.settings.learn_temperature:
            gradients.append(temperature_gradient(entropies, self._target_entropies(batch)))
        finite = self.optimizers["all"].step(gradients)
        self.vectors["targets"].lerp_(self.vectors["critics"], self.settings.target_rate)
        logged = [loss_critic, loss_policy, targets @ weights, *entropies.unbind(), *temperatures.unbind()]
        self.log(dict(zip(self._names, logged)), finite)

    def _targets(self, at_ends: Inputs, batch: OffPolicyBatch, following: Sampled, temperatures: Tensor) -> Tensor:
        """(N,) n-step soft targets of the critics, of what the policy does at the ends."""
        features = features_at(self.target, at_ends, batch, slice(len(batch.returns), None))
        worth = self.target(features, following.continuous).amin(0)
        return torch.addcmul(batch.returns, batch.next_discount, soft_values(following, worth, temperatures))

    def _target_entropies(self, batch: OffPolicyBatch) -> Tensor:
        """(T,) what the entropy of each block is held at."""
        if not self.spec.branches:
            return self._continuous_target
        choices = self.policy.branches.log_choices(batch.mask[: len(batch.returns)])
        loss_mask = batch.loss_mask if len(choices) > 1 else None
        return torch.cat([self._continuous_target, column_mean(choices, loss_mask) * self.settings.discrete_entropy])
