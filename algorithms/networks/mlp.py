"""Networks: what joins observations, MLPs, and critics stacked into one batched pass.

Shapes: N rows, D numbers, F features, S stacked copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.networks.encoders import ImageEncoder, initialize, is_image
from algorithms.settings import Activation, NetworkSettings
from envs.spec import BehaviorSpec


class Encoder(nn.Module):
    """Joins prepared inputs (a vector (N, D), then the images) into one vector (N, F)."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__()
        encoders = [
            ImageEncoder(o, settings.encoder, settings.encoder_units)
            for o in spec.observations
            if is_image(o, settings)
        ]
        self.images = nn.ModuleList(encoders)
        self.features = vector_size(spec, settings) + sum(encoder.features for encoder in encoders)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Features (N, F)."""
        if not self.images:
            return inputs[0]
        parts = [encoder(image) for encoder, image in zip(self.images, inputs[1:])]
        return torch.cat([inputs[0], *parts], dim=-1)


class MLP(nn.Module):
    """Linear layers, each followed by an activation; no layer at all hands the input on."""

    def __init__(self, inputs: int, hidden: Sequence[int], activation: Activation = Activation["relu"]) -> None:
        super().__init__()
        self.activation = activation
        sizes = [inputs, *hidden]
        self.layers = nn.ModuleList(nn.Linear(ahead, behind) for ahead, behind in pairwise(sizes))
        for layer in self.layers:
            initialize(layer, math.sqrt(2))
        self.features = sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, F) of inputs (N, D)."""
        activate = ACTIVATIONS[self.activation]
        for layer in self.layers:
            x = activate(layer(x))
        return x


class StackedMLP(nn.Module):
    """Several MLPs of one shape in one batched pass; layer norm before activations keeps critics from diverging."""

    ones: Tensor
    zeros: Tensor

    def __init__(
        self,
        copies: int,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        activation: Activation = Activation["relu"],
    ) -> None:
        super().__init__()
        self.activation = activation
        sizes = [inputs, *hidden]
        shapes = [*pairwise(sizes), (outputs, sizes[-1])]
        self.weights = nn.ParameterList(
            torch.empty(copies, *shape).uniform_(-1, 1) / math.sqrt(ahead) for shape, ahead in zip(shapes, sizes)
        )
        shapes = [*((1, units) for units in hidden), (outputs, 1)]
        self.biases = nn.ParameterList(torch.zeros(copies, *shape) for shape in shapes)
        self.layers = list(zip(self.weights, self.biases))
        """The same layer by layer: going through the lists above takes a quarter of a pass at 2 x 64."""
        # Scale and shift of layer norms: learned by nobody, but torch's kernel takes half the time if they are there.
        self.register_buffer("ones", torch.ones(max(hidden, default=0)), persistent=False)
        self.register_buffer("zeros", torch.zeros(max(hidden, default=0)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (S, O, N) of inputs (N, D)."""
        *hidden, (last_weight, last_bias) = self.layers
        activate = ACTIVATIONS[self.activation]
        x = x.expand(len(last_weight), *x.shape)
        for weight, bias in hidden:
            x = activate(self._norm(torch.baddbmm(bias, x, weight)))
        return torch.baddbmm(last_bias, last_weight, x.mT)

    def _norm(self, x: Tensor) -> Tensor:
        size, scale, shift = x.shape[-1], self.ones, self.zeros
        if size < len(scale):
            scale, shift = scale[:size], shift[:size]
        return torch.layer_norm(x, (size,), scale, shift, NORM_EPSILON)


NORM_EPSILON = 1e-5
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    Activation["relu"]: torch.relu_,
    Activation["silu"]: F.silu,
    Activation["tanh"]: torch.tanh_,
}
"""In place where the gradient follows from what comes out: SiLU's needs what went in."""


def vector_size(spec: BehaviorSpec, settings: NetworkSettings) -> int:
    """D: numbers of the vector that holds all observations but the images."""
    return sum(math.prod(o.shape) for o in spec.observations if not is_image(o, settings))
