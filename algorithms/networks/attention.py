"""Attention over the entities of sets: features that depend on which entities there are, and not on their order.

As in ML-Agents, all entities of all sets attend to each other, each knowing what else was observed, in residual layers
(Vaswani et al. 2017, arXiv 1706.03762; of entities, Baker et al. 2019, arXiv 1909.07528). Those that are there are
pooled by their mean and, unlike in ML-Agents, also by their largest numbers: the mean of many says little of one.

Shapes: N rows, F features of what else was observed, E entities of all sets together, K of one set, D numbers of each,
S numbers of an embedding, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.networks.encoders import initialize
from algorithms.networks.mlp import ACTIVATIONS, NORM_EPSILON
from algorithms.settings import Activation, AttentionSettings
from envs.spec import ObservationSpec


class EntityAttention(nn.Module):
    """Features of sets of entities, beside `context` other features F."""

    def __init__(
        self, sets: Sequence[ObservationSpec], context: int, settings: AttentionSettings, activation: Activation
    ) -> None:
        super().__init__()
        size = settings.size
        self.features, self.activation = 2 * size, activation
        self.embeddings = nn.ModuleList(nn.Linear(o.shape[1] + 1, size) for o in sets)
        self.context = nn.Linear(context, size, bias=False) if context else None
        for layer in (*self.embeddings, *([self.context] if self.context is not None else [])):
            initialize(layer, math.sqrt(2))
        self.layers = nn.ModuleList(SelfAttention(size, settings.heads) for _ in range(settings.layers))

    def forward(self, context: Tensor, sets: Sequence[Tensor]) -> Tensor:
        """Features (N, 2 * S) of sets (N, K, D + 1) and other features (N, F); 0 without entities.

        The last number of an entity is 1 where it is there, and 0 where it is absent, as are all others then.
        """
        embedded = torch.cat([embed(entities) for embed, entities in zip(self.embeddings, sets)], dim=1)  # (N, E, S)
        if self.context is not None:
            embedded = embedded + self.context(context)[:, None]
        marks = torch.cat([entities[..., -1:] for entities in sets], dim=1)  # (N, E, 1)
        there = marks > 0
        x = layer_norm(ACTIVATIONS[self.activation](embedded))
        for layer in self.layers:
            x = layer(x, there)
        mean = (x * marks).sum(1) / marks.sum(1).clamp(min=1)
        largest = x.masked_fill(~there, ABSENT).amax(1) * there.any(1)
        return torch.cat([mean, largest], dim=-1)


class SelfAttention(nn.Module):
    """Adds to each entity what it gathers from all that are there."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))
        for layer in (self.query, self.key, self.value, self.out):
            initialize(layer, 1.0)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """(N, E, S) of the same; `there` (N, E, 1) bool."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )  # (N, H, E, S / H)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        weights = scores.masked_fill(~there.mT[:, None], ABSENT).softmax(-1)  # (N, H, E, E)
        gathered = (weights @ value).transpose(1, 2).flatten(2)
        return layer_norm(x + self.out(gathered))


def layer_norm(x: Tensor) -> Tensor:
    """(..., S) of zero mean and unit deviation, without scale and shift."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPSILON)


ABSENT = -1e6
"""A score so low that a softmax makes it 0, of entities that are not there."""
