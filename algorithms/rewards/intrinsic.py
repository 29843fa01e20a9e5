"""Reward for what is new to agents: what curiosity and RND have in common.

A model learns from what agents do, and agents are paid for its errors: they fall where it has often been. What is paid
is scaled by the errors' root mean square over the whole run (arXiv 1810.12894 divides by the deviation of their
returns), so that a strength means the same in every game, and less is paid as a game gets familiar.

Nothing follows a step that terminated, so it has no error. It is paid what late steps earn on average, and the
state that follows pays the same, for ever: an end earns as much as going on, and neither dying nor living
earns anything by itself. So the value does not end with an episode, like that of arXiv 1810.12894, in which the next
episode's first state follows an end: its mean over all steps is just that, mean reward / (1 - discount).

Shapes: N steps, E numbers of an encoding, L losses.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from algorithms.imitation.demonstrations import Steps
from algorithms.metrics import Averages, seeded
from algorithms.networks.encoders import initialize
from algorithms.networks.inputs import Encoder
from algorithms.networks.mlp import MLP
from algorithms.policy import Policy
from algorithms.rewards.base import Scores
from algorithms.rewards.learned import LearnedSignal, OwnBatches
from algorithms.rewards.settings import IntrinsicSettings
from algorithms.settings import NetworkSettings
from buffers.rows import Rows
from envs.spec import BehaviorSpec


class Model(ABC, nn.Module):
    """Knows what it has seen. Parameters that need no gradient stay as they are."""

    losses: Mapping[str, float]
    """Weights of its L losses, by TensorBoard's names."""

    @abstractmethod
    def errors(self, policy: Policy, steps: Steps) -> Tensor:
        """Returns how new each of N steps is to it, (N,)."""

    def look(self, policy: Policy, steps: Steps) -> None:
        """Takes statistics of N steps before it learns from them; those that terminated lead to nothing."""

    @abstractmethod
    def evaluate(self, policy: Policy, steps: Steps) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Returns the same, and L losses (N,) of the steps; those of steps that terminated mean nothing."""


class Intrinsic(LearnedSignal):
    """Pays agents for what a model is wrong about. All randomness follows from `seed`."""

    vector_name = "model"

    def __init__(
        self, name: str, settings: IntrinsicSettings, policy: Policy, demos: Mapping[str, Rows], seed: int
    ) -> None:
        super().__init__(name, settings, policy, demos, seed)
        self._model = seeded(self.make_model, seed).to(self.device)
        self._place(self._model)
        self._batches = OwnBatches(settings.updates_per_sample, settings.batch_size, self.device, seed)
        self._scale = Scale(settings.bound, 1 / max(1.0, MEAN_SAMPLES * settings.updates_per_sample), self.device)
        names = (*self._model.losses, f"{name}/error_scale", f"{name}/reward_mean")
        self._averages = Averages(names, self.device)

    @abstractmethod
    def make_model(self) -> Model:
        """Returns the model, on the CPU."""

    @torch.no_grad()
    def score(self, steps: Steps) -> Scores:
        """Returns what N steps earn, and the state after an end. Nothing before the first update."""
        mean = self._scale.mean()
        errors = self._model.errors(self.policy, steps)
        return Scores(torch.where(steps.terminated, mean, self._scale.scaled(errors)), mean)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what an exact continuation needs."""
        return {**super().state_dict(), "scale": self._scale.numbers.cpu().clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        super().load_state_dict(state)
        self._scale.numbers.copy_(state["scale"])

    def _update(self, steps: Steps) -> None:
        """One gradient step on what went on after these steps: nothing waits for it."""
        self._model.look(self.policy, steps)
        errors, all_losses = self._model.evaluate(self.policy, steps)
        going = ~steps.terminated
        count = going.sum().clamp(min=1)
        losses = [torch.where(going, loss, 0.0).sum() / count for loss in all_losses]
        total = torch.stack([weight * loss for weight, loss in zip(self._model.losses.values(), losses)]).sum()
        finite = self._optimizer.step(torch.autograd.grad(total, self._parameters))
        self._scale.merge(errors.detach(), going, finite)
        self._averages.add(torch.stack([*losses, self._scale.root(), self._scale.mean()]), finite)


class Scale:
    """Root mean square of all errors merged so far, and the mean of late ones once scaled by it. All on the device."""

    def __init__(self, bound: float, rate: float, device: torch.device) -> None:
        """Scaled errors end at `bound`; `rate` is the weight of the latest batch in the mean."""
        self._bound, self._rate = bound, rate
        self.numbers = torch.zeros(4, device=device)
        """Batches merged, mean square, mean of late scaled errors, and the weight that this mean has so far."""

    def scaled(self, errors: Tensor) -> Tensor:
        """Errors (N,) over their root mean square, up to the bound; 0 before the first batch."""
        square = self.numbers[1]
        return torch.where(square > 0, errors * square.clamp(min=TINY).rsqrt(), 0.0).clamp(max=self._bound)

    def root(self) -> Tensor:
        """() root mean square."""
        return self.numbers[1].sqrt()

    def mean(self) -> Tensor:
        """() mean of late scaled errors; 0 before the first batch."""
        return self.numbers[2] / self.numbers[3].clamp(min=TINY)

    @torch.no_grad()
    def merge(self, errors: Tensor, loss_mask: Tensor, finite: Tensor) -> None:
        """Takes in the errors (N,) that are `loss_mask` (N,) bool, unless () bool `finite` says that they are spoilt.

        Every batch has the same weight in the root mean square. An error counts in it up to the bound as well, so that
        no outlier makes all others small for long.
        """
        count, square, mean, weight = self.numbers.unbind()
        rows = loss_mask.sum()
        taken = finite & (rows > 0)
        largest = torch.where(square > 0, self._bound * square.sqrt(), torch.inf)
        squares = torch.where(loss_mask, torch.minimum(errors, largest).square(), 0.0)
        count.add_(taken)
        square.add_(torch.where(taken, (squares.sum() / rows - square) / count, 0.0))
        scaled = torch.where(loss_mask, self.scaled(errors), 0.0)
        mean.add_(torch.where(taken, (scaled.sum() / rows - mean) * self._rate, 0.0))
        weight.add_((1 - weight) * self._rate * taken)


class Encoding(nn.Module):
    """Inputs of the policy to an encoding (N, E): the policy's kind of encoder, hidden layers, and a linear one."""

    def __init__(self, spec: BehaviorSpec, network: NetworkSettings, hidden: Sequence[int], size: int) -> None:
        super().__init__()
        self.encoder = Encoder(spec, network)
        self.trunk = MLP(self.encoder.features, hidden, network.activation)
        self.head = nn.Linear(self.trunk.features, size)
        initialize(self.head, math.sqrt(2))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """(N, E)."""
        encoding: Tensor = self.head(self.trunk(self.encoder(inputs)))
        return encoding


MEAN_SAMPLES = 1000
"""Samples over which the mean reward is taken: what late steps earn, of the model as it is now."""
TINY = 1e-30
"""Keeps 0 / 0 from being NaN."""
