"""Networks: what joins observations, MLPs, and critics stacked into one batched pass.

Shapes: N rows, D numbers, F features, S stacked copies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.encoders import ImageEncoder, initialize, is_image
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec


class Encoder(nn.Module):
    """Joins prepared inputs (a vector (N, D), then the images) into one vector (N, F)."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__()
        encoders = [ImageEncoder(o, settings.encoder) for o in spec.observations if is_image(o, settings.encoder)]
        self.images = nn.ModuleList(encoders)
        self.features = vector_size(spec, settings) + sum(encoder.features for encoder in encoders)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Features (N, F)."""
        if not self.images:
            return inputs[0]
        parts = [encoder(image) for encoder, image in zip(self.images, inputs[1:])]
        return torch.cat([inputs[0], *parts], dim=-1)


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


def vector_size(spec: BehaviorSpec, settings: NetworkSettings) -> int:
    """D: numbers of the vector that holds all observations but the images."""
    return sum(math.prod(o.shape) for o in spec.observations if not is_image(o, settings.encoder))
