"""Random network distillation (arXiv 1810.12894): pays for observations that look like none seen before.

A predictor learns what a fixed random network says of what agents come to see; it is wrong about what is new. As in the
paper, both start orthogonal, the predictor has a layer more, and what they see is normalised, images pixel by pixel,
and clipped at 5 deviations: a network that never learns cannot adjust to a game's contrast. The paper trains the
predictor on a share of the steps only, so that more environments don't make all familiar at once: here
`updates_per_sample` and `batch_size` say how much it learns. Shapes: N steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from algorithms.imitation.demonstrations import Steps
from algorithms.metrics import below
from algorithms.networks.encoders import is_image
from algorithms.policy import Policy
from algorithms.rewards.intrinsic import Encoding, Intrinsic, Model
from algorithms.rewards.settings import RNDSettings
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec


class RND(Intrinsic):
    """The reward signal."""

    _model: Distillation

    def make_model(self) -> Model:
        """Returns the fixed network and its predictor."""
        return Distillation(self.policy.spec, self.settings, self.policy.network)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what an exact continuation needs."""
        pixels = {f"pixels/{name}": x.cpu().clone() for name, x in self._model.pixels.state_dict().items()}
        return {**super().state_dict(), **pixels}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave, also of earlier versions, which did not normalise images."""
        super().load_state_dict(state)
        if pixels := below(state, "pixels/"):
            self._model.pixels.load_state_dict(pixels)


class Distillation(Model):
    """A fixed random network, and one that learns to say the same."""

    def __init__(self, spec: BehaviorSpec, settings: RNDSettings, network: NetworkSettings) -> None:
        """`network` is the policy's, whose inputs it sees."""
        super().__init__()
        self.losses = {"rnd/loss": 1.0}
        hidden, size = settings.hidden, settings.encoding_size
        images = [o for o in spec.observations if is_image(o, network)]
        self.pixels = nn.ModuleList(PixelNormalizer(image) for image in images)
        spec = replace(spec, observations=tuple(replace(o, scale=1.0) for o in spec.observations))
        self.target = Encoding(spec, network, hidden, size).requires_grad_(False)
        self.predictor = Encoding(spec, network, [*hidden, *hidden[-1:]], size)

    def look(self, policy: Policy, steps: Steps) -> None:
        """Takes in what N steps came to see of images."""
        images = [x for x, is_one in zip(steps.following, policy.images) if is_one]
        for normalizer, image in zip(self.pixels, images):
            cast(PixelNormalizer, normalizer).merge(image, ~steps.terminated)

    def errors(self, policy: Policy, steps: Steps) -> Tensor:
        """(N,) mean squared error about what N steps came to see."""
        vector, *rest = policy.prepare(steps.following)
        seen = [normalizer(image) for normalizer, image in zip(self.pixels, rest)]
        inputs = [x.clamp(-LARGEST_INPUT, LARGEST_INPUT) for x in (vector, *seen, *rest[len(seen) :])]
        errors: Tensor = (self.predictor(inputs) - self.target(inputs)).square().mean(-1)
        return errors

    def evaluate(self, policy: Policy, steps: Steps) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Returns the errors, which are the loss as well."""
        errors = self.errors(policy, steps)
        return errors, (errors,)


class PixelNormalizer(nn.Module):
    """Running mean and deviation of each pixel of images (N, *shape); nothing waits for the device."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, image: ObservationSpec) -> None:
        super().__init__()
        self._scale = image.scale
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(image.shape, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(image.shape, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        """(N, *shape) of raw images, in deviations."""
        deviation = (self.squares / self.count.clamp(min=1)).sqrt().clamp(min=LEAST_DEVIATION)
        centred = images.float() * self._scale - self.mean.float()
        return (centred / deviation.float()).clamp(-LARGEST_INPUT, LARGEST_INPUT)

    @torch.no_grad()
    def merge(self, images: Tensor, counted: Tensor) -> None:
        """Takes in those raw images that are `counted` (N,) bool (Chan's parallel form of Welford's algorithm)."""
        weights = counted.float().view(-1, *[1] * (images.dim() - 1))
        pixels, rows = images.float() * self._scale, counted.sum()
        mean = (pixels * weights).sum(0) / rows.clamp(min=1)
        squares = ((pixels - mean).square() * weights).sum(0)
        share = rows / (self.count + rows).clamp(min=1)
        delta = mean - self.mean
        self.mean.add_(delta * share)
        self.squares.add_(squares + delta.square() * self.count * share)
        self.count.add_(rows)


LARGEST_INPUT = 5.0
"""Deviations at which the paper clips what both networks see."""
LEAST_DEVIATION = 1 / 255
"""Of a pixel: one grey level of 255. A pixel that never changed looks new once it changes by a few."""
