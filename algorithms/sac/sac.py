"""Soft actor-critic (arXiv 1801.01290, 1812.05905; branches as in arXiv 1910.07207) for hybrid actions.

Continuous actions go into the critics; each discrete branch comes out of them as a head: Q is the sum of the heads of
the choices taken, and expectations over branches are exact. Without branches there is one head of width 1. Few branches
are chosen as one (`network.joint_choices`), as a sum of heads knows nothing of how the choices of two go together.

With a recurrent state, policy and critics each remember; critics begin each sequence with nothing.

Shapes: as in `off_policy.py`; S = 2 critics, K choices of the largest branch, T = (C > 0) + B action blocks, each with
a temperature.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.base import Network
from algorithms.metrics import ERROR_VARIANCE, TARGET_VARIANCE, column_mean
from algorithms.off_policy import OffPolicy, OffPolicyBatch, frozen
from algorithms.ops.adam import place
from algorithms.sac.critic import Critic
from algorithms.sac.update import Networks, sac_losses


class SAC(OffPolicy):
    """Learns `policy` from replayed rows."""

    publish_every = 4
    """Updates between publications of the policy: a fraction of a decision apart, and the copy is not free."""
    joint_optimizer = True
    value_of = "discount"
    graphed = True

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        place(self.networks.fixed_critic.parameters(), self.vectors["critics"])
        self._unit = self.rewards.units[0]  # that of all its values, always the same tensor
        self._accelerated = None
        if self.settings.accelerate:
            from algorithms.ops.sac_accelerator import accelerated_update

            self._accelerated = accelerated_update(self.networks)

    def build(self) -> dict[str, Network]:
        """Makes the critics, their targets, and the logarithms of the temperatures."""
        spec, settings = self.spec, self.settings
        critic = Critic(spec, settings.network, settings.dueling, len(self.rewards.discounts))
        blocks = ["continuous"] * (spec.continuous_size > 0)
        blocks += [f"branch_{i}" for i in range(self.policy.branches.count)]
        initial = torch.full((len(blocks),), math.log(settings.temperature))
        log_temperatures = nn.Parameter(initial, settings.learn_temperature)
        self.networks = Networks(self.policy, critic, frozen(critic).to(self.device), frozen(critic), log_temperatures)
        self._names = (
            *("loss/critic", "loss/policy", "sac/value", ERROR_VARIANCE, TARGET_VARIANCE),
            *(f"policy/entropy_{block}" for block in blocks),
            *(f"sac/temperature_{block}" for block in blocks),
        )
        size = spec.continuous_size
        self._continuous_target = torch.full((int(size > 0),), settings.continuous_entropy * size, device=self.device)
        # Critics were `weights/critic` and `weights/target` while their last layer lay the other way round.
        return {"critics": critic, "temperatures": log_temperatures, "targets": self.networks.target_critic}

    def rescale_values(self, ratios: Tensor) -> None:
        """Multiplies what critics and targets say. Adam's steps hardly depend on the size of gradients: they stay."""
        self.networks.critic.rescale(ratios)
        self.networks.target_critic.rescale(ratios)

    def learn(self, batch: OffPolicyBatch) -> None:
        """Makes one update on the device: static shapes, and nothing waits for a result."""
        target_entropies = self._target_entropies(batch)
        if self._accelerated is not None and not (self.cloning is not None and self.cloning.active):
            losses, gradients = self._accelerated(batch, target_entropies)
            if self.weight is not None:
                gradients = [self.weight * gradient for gradient in gradients]
        else:
            losses = sac_losses(self.networks, batch, target_entropies)
            loss = losses.critic + losses.policy + losses.temperature
            loss = (loss if self.weight is None else self.weight * loss) + self.cloning_loss()
            gradients = list(torch.autograd.grad(loss, self.parameters["all"]))
        finite = self.optimizers["all"].step(gradients)
        self.vectors["targets"].lerp_(self.vectors["critics"], self.settings.target_rate)
        scalars = torch.stack(
            [losses.critic * self._unit, losses.policy, losses.value, losses.error_variance, losses.target_variance]
        )
        scalars = scalars * self._unit  # the variances' ratio alone is shown
        self.averages(self._names).add(torch.cat([scalars, losses.entropies, losses.temperatures]), finite)

    def _target_entropies(self, batch: OffPolicyBatch) -> Tensor:
        """(T,) what the entropy of each block is held at."""
        if not self.spec.branches:
            return self._continuous_target
        choices = self.policy.branches.log_choices(batch.mask[: batch.returns.shape[-1]])
        loss_mask = batch.loss_mask if len(choices) > 1 else None
        return torch.cat([self._continuous_target, column_mean(choices, loss_mask) * self.settings.discrete_entropy])
