"""Networks: encoders by observation shape, MLPs, and critics stacked into one batched pass.

Shapes: N rows, D numbers, F features, S stacked copies, (C, H, W) images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.spec import BehaviorSpec, ObservationSpec


def is_image(observation: ObservationSpec) -> bool:
    """Whether an observation goes through a CNN: three axes, both spatial sides large enough for its kernels."""
    return len(observation.shape) == 3 and min(_channels_first(observation.shape)[1:]) >= SMALLEST_IMAGE


class Encoder(nn.Module):
    """Joins prepared inputs (a vector (N, D), then the images) into one vector (N, F)."""

    def __init__(self, spec: BehaviorSpec) -> None:
        super().__init__()
        images = [observation for observation in spec.observations if is_image(observation)]
        self.images = nn.ModuleList(ImageEncoder(observation) for observation in images)
        flat = sum(math.prod(observation.shape) for observation in spec.observations if not is_image(observation))
        self.features = flat + sum(image.features for image in self.images if isinstance(image, ImageEncoder))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Features (N, F)."""
        if not self.images:
            return inputs[0]
        parts = [encoder(image) for encoder, image in zip(self.images, inputs[1:])]
        return torch.cat([inputs[0], *parts], dim=-1)


class ImageEncoder(nn.Module):
    """A small CNN of two layers (ML-Agents' `simple`) over raw images of either channel order."""

    def __init__(self, observation: ObservationSpec) -> None:
        super().__init__()
        channels, height, width = _channels_first(observation.shape)
        self._permute = (channels, height, width) != observation.shape
        self._scale = observation.scale
        self.first = nn.Conv2d(channels, 16, 8, stride=4)
        self.second = nn.Conv2d(16, 32, 4, stride=2)
        for layer in (self.first, self.second):
            initialize(layer, math.sqrt(2))
        self.features = 32 * math.prod(((side - 8) // 4 + 1 - 4) // 2 + 1 for side in (height, width))

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, F) of raw images."""
        if self._permute:
            images = images.permute(0, 3, 1, 2)
        images = images.float() * self._scale
        return torch.relu(self.second(torch.relu(self.first(images)))).flatten(1)


class MLP(nn.Module):
    """Linear layers, each followed by a ReLU; no layer at all hands the input on."""

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        self.layers = nn.ModuleList(nn.Linear(ahead, behind) for ahead, behind in pairwise(sizes))
        for layer in self.layers:
            initialize(layer, math.sqrt(2))
        self.features = sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, F) of inputs (N, D)."""
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class StackedMLP(nn.Module):
    """Several MLPs of one shape in one batched pass; layer norm before each ReLU keeps critics from diverging."""

    def __init__(self, copies: int, inputs: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        sizes = [inputs, *hidden, outputs]
        self.weights = nn.ParameterList(
            torch.empty(copies, ahead, behind).uniform_(-1, 1) / math.sqrt(ahead) for ahead, behind in pairwise(sizes)
        )
        self.biases = nn.ParameterList(torch.zeros(copies, 1, behind) for behind in sizes[1:])
        self._copies = copies

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (S, N, O) of inputs (N, D)."""
        x = x.expand(self._copies, *x.shape)
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.baddbmm(bias, x, weight)
            if i < last:
                x = torch.relu(F.layer_norm(x, x.shape[-1:]))
        return x


def initialize(layer: nn.Module, gain: float) -> None:
    """Orthogonal weights and zero biases."""
    for parameter in layer.parameters():
        if parameter.dim() > 1:
            nn.init.orthogonal_(parameter, gain)
        else:
            nn.init.zeros_(parameter)


SMALLEST_IMAGE = 20
"""Pixels a side that the two layers need at least."""


def _channels_first(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(C, H, W): the channels are the shorter of the first and the last axis."""
    if shape[0] <= shape[-1]:
        return shape[0], shape[1], shape[2]
    return shape[2], shape[0], shape[1]
