"""Attention over entities in the operators that Unity's importers read.

`algorithms.networks.attention` says what is computed here. There is no Einsum, no Expand and no LayerNormalization as
one operator, and no transposition follows another: those importers know none of these, or fold them wrongly.

Shapes: as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from torch import nn

from algorithms.networks.attention import ABSENT, EntityAttention
from algorithms.onnx.graph import ACTIVATIONS, Graph


def attention(graph: Graph, module: EntityAttention, context: str | None, sets: Sequence[str], most: int) -> str:
    """(N, 2 * S) of sets (N, K, D + 1), and what else is observed (N, F) if there is any; `most` is E."""
    layers = cast(Sequence[nn.Linear], module.embeddings)
    embedded = [graph.linear_of_last(x, layer.weight, layer.bias) for layer, x in zip(layers, sets)]
    x = graph.concat(embedded)
    if module.context is not None and context is not None:
        own = graph.node("Unsqueeze", graph.linear_of_last(context, module.context.weight, None), axes=[1])
        x = graph.node("Add", x, graph.concat([own] * most))
    marks = graph.concat(
        [
            graph.node("Slice", each, axes=[2], starts=[layer.in_features - 1], ends=[layer.in_features])
            for layer, each in zip(layers, sets)
        ]
    )  # (N, E, 1)
    absent = graph.node("Mul", graph.node("Sub", graph.number(1.0), marks), graph.number(ABSENT))
    x = graph.layer_norm(ACTIVATIONS[module.activation](graph, x), 2)
    for layer in module.layers:
        x = _self_attention(graph, layer, x, absent, most)
    count = graph.node("ReduceSum", marks, axes=[1], keepdims=0)  # (N, 1)
    there = graph.node("Mul", x, marks)
    mean = graph.node("ReduceSum", there, axes=[1], keepdims=0)
    mean = graph.node("Div", mean, graph.node("Clip", count, min=1.0, max=float(np.finfo(np.float32).max)))
    largest = graph.node("ReduceMax", graph.node("Add", there, absent), axes=[1], keepdims=0)
    largest = graph.node("Mul", largest, graph.node("Clip", count, min=0.0, max=1.0))
    return graph.concat([mean, largest])


def _self_attention(graph: Graph, layer: Any, x: str, absent: str, most: int) -> str:
    heads, size = layer.heads, layer.out.in_features
    split = graph.constant(np.array([-1, most, heads, size // heads], np.int64))
    query, key, value = (
        graph.node(
            "Transpose", graph.node("Reshape", graph.linear_of_last(x, each.weight, each.bias), split), perm=axes
        )
        for each, axes in ((layer.query, [0, 2, 1, 3]), (layer.key, [0, 2, 3, 1]), (layer.value, [0, 2, 1, 3]))
    )
    scores = graph.node("Div", graph.node("MatMul", query, key), graph.number(float(np.sqrt(size // heads))))
    others = graph.node("Unsqueeze", graph.node("Transpose", absent, perm=[0, 2, 1]), axes=[1])  # (N, 1, 1, E)
    weights = graph.node("Softmax", graph.node("Add", scores, others), axis=3)
    gathered = graph.node("Transpose", graph.node("MatMul", weights, value), perm=[0, 2, 1, 3])
    gathered = graph.node("Reshape", gathered, graph.constant(np.array([-1, most, size], np.int64)))
    added = graph.linear_of_last(gathered, layer.out.weight, layer.out.bias)
    return graph.layer_norm(graph.node("Add", x, added), 2)
