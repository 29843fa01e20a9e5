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
    distribution: ActionDistribution,
    continuous: Tensor,
    discrete: Tensor,
    loss_mask: Tensor | None = None,
    drawn: Tensor | None = None,
) -> Tensor:
    """() how far a policy is from what was done: squared error of continuous (N, C), surprise at discrete (N, B).

    The spread of continuous actions is left to the algorithm, unless actions `drawn` (N, C) are judged in place of the
    likeliest. A choice that its own mask forbids teaches nothing.
    """
    losses = []
    if distribution.continuous is not None:
        actions = distribution.continuous.mode() if drawn is None else drawn
        losses.append(mean((actions - continuous).square().sum(-1), loss_mask))
    if distribution.discrete is not None:
        chosen = distribution.discrete.log_probs.gather(-1, discrete[..., None])[..., 0]
        losses.append(-mean(torch.where(chosen > IMPOSSIBLE, chosen, torch.zeros_like(chosen)).sum(-1), loss_mask))
    return losses[0] if len(losses) == 1 else losses[0] + losses[1]


class Cloning:
    """Draws demonstrated steps and measures how far the policy is from them, with a weight that falls to 0.

    The algorithm either adds that to its loss while it is `active`, or lets it make `passes` after each update, with an
    optimiser of its own, whose learning rate has that weight.
    """

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
        self._optimizer.learning_rate.fill_(self.settings.learning_rate)
        self._step(self._draw())
        self.updates_left -= 1

    def passes(self) -> None:
        """Goes through the demonstrations as often as `settings.epochs` says, each time in another order."""
        if self.settings.epochs is None or not self._weighs:
            return
        generator = self._demonstrations.generator
        sequences, length = self._places.shape
        size = min(self._batch, sequences)
        some = sequences if self.settings.epoch_samples is None else self.settings.epoch_samples // length
        for _ in range(self.settings.epochs):
            order = torch.randperm(sequences, generator=generator, device=generator.device)[: max(size, some)]
            for chosen in torch.split(order[: len(order) - len(order) % size], size):
                self._optimizer.learning_rate.copy_(self._weight * self.settings.learning_rate)
                self._step(chosen, sampled=True)

    def loss(self) -> Tensor:
        """() to be added to the algorithm's own while `active`."""
        return self._unweighted(self._draw()) * self._weight

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
        self._weighs = weight > 0
        self.active = self._weighs and self.settings.epochs is None
        """Whether it is a part of the algorithm's loss."""
        self._weight.fill_(weight)

    @property
    def _batch(self) -> int:
        """Sequences of a gradient step."""
        return -(-self.settings.batch_size // self._places.shape[1])

    def _draw(self) -> Tensor:
        """Places (N,) of sequences, with replacement."""
        generator = self._demonstrations.generator
        return torch.randint(len(self._places), (self._batch,), generator=generator, device=generator.device)

    def _step(self, chosen: Tensor, sampled: bool = False) -> None:
        gradients = torch.autograd.grad(self._unweighted(chosen, sampled), self._parameters, allow_unused=True)
        self._optimizer.step([torch.zeros_like(p) if g is None else g for p, g in zip(self._parameters, gradients)])

    def _unweighted(self, chosen: Tensor, sampled: bool = False) -> Tensor:
        length = self._places.shape[1]
        steps = self._demonstrations.steps.take(self._places[chosen].flatten())
        # The actor's state is unknown where a sequence does not begin its episode: its first steps show it.
        state = self._weight.new_zeros(len(chosen), self._policy.state_size)
        distribution = self._policy(self._policy.prepare(steps.observations), steps.mask, state)
        loss_mask = None if length == 1 else self._counted[chosen].flatten()
        drawn = None
        if sampled and distribution.continuous is not None:
            drawn, _ = distribution.continuous.sample(self._demonstrations.generator)
        choices = self._policy.branches.index(steps.discrete)
        loss = cloning_loss(distribution, steps.continuous, choices, loss_mask, drawn)
        self._loss = loss.detach()
        return loss


IMPOSSIBLE = -1e8
"""Log-probabilities below this are those of forbidden choices."""
