"""Attention over entities without torch: `algorithms.networks.attention` says what is computed here.

Microseconds of an `act` on one core, from torch's to numpy's (one set of 20 entities beside 2 numbers, hidden layers of
2 x 128, PPO with one branch; other work on the machine):

| size, heads | rows | one after another | after 3 ms of sleep |
|-------------|------|-------------------|---------------------|
| 32, 2       |    1 |        462 to 108 |         1330 to 442 |
| 32, 2       |   64 |      6736 to 1347 |        3679 to 1519 |
| 64, 4       |    1 |        438 to 128 |         1274 to 501 |
| 64, 4       |    8 |       1093 to 393 |         2023 to 755 |
| 64, 4       |   64 |     13978 to 8044 |       10401 to 3867 |
| 128, 4      |    1 |        496 to 201 |         1336 to 645 |
| 128, 4      |   64 |    38053 to 32268 |      38223 to 23756 |

Torch is nowhere ahead, so no rule chooses by size. Shapes: as in `algorithms.networks.attention`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from algorithms.networks.attention import ABSENT, EntityAttention
from algorithms.networks.mlp import NORM_EPSILON
from envs.spec import Array

Linear = Callable[[Any], tuple[Array, Array]]
"""Views of a linear layer's weights, as (inputs, outputs), and of its biases."""


class NumpyAttention:
    """Features of sets from views of a module's numbers."""

    def __init__(self, module: EntityAttention, linear: Linear, activate: Callable[[Array], object]) -> None:
        self._activate = activate
        self._embeddings = [linear(layer) for layer in module.embeddings]
        self._context = None if module.context is None else module.context.weight.detach().numpy().T
        self._layers = [_Layer(layer, linear) for layer in module.layers]

    def features(self, context: Array, sets: Sequence[Array], there: Sequence[Array]) -> Array:
        """(N, 2 * S) of sets (N, K, D), which entities are there (N, K) bool, and other features (N, F)."""
        parts = []
        for (weight, bias), entities, marks in zip(self._embeddings, sets, there):
            rows, most, size = entities.shape
            part = entities.reshape(-1, size).dot(weight[:size])
            part += marks.reshape(-1, 1) * weight[size]
            part += bias
            parts.append(part.reshape(rows, most, -1))
        x = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        marks = there[0] if len(there) == 1 else np.concatenate(there, axis=1)
        if self._context is not None:
            x += context.dot(self._context)[:, None]
        self._activate(x)
        _normalize(x)
        absent = np.where(marks, ZERO, LEAST)
        for layer in self._layers:
            x = layer.step(x, absent)
        count = np.add.reduce(marks, axis=1, dtype=np.float32)[:, None]
        rows, _, size = x.shape
        features = np.empty((rows, 2 * size), np.float32)
        np.matmul(marks[:, None].astype(np.float32), x, out=features[:, None, :size])
        features[:, :size] /= np.maximum(count, ONE)
        x += absent[:, :, None]
        np.maximum.reduce(x, axis=1, out=features[:, size:])
        features[:, size:] *= count > 0
        return features


class _Layer:
    """`SelfAttention`."""

    def __init__(self, layer: Any, linear: Linear) -> None:
        self._heads = layer.heads
        self._projections = [linear(each) for each in (layer.query, layer.key, layer.value)]
        self._out, self._bias = linear(layer.out)

    def step(self, x: Array, absent: Array) -> Array:
        """(N, E, S) of the same; `absent` (N, E) is 0 where an entity is there, and else far below."""
        rows, most, size = x.shape
        flat = x.reshape(-1, size)
        query, key, value = (
            (flat.dot(weight) + bias).reshape(rows, most, self._heads, -1).swapaxes(1, 2)
            for weight, bias in self._projections
        )
        scores = query @ key.swapaxes(2, 3)
        scores *= np.float32(1 / math.sqrt(size // self._heads))
        scores += absent[:, None, None]
        scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= np.add.reduce(scores, axis=-1, keepdims=True)
        gathered = (scores @ value).swapaxes(1, 2).reshape(-1, size)
        added = gathered.dot(self._out)
        added += self._bias
        added += flat
        after: Array = added.reshape(x.shape)
        _normalize(after)
        return after


def _normalize(x: Array) -> None:
    """Layer norm, in place."""
    size = np.float32(x.shape[-1])
    x -= np.add.reduce(x, axis=-1, keepdims=True) / size
    variance = np.einsum("...i,...i->...", x, x)[..., None] / size
    variance += np.float32(NORM_EPSILON)
    x /= np.sqrt(variance, out=variance)


ZERO, ONE, LEAST = (np.array(number, np.float32) for number in (0, 1, ABSENT))
