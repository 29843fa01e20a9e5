"""Behavioral cloning: the policy learns to do what was demonstrated.

Shapes: N demonstrated steps, C continuous actions, B branches as they are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from algorithms.imitation.demonstrations import Demonstrations
from algorithms.metrics import SKIPPED, below, load_torch_state, mean
from algorithms.ops.adam import FlatAdam
from algorithms.policy import ActionDistribution, Policy
from algorithms.settings import CloningSettings
from buffers.rows import Rows


def cloning_loss(
    distribution: ActionDistribution, continuous: Tensor, discrete: Tensor, loss_mask: Tensor | None = None
) -> Tensor:
    """() how far a policy is from what was done: squared error of continuous (N, C), surprise at discrete (N, B).

    The spread of continuous actions is left to the algorithm. A choice that its own mask forbids teaches nothing.
    """
    losses = []
    if distribution.continuous is not None:
        losses.append(mean((distribution.continuous.mode() - continuous).square().sum(-1), loss_mask))
    if distribution.discrete is not None:
        chosen = distribution.discrete.log_probs.gather(-1, discrete[..., None])[..., 0]
        losses.append(-mean(torch.where(chosen > IMPOSSIBLE, chosen, torch.zeros_like(chosen)).sum(-1), loss_mask))
    return losses[0] if len(losses) == 1 else losses[0] + losses[1]


class Cloning:
    """Draws demonstrated steps and measures how far the policy is from them, with a weight that falls to 0."""

    def __init__(self, settings: CloningSettings, rows: Rows, policy: Policy, seed: int) -> None:
        device = policy.flat.device
        self.settings = settings
        self.updates_left = settings.updates_before
        """Gradient steps that are still to be made before the first sample."""
        self._policy, self._parameters = policy, list(policy.parameters())
        self._demonstrations = Demonstrations(rows, device, seed)
        memory = policy.network.memory
        length, lead = (1, 0) if policy.recurrent_layer is None else (memory.sequence_length, memory.burn_in)
        self._places, self._counted = self._demonstrations.sequences(length, lead)
        self._optimizer = FlatAdam(policy.flat[policy.parameter_start :], settings.learning_rate, None)
        self._weight = torch.zeros((), device=device)
        self._loss = torch.zeros((), device=device)
        self.set_progress(0)

    def update(self) -> None:
        """One gradient step of the policy on demonstrations alone."""
        gradients = torch.autograd.grad(self._unweighted(), self._parameters, allow_unused=True)
        self._optimizer.step([torch.zeros_like(p) if g is None else g for p, g in zip(self._parameters, gradients)])
        self.updates_left -= 1

    def loss(self) -> Tensor:
        """() to be added to the algorithm's own while `active`."""
        return self._unweighted() * self._weight

    def set_progress(self, samples: int) -> None:
        """Moves the weight to what it is after `samples` samples."""
        horizon = self.settings.anneal_samples
        self._set_weight(self.settings.strength * max(0.0, 1 - samples / horizon) if horizon else 0.0)

    def metrics(self) -> dict[str, float]:
        """The latest loss, unweighted, and its weight. Waits for the device."""
        loss, weight = torch.stack([self._loss, self._weight]).tolist()
        return {"cloning/loss": loss, "cloning/weight": weight, f"cloning/{SKIPPED}": self._optimizer.skipped()}

    def state_dict(self) -> dict[str, Tensor]:
        """What an exact continuation needs."""
        return {
            "updates_left": torch.tensor(self.updates_left),
            "weight": self._weight.cpu().clone(),
            "random": self._demonstrations.generator.get_state().clone(),
            **{f"optimizer/{key}": value for key, value in self._optimizer.state_dict().items()},
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        self.updates_left = int(state["updates_left"])
        self._set_weight(float(state["weight"]))
        load_torch_state(self._demonstrations.generator, state["random"])
        self._optimizer.load_state_dict(below(state, "optimizer/"))

    def _set_weight(self, weight: float) -> None:
        self.active = weight > 0
        self._weight.fill_(weight)

    def _unweighted(self) -> Tensor:
        sequences, length = self._places.shape
        count, generator = -(-self.settings.batch_size // length), self._demonstrations.generator
        chosen = torch.randint(sequences, (count,), generator=generator, device=generator.device)
        steps = self._demonstrations.steps.take(self._places[chosen].flatten())
        # The actor's state is unknown where a sequence does not begin its episode: its first steps show it.
        state = self._weight.new_zeros(len(chosen), self._policy.state_size)
        distribution = self._policy(self._policy.prepare(steps.observations), steps.mask, state)
        loss_mask = None if length == 1 else self._counted[chosen].flatten()
        loss = cloning_loss(distribution, steps.continuous, self._policy.branches.index(steps.discrete), loss_mask)
        self._loss = loss.detach()
        return loss


IMPOSSIBLE = -1e8
"""Log-probabilities below this are those of forbidden choices."""
