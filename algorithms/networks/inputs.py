"""What networks get of observations, and what joins it into one vector.

A network's inputs are a vector of all observations that are neither images nor sets, those that are normalised first;
then the images, as they were sent; then the sets, each entity with a mark behind its numbers: 1 where it is there.

Shapes: N rows, D numbers, K entities, F features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algorithms.networks.attention import EntityAttention
from algorithms.networks.encoders import ImageEncoder, is_image
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec


class Encoder(nn.Module):
    """Joins prepared inputs into one vector (N, F): the vector, features of images, and what attention says of sets."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__()
        observations = spec.observations
        pictures = [o for o in observations if is_image(o, settings)]
        encoders = [ImageEncoder(o, settings.encoder, settings.encoder_units) for o in pictures]
        self.images = nn.ModuleList(encoders)
        self.goal: list[tuple[int, int]] = []
        """Where the features of each goal signal begin and end."""
        parts = [(observations[i], math.prod(observations[i].shape)) for i in vector_order(spec, settings)]
        self.features = 0
        for observation, size in [*parts, *zip(pictures, (encoder.features for encoder in encoders))]:
            self.goal += [(self.features, self.features + size)] if observation.goal else []
            self.features += size
        self.attention: EntityAttention | None = None
        if sets := [o for o in observations if o.entities]:
            self.attention = EntityAttention(sets, self.features, settings.attention, settings.activation)
            self.features += self.attention.features

    @property
    def is_flat(self) -> bool:
        """Whether all that it gets is a vector, which it hands on as it is."""
        return not self.images and self.attention is None

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Features (N, F)."""
        if self.is_flat:
            return inputs[0]
        count = len(self.images)
        parts = [inputs[0], *(encoder(image) for encoder, image in zip(self.images, inputs[1:]))]
        fixed = torch.cat(parts, dim=-1) if count else inputs[0]
        if self.attention is None:
            return fixed
        return torch.cat([fixed, self.attention(fixed, inputs[1 + count :])], dim=-1)


def is_normalized(observation: ObservationSpec, settings: NetworkSettings) -> bool:
    """Whether an observation is shifted and scaled: floats that are no image, of sets the entities that are there."""
    return settings.normalize and observation.dtype == "float32" and not is_image(observation, settings)


def vector_order(spec: BehaviorSpec, settings: NetworkSettings) -> list[int]:
    """Returns the places of the observations that make up the vector, those that are normalised first."""
    observations = spec.observations
    places = [i for i, o in enumerate(observations) if not (o.entities or is_image(o, settings))]
    return sorted(places, key=lambda i: not is_normalized(observations[i], settings))


def vector_size(spec: BehaviorSpec, settings: NetworkSettings) -> int:
    """D: numbers of the vector."""
    return sum(math.prod(spec.observations[i].shape) for i in vector_order(spec, settings))


def marked(entities: Tensor) -> Tensor:
    """(N, K, 1): 1 for each of the raw entities (N, K, D) that is there, which has a number other than 0; else 0."""
    return (entities != 0).any(-1, keepdim=True).float()
