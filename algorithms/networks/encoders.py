"""Encoders of images: a small CNN, the Nature CNN, and IMPALA's ResNet.

Shapes: N rows, F features, (C, H, W) images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from algorithms.settings import Images
from envs.spec import ObservationSpec, UserError

LEAST_SIDES = {Images["simple"]: 20, Images["nature"]: 36, Images["impala"]: 8}
"""Pixels a side that an encoder's layers leave something of."""


def is_image(observation: ObservationSpec, encoder: Images) -> bool:
    """Whether an observation goes through a CNN: three axes; `simple` leaves those that are too small to the MLP."""
    if len(observation.shape) != 3:
        return False
    return encoder is not Images["simple"] or min(_channels_first(observation.shape)[1:]) >= LEAST_SIDES[encoder]


class ImageEncoder(nn.Module):
    """Features of raw images of either channel order. Raises UserError if they are too small for the encoder."""

    def __init__(self, observation: ObservationSpec, encoder: Images) -> None:
        super().__init__()
        channels, height, width = _channels_first(observation.shape)
        if min(height, width) < LEAST_SIDES[encoder]:
            raise UserError(_too_small(observation, encoder, min(height, width)))
        self.permutes = (channels, height, width) != observation.shape
        """Whether images come as (H, W, C)."""
        self._scale = observation.scale
        self.network = _NETWORKS[encoder](channels, height, width)
        self.features = self.network.features

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, F) of raw images."""
        if self.permutes:
            images = images.permute(0, 3, 1, 2)
        features: Tensor = self.network(images.float() * self._scale)
        return features


class SimpleCNN(nn.Sequential):
    """Two layers (ML-Agents' `simple`), flattened."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__(*_convolution(channels, 16, 8, 4), *_convolution(16, 32, 4, 2), nn.Flatten())
        self.features = 32 * math.prod(((side - 8) // 4 + 1 - 4) // 2 + 1 for side in (height, width))


class NatureCNN(nn.Sequential):
    """Three layers and a linear one (Mnih et al. 2015, doi 10.1038/nature14236)."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        pixels = math.prod(((side - 8) // 4 + 1 - 4) // 2 + 1 - 2 for side in (height, width))
        super().__init__(
            *_convolution(channels, 32, 8, 4),
            *_convolution(32, 64, 4, 2),
            *_convolution(64, 64, 3, 1),
            nn.Flatten(),
            *_linear(64 * pixels, 512),
        )
        self.features = 512


class ImpalaResNet(nn.Sequential):
    """Three sections of a layer, a pooling and two residual blocks, and a linear layer (Espeholt 2018, 1802.01561)."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        layers: list[nn.Module] = []
        for outputs in (16, 32, 32):
            # A padded pooling of stride 2 halves a side and rounds up.
            convolution = nn.Conv2d(channels, outputs, 3, padding=1)
            initialize(convolution, math.sqrt(2))
            pooling = nn.MaxPool2d(3, stride=2, padding=1)
            layers += [convolution, pooling, ResidualBlock(outputs), ResidualBlock(outputs)]
            channels, height, width = outputs, (height + 1) // 2, (width + 1) // 2
        super().__init__(*layers, nn.ReLU(), nn.Flatten(), *_linear(channels * height * width, 256))
        self.features = 256


class ResidualBlock(nn.Module):
    """Adds to its input what two layers make of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        initialize(self.first, math.sqrt(2))
        # It adds nothing at first: else every block would double the variance.
        initialize(self.second, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) of the same."""
        added: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + added


def initialize(layer: nn.Module, gain: float) -> None:
    """Orthogonal weights and zero biases."""
    for parameter in layer.parameters():
        if parameter.dim() > 1:
            nn.init.orthogonal_(parameter, gain)
        else:
            nn.init.zeros_(parameter)


def _convolution(channels: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    layer = nn.Conv2d(channels, outputs, kernel, stride)
    initialize(layer, math.sqrt(2))
    return layer, nn.ReLU()


def _linear(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    layer = nn.Linear(inputs, outputs)
    initialize(layer, math.sqrt(2))
    return layer, nn.ReLU()


def _too_small(observation: ObservationSpec, encoder: Images, side: int) -> str:
    impala = Images["impala"]
    others = (
        "network.encoder=impala or simple, which fit"
        if side >= LEAST_SIDES[impala]
        else "network.encoder=simple, which fits"
    )
    return (
        f"network.encoder={encoder.name} does not fit observation {observation.name!r} of shape {observation.shape}: "
        f"it needs {LEAST_SIDES[encoder]} pixels a side, the smaller side has {side}; choose {others}"
    )


_NETWORKS: dict[Images, type[SimpleCNN] | type[NatureCNN] | type[ImpalaResNet]] = {
    Images["simple"]: SimpleCNN,
    Images["nature"]: NatureCNN,
    Images["impala"]: ImpalaResNet,
}


def _channels_first(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(C, H, W): the channels are the shorter of the first and the last axis."""
    if shape[0] <= shape[-1]:
        return shape[0], shape[1], shape[2]
    return shape[2], shape[0], shape[1]
