"""Networks: what joins observations, MLPs, and critics stacked into one batched pass.

Shapes: N rows, D numbers, F features, S stacked copies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.networks.encoders import ImageEncoder, initialize, is_image
from algorithms.ops.manual_grad import ByHand, by_autograd
from algorithms.ops.matmul import linear, prefers_one_dnn, product, stacked_product
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
        if not any(prefers_one_dnn(x, weight) for weight in _parameters(self.layers)[::2]):
            return self.plain(x)
        features: Tensor = _dense(x, True, *_parameters(self.layers))
        return features

    def plain(self, x: Tensor) -> Tensor:
        """The same by torch's own operations: their gradient has a gradient."""
        for layer in self.layers:
            x = layer(x).relu_()
        return x

    def by_hand(self, x: Tensor, head: nn.Linear) -> ByHand:
        """What `head` makes of the features (N, O).

        Gradients are those of nothing, nothing, and all parameters, from that of the first rows, be they all or not.
        """
        parameters = _parameters([*self.layers, head])
        return ByHand(_Dense, (False, False, *[True] * len(parameters)), x, False, *parameters)


def _parameters(layers: Iterable[nn.Module]) -> list[Tensor]:
    return [parameter for layer in layers for parameter in layer.parameters()]


class _Dense:
    """Linear layers, each followed by a ReLU, the last one only if `relu`; and the gradient by hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, relu: bool, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        ctx.count = len(weights)
        kept = []
        for i, (weight, bias) in enumerate(zip(weights, biases), 1):
            kept.append(x)
            x = linear(x, weight, bias, relu or i < ctx.count)
        ctx.save_for_backward(*weights, *kept, *([x] if relu else []))
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, kept = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        to_x, _, *to_parameters = ctx.needs_input_grad
        if len(gradient) < len(kept[0]):
            kept = [x[: len(gradient)] for x in kept]
        of_parameters: list[Tensor | None] = [None] * (2 * ctx.count)
        for i in reversed(range(ctx.count)):
            if i + 1 < len(kept):
                gradient = torch.ops.aten.threshold_backward(gradient, kept[i + 1], 0)
            if to_parameters[0]:
                of_parameters[2 * i : 2 * i + 2] = product(gradient.t(), kept[i]), gradient.sum(0)
            if i or to_x:
                gradient = product(gradient, weights[i])
        return gradient if to_x else None, None, *of_parameters


_dense = by_autograd(_Dense)


class StackedMLP(nn.Module):
    """Several MLPs of one shape in one batched pass; layer norm before each ReLU keeps critics from diverging."""

    ones: Tensor
    zeros: Tensor

    def __init__(self, copies: int, inputs: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        shapes = [*pairwise(sizes), (outputs, sizes[-1])]
        self.weights = nn.ParameterList(
            torch.empty(copies, *shape).uniform_(-1, 1) / math.sqrt(ahead) for shape, ahead in zip(shapes, sizes)
        )
        self.biases = nn.ParameterList(
            torch.zeros(copies, *shape) for shape in [(1, n) for n in hidden] + [(outputs, 1)]
        )
        # Scale and shift of layer norms: learned by nobody, but torch's kernel takes half the time if they are there.
        self.register_buffer("ones", torch.ones(max(hidden, default=0)), persistent=False)
        self.register_buffer("zeros", torch.zeros(max(hidden, default=0)), persistent=False)

    def forward(self, features: Tensor, others: Tensor, judged: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Outputs (S, O, N) of inputs (N, D), which are `features` beside `others`, and of `features` beside `judged`.

        The gradient of the latter goes to `judged` alone: to no weights and no features.
        """
        outputs: tuple[Tensor, Tensor | None] = _stacked(*self._arguments(features, others, judged))
        return outputs

    def by_hand(self, features: Tensor, others: Tensor, judged: Tensor | None) -> ByHand:
        """The same. Gradients are those of nothing, nothing, `judged`, nothing, and all parameters."""
        arguments = self._arguments(features, others, judged)
        wanted = (False, False, judged is not None, False, *[True] * len(arguments[4:]))
        return ByHand(_Stacked, wanted, *arguments)

    def _arguments(self, features: Tensor, others: Tensor, judged: Tensor | None) -> tuple[Any, ...]:
        return features, others, judged, (self.ones, self.zeros), *self.weights, *self.biases


class _Stacked:
    """The pass of `StackedMLP` and its gradient by hand: only what somebody asks for, in the products that are fast.

    Microseconds at 2 x 256 and batch 256 on one core, from autograd's to these: the gradient of 6 actions beside 17
    observed numbers 245 to 41; a last layer of one output 95 to 24, of its weights 187 to 7, of its inputs 75 to 5.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, others: Tensor, judged: Tensor | None, norm: _Norm, *parameters: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        ctx.norm, ctx.rows, ctx.split, ctx.layers = norm, len(features), features.shape[1], len(parameters) // 2
        weights, biases = parameters[: ctx.layers], parameters[ctx.layers :]
        x = torch.cat([features, others], dim=-1) if others.shape[1] else features
        if judged is not None:
            x = torch.cat([x, torch.cat([features, judged], dim=-1)])
        x = x.expand(len(weights[0]), *x.shape)
        kept = [x]
        for weight, bias in zip(weights[:-1], biases[:-1]):
            raw = stacked_product(x, weight, bias)
            x, mean, scale = torch.ops.aten.native_layer_norm(raw, raw.shape[-1:], *_sized(norm, raw), NORM_EPSILON)
            kept += [raw, mean, scale, x.relu_()]
        ctx.save_for_backward(*weights, *kept)
        outputs = torch.baddbmm(biases[-1], weights[-1], x.mT)
        return (outputs, None) if judged is None else (outputs[..., : ctx.rows], outputs[..., ctx.rows :])

    @staticmethod
    def backward(ctx: Any, learned: Tensor, beside: Tensor | None) -> tuple[Tensor | None, ...]:
        weights, kept = ctx.saved_tensors[: ctx.layers], ctx.saved_tensors[ctx.layers :]
        to_features, to_others, to_judged, _, *to_parameters = ctx.needs_input_grad
        of_weights: list[Tensor | None] = [None] * ctx.layers
        of_biases: list[Tensor | None] = [None] * ctx.layers
        if to_parameters[0]:
            of_weights[-1] = torch.bmm(learned, _part(kept[-1], ctx.rows))
            of_biases[-1] = learned.sum(-1, keepdim=True)
        gradient = (learned if beside is None else torch.cat([learned, beside], dim=-1)).mT
        first = weights[0] if ctx.layers == 1 else weights[0].mT
        for i in reversed(range(ctx.layers - 1)):
            back = weights[i + 1] if i == ctx.layers - 2 else weights[i + 1].mT
            x, *kept_between = kept[4 * i : 4 * i + 5]
            gradient = _before_norm(_times(gradient, back), ctx.norm, *kept_between)
            if to_parameters[0]:
                learned = _part(gradient, ctx.rows)
                of_weights[i] = stacked_product(_part(x, ctx.rows).mT, learned)
                of_biases[i] = learned.sum(1, keepdim=True)
        behind = first[..., ctx.split :]
        if to_features or to_others:
            learned = _part(gradient, ctx.rows)
        return (
            torch.bmm(learned, first[..., : ctx.split]).sum(0) if to_features else None,
            torch.bmm(learned, behind).sum(0) if to_others else None,
            torch.bmm(gradient[:, ctx.rows :], behind).sum(0) if to_judged else None,
            None,
            *of_weights,
            *of_biases,
        )


_stacked = by_autograd(_Stacked)


def _part(x: Tensor, rows: int) -> Tensor:
    """The first rows of (S, N, ...)."""
    return x if x.shape[1] == rows else x[:, :rows]


_Norm = tuple[Tensor, Tensor]


def _sized(norm: _Norm, x: Tensor) -> Iterable[Tensor]:
    """Scale and shift (H,) of a layer norm over x (..., H), of those for the widest."""
    size = x.shape[-1]
    return norm if len(norm[0]) == size else (part[:size] for part in norm)


def _times(gradient: Tensor, weight: Tensor) -> Tensor:
    """(S, N, D) of (S, N, O) and (S, O, D): of one output an outer product, for which `bmm` takes ten times as long."""
    return gradient * weight if gradient.shape[-1] == 1 else stacked_product(gradient, weight)


def _before_norm(gradient: Tensor, norm: _Norm, raw: Tensor, mean: Tensor, scale: Tensor, out: Tensor) -> Tensor:
    """The gradient of what a layer norm and a ReLU made `out` (S, N, H) of: of `raw`."""
    gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
    results = torch.ops.aten.native_layer_norm_backward(
        gradient, raw, raw.shape[-1:], mean, scale, *_sized(norm, raw), [True, False, False]
    )
    return results[0]  # type: ignore[no-any-return]


NORM_EPSILON = 1e-5


def vector_size(spec: BehaviorSpec, settings: NetworkSettings) -> int:
    """D: numbers of the vector that holds all observations but the images."""
    return sum(math.prod(o.shape) for o in spec.observations if not is_image(o, settings.encoder))
