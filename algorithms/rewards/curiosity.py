"""Curiosity (ICM, arXiv 1705.05363): pays for effects of actions that a model does not predict.

An encoder phi is trained together with two models. The inverse one predicts from phi(s) and phi(s') which action was
taken, so that phi holds what the agent can influence, and little of what merely happens. The forward one predicts
phi(s') from phi(s) and the action; half its squared error is paid. As in the paper, phi learns from both losses,
weighted 0.8 and 0.2: the inverse model has to tell states apart, which keeps phi from shrinking to what is easily
predicted. So that it cannot shrink in scale either, phi is normalised, and errors are means over its numbers: an error
means the same for the whole run, and one weight serves encodings of any size.

Shapes: N steps, E numbers of an encoding, C continuous actions, B discrete branches as they are chosen, K choices of
the largest of these.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.imitation.demonstrations import Steps
from algorithms.networks.distributions import Branches
from algorithms.networks.encoders import initialize
from algorithms.networks.mlp import MLP
from algorithms.policy import Policy
from algorithms.rewards.action_inputs import ActionInputs
from algorithms.rewards.intrinsic import Encoding, Intrinsic, Model
from algorithms.rewards.settings import CuriositySettings
from algorithms.settings import Activation


class Curiosity(Intrinsic):
    """The reward signal."""

    def make_model(self) -> Model:
        """Returns its encoder, inverse and forward model."""
        return Dynamics(self.policy, self.settings)


def forward_error(predicted: Tensor, found: Tensor) -> Tensor:
    """(N,) half the mean squared error of encodings predicted (N, E), of those found (N, E)."""
    return (predicted - found).square().mean(-1) / 2


def inverse_loss(outputs: Tensor, branches: Branches, steps: Steps) -> Tensor:
    """(N,) how wrong an inverse model is about N steps' actions, of its outputs (N, C + B * K).

    The squared error of the continuous ones, clipped to [-1, 1], and the surprise at the choice in each branch, among
    those that the mask allows.
    """
    size = steps.continuous.shape[1]
    loss = (outputs[:, :size] - steps.continuous.clamp(-1, 1)).square().sum(-1)
    if branches.count:
        loss = loss - branches.categorical(outputs[:, size:], steps.mask).log_prob(branches.index(steps.discrete))
    return loss


class Dynamics(Model):
    """Encoder, inverse and forward model; the models have one hidden layer each, as wide as the encoder's last."""

    def __init__(self, policy: Policy, settings: CuriositySettings) -> None:
        super().__init__()
        spec, hidden, size = policy.spec, settings.hidden, settings.encoding_size
        share = settings.forward_share
        self.losses = {"curiosity/loss_forward": share, "curiosity/loss_inverse": 1 - share}
        self.phi = Encoding(spec, policy.network, hidden, size)
        self.actions = ActionInputs(spec)
        outputs = spec.continuous_size + policy.branches.count * policy.branches.width
        activation = policy.network.activation
        self.inverse = _model(2 * size, hidden[-1:], outputs, activation)
        self.forward_model = _model(size + self.actions.features, hidden[-1:], size, activation)

    def errors(self, policy: Policy, steps: Steps) -> Tensor:
        """(N,) forward errors."""
        return self._encode(policy, steps)[0]

    def evaluate(self, policy: Policy, steps: Steps) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Returns forward errors, and as losses these and the inverse model's."""
        errors, encodings = self._encode(policy, steps)
        return errors, (errors, inverse_loss(self.inverse(encodings), policy.branches, steps))

    def _encode(self, policy: Policy, steps: Steps) -> tuple[Tensor, Tensor]:
        """Returns forward errors (N,), and phi(s) beside phi(s') (N, 2 * E), encoded in one pass."""
        both = [torch.cat(pair) for pair in zip(steps.observations, steps.following)]
        encodings = self.phi(policy.prepare(both))
        before, after = F.layer_norm(encodings, encodings.shape[-1:]).chunk(2)
        predicted = self.forward_model(torch.cat([before, self.actions(steps)], dim=-1))
        return forward_error(predicted, after), torch.cat([before, after], dim=-1)


def _model(inputs: int, hidden: Sequence[int], outputs: int, activation: Activation) -> nn.Sequential:
    trunk = MLP(inputs, hidden, activation)
    head = nn.Linear(trunk.features, outputs)
    initialize(head, 1.0)
    return nn.Sequential(trunk, head)
