"""Encoders of images: ours and ML-Agents', and a user's own, by the registry of encoders.

An encoder is a module, made as `Class(channels, height, width)`. Its `forward` returns features (N, F) of float images
(N, C, H, W), and its `features` is F. `min_side` is the least number of pixels a side that it takes, 1 by default;
smaller images are refused. Only `simple` leaves the smallest ones to the MLP. Ours are given the units of their last
layer, too, if `network.encoder_units` says so; a user's own gets a further layer.

Shapes: N rows, F features, (C, H, W) images.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.metrics import words_of
from algorithms.networks.checks import check_module
from algorithms.settings import ENCODERS, NetworkSettings
from envs.spec import ObservationSpec, UserError


@cache
def encoder_class(name: str) -> Any:
    """Returns the class of the encoder of that name or import path; UserError if there is none."""
    found = ENCODERS.find(name, "network.encoder")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"network.encoder: {name} must be a subclass of torch.nn.Module")
    return found


def is_image(observation: ObservationSpec, network: NetworkSettings) -> bool:
    """Whether an observation goes through an encoder: three axes; `simple` leaves the smallest ones to the MLP."""
    if len(observation.shape) != 3:
        return False
    kept = encoder_class(network.encoder) is not SimpleCNN
    return kept or min(_channels_first(observation)[1:]) >= network.flatten_below


class ImageEncoder(nn.Module):
    """Features of raw images of either channel order. Raises UserError if they are too small for the encoder."""

    def __init__(self, observation: ObservationSpec, encoder: str, units: int | None = None) -> None:
        """`units` are those of the last layer; None = what the encoder has by itself."""
        super().__init__()
        channels, height, width = _channels_first(observation)
        kind, side = encoder_class(encoder), min(height, width)
        if side < _min_side(kind):
            others = "impala or simple, which fit" if side >= ImpalaResNet.min_side else "simple, which fits"
            raise UserError(
                f"network.encoder={encoder} does not fit observation {observation.name!r} of shape "
                f"{observation.shape}: it needs {_min_side(kind)} pixels a side, the smaller side has {side}; "
                f"choose network.encoder={others}"
            )
        self.permutes = not observation.channels_first
        """Whether images come as (H, W, C)."""
        self.shape = (channels, height, width)
        self._scale = observation.scale
        about = f"network.encoder={encoder}"
        own = encoder not in ENCODERS.built_in()
        try:
            self.network = kind(channels, height, width, *([] if own or units is None else [units]))
        except Exception as error:
            raise UserError(f"{about} cannot be made for images of {self.shape} ({words_of(error)})") from error
        if own:
            check_module(self.network, lambda rows: torch.zeros(rows, channels, height, width), about)
        self.features: int = self.network.features
        self.last = nn.Sequential()
        """What follows a user's own encoder."""
        if own and units is not None:
            self.last = nn.Sequential(*_with_relu(nn.Linear(self.features, units)))
            self.features = units

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, F) of raw images."""
        if self.permutes:
            images = images.permute(0, 3, 1, 2)
        features: Tensor = self.last(self.network(images.float() * self._scale))
        return features


class SimpleCNN(nn.Sequential):
    """Two layers, flattened: those of ML-Agents' `simple`, or of 3 x 3 pixels where a side has fewer than 20."""

    min_side = 5

    def __init__(self, channels: int, height: int, width: int, units: int | None = None) -> None:
        small = min(height, width) < 20
        (size, stride), (next_size, next_stride) = ((3, 1), (3, 1)) if small else ((8, 4), (4, 2))
        first, second = nn.Conv2d(channels, 16, size, stride), nn.Conv2d(16, 32, next_size, next_stride)
        sides = (((side - size) // stride + 1 - next_size) // next_stride + 1 for side in (height, width))
        flat = 32 * math.prod(sides)
        last = () if units is None else _with_relu(nn.Linear(flat, units))
        super().__init__(*_with_relu(first), *_with_relu(second), nn.Flatten(), *last)
        self.features = units or flat


class NatureCNN(nn.Sequential):
    """Three layers and a linear one (Mnih et al. 2015, doi 10.1038/nature14236)."""

    min_side = 36

    def __init__(self, channels: int, height: int, width: int, units: int = 512) -> None:
        pixels = math.prod(((side - 8) // 4 + 1 - 4) // 2 + 1 - 2 for side in (height, width))
        sizes = ((channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1))
        layers = [layer for each in sizes for layer in _with_relu(nn.Conv2d(*each))]
        super().__init__(*layers, nn.Flatten(), *_with_relu(nn.Linear(64 * pixels, units)))
        self.features = units


class Match3CNN(nn.Sequential):
    """Two layers of 3 x 3 pixels and a linear one: ML-Agents' `match3`, for boards of a few cells a side."""

    min_side = 5

    def __init__(self, channels: int, height: int, width: int, units: int = 128) -> None:
        first, second = nn.Conv2d(channels, 35, 3), nn.Conv2d(35, 144, 3)
        last = nn.Linear(144 * (height - 4) * (width - 4), units)
        super().__init__(*_with_relu(first), *_with_relu(second), nn.Flatten(), *_with_relu(last))
        self.features = units


class FullyConnected(nn.Sequential):
    """A linear layer of all pixels: ML-Agents' `fully_connected`."""

    def __init__(self, channels: int, height: int, width: int, units: int = 128) -> None:
        super().__init__(nn.Flatten(), *_with_relu(nn.Linear(channels * height * width, units)))
        self.features = units


class ImpalaResNet(nn.Sequential):
    """Three sections of a layer, a pooling and two residual blocks, and a linear layer (Espeholt 2018, 1802.01561)."""

    min_side = 8

    def __init__(self, channels: int, height: int, width: int, units: int = 256) -> None:
        layers: list[nn.Module] = []
        for outputs in (16, 32, 32):
            # A padded pooling of stride 2 halves a side and rounds up.
            convolution = nn.Conv2d(channels, outputs, 3, padding=1)
            initialize(convolution, math.sqrt(2))
            pooling = nn.MaxPool2d(3, stride=2, padding=1)
            layers += [convolution, pooling, ResidualBlock(outputs), ResidualBlock(outputs)]
            channels, height, width = outputs, (height + 1) // 2, (width + 1) // 2
        super().__init__(*layers, nn.ReLU(), nn.Flatten(), *_with_relu(nn.Linear(channels * height * width, units)))
        self.features = units


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


def _with_relu(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    initialize(layer, math.sqrt(2))
    return layer, nn.ReLU()


def _min_side(kind: Any) -> int:
    return getattr(kind, "min_side", 1)


def _channels_first(observation: ObservationSpec) -> tuple[int, int, int]:
    """(C, H, W) of an image."""
    first, middle, last = observation.shape
    return (first, middle, last) if observation.channels_first else (last, first, middle)
