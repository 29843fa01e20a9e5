"""Random network distillation (arXiv 1810.12894): pays for observations that look like none seen before.

A predictor learns what a fixed random network says of what agents come to see; it is wrong about what is new. As in the
paper, both start orthogonal, the predictor has a layer more, and vectors are clipped at 5 deviations. The paper trains
the predictor on a share of the steps only, so that more environments don't make all familiar at once: here
`updates_per_sample` and `batch_size` say how much it learns. Shapes: N steps.
"""

from __future__ import annotations

from torch import Tensor

from algorithms.imitation.demonstrations import Steps
from algorithms.policy import Policy
from algorithms.rewards.intrinsic import Encoding, Intrinsic, Model
from algorithms.rewards.settings import RNDSettings
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec


class RND(Intrinsic):
    """The reward signal."""

    def make_model(self) -> Model:
        """Returns the fixed network and its predictor."""
        return Distillation(self.policy.spec, self.settings, self.policy.network)


class Distillation(Model):
    """A fixed random network, and one that learns to say the same."""

    def __init__(self, spec: BehaviorSpec, settings: RNDSettings, network: NetworkSettings) -> None:
        """`network` is the policy's, whose inputs it sees."""
        super().__init__()
        self.losses = {"rnd/loss": 1.0}
        hidden, size = settings.hidden, settings.encoding_size
        self.target = Encoding(spec, network, hidden, size).requires_grad_(False)
        self.predictor = Encoding(spec, network, [*hidden, *hidden[-1:]], size)

    def errors(self, policy: Policy, steps: Steps) -> Tensor:
        """(N,) mean squared error about what N steps came to see."""
        vector, *images = policy.prepare(steps.following)
        inputs = (vector.clamp(-LARGEST_INPUT, LARGEST_INPUT), *images)
        errors: Tensor = (self.predictor(inputs) - self.target(inputs)).square().mean(-1)
        return errors

    def evaluate(self, policy: Policy, steps: Steps) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Returns the errors, which are the loss as well."""
        errors = self.errors(policy, steps)
        return errors, (errors,)


LARGEST_INPUT = 5.0
"""Deviations at which the paper clips what both networks see."""
