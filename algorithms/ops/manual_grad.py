"""Passes of networks whose gradients are written by hand, of which autograd keeps no record.

That record takes longer than what small networks compute: a quarter of SAC's update at 2 x 64 and batch 64. What is
here serves no other purpose than speed, gives what `algorithms.networks` gives, and runs under `torch.no_grad`.

Shapes: N rows of which the first M are learned from, D inputs, H units, O outputs, S stacked copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.networks.distributions import LOG_ROOT, SquashedGaussian
from algorithms.networks.mlp import ACTIVATIONS, MLP, NORM_EPSILON, StackedMLP
from algorithms.ops.matmul import linear, product, stacked_product
from algorithms.settings import Activation


class DensePass:
    """An MLP and a linear layer behind it."""

    def __init__(self, mlp: MLP, head: nn.Linear, x: Tensor) -> None:
        parameters = [*mlp.parameters(), *head.parameters()]
        self._weights, biases = parameters[::2], parameters[1::2]
        self._activation = mlp.activation
        self._inputs, self._kept = [], []
        for weight, bias in zip(self._weights[:-1], biases):
            self._inputs.append(x)
            fused = self._activation is Activation["relu"]
            x = linear(x, weight, bias, fused)
            self._kept.append(x)
            if not fused:
                x = ACTIVATIONS[self._activation](x)
        self._inputs.append(x)
        self.outputs = linear(x, self._weights[-1], biases[-1], False)
        """(N, O)."""

    def gradients(self, gradient: Tensor) -> list[Tensor]:
        """The parameters' gradients from that of the outputs' first rows (M, O)."""
        rows = len(gradient)
        inputs = [x[:rows] for x in self._inputs]
        gradients: list[Tensor] = []
        for i in reversed(range(len(inputs))):
            gradients[:0] = product(gradient.t(), inputs[i]), gradient.sum(0)
            if i:
                kept = self._kept[i - 1]
                kept = inputs[i] if kept is self._inputs[i] else kept[:rows]  # a slice less where it is the same
                gradient = BACKWARD[self._activation](product(gradient, self._weights[i]), kept)
        return gradients


class SquashedPass:
    """Actions of a squashed Gaussian and their log-probabilities; 5 operations instead of 20 for the gradient."""

    def __init__(self, distribution: SquashedGaussian, noise: Tensor) -> None:
        mean, log_std = distribution
        self._moved = log_std.exp().mul_(noise)
        raw = mean + self._moved
        self.actions = raw.tanh()
        """(N, C)."""
        slope = torch.sub(raw, F.softplus(raw, beta=-2), alpha=2)
        surprise = torch.addcmul(log_std, noise, noise, value=0.5).sub_(slope, alpha=2).sum(-1)
        self.log_prob = torch.rsub(surprise, -noise.shape[-1] * (LOG_ROOT + 2 * math.log(2)))
        """(N,)."""

    def gradients(self, of_actions: Tensor, of_log_prob: Tensor) -> tuple[Tensor, Tensor]:
        """Those of mean and log deviation (M, C), from those of the first actions (M, C) and log-probabilities (M,)."""
        moved, actions = (x[: len(of_actions)] for x in (self._moved, self.actions))
        of_log_prob = of_log_prob[:, None]
        # A log-probability grows by 2 tanh(x) with x, and falls with the logarithm of the deviation.
        of_mean = torch.ops.aten.tanh_backward(of_actions, actions).addcmul_(actions, of_log_prob, value=2)
        return of_mean, (of_mean * moved).sub_(of_log_prob)


class StackedPass:
    """Inputs and, beside them, evaluated inputs through stacked MLPs; the latter send no gradient to parameters.

    Microseconds at 2 x 256 and batch 256 on one core, from autograd's to these: the gradient of 6 actions beside 17
    observed numbers 245 to 41; a last layer of one output 95 to 24, of its weights 187 to 7, of its inputs 75 to 5.
    """

    def __init__(self, stack: StackedMLP, features: Tensor, others: Tensor, evaluated: Tensor | None = None) -> None:
        """Goes through with `features` beside `others`, then with `features` beside `evaluated` if that is given."""
        self._norm, self._activation = (stack.ones, stack.zeros), stack.activation
        self._rows, self._split = len(features), features.shape[1]
        *hidden, (last_weight, last_bias) = stack.layers
        x = torch.cat([features, others], dim=-1) if others.shape[1] else features
        if evaluated is not None:
            x = torch.cat([x, torch.cat([features, evaluated], dim=-1)])
        x = x.expand(len(last_weight), *x.shape)
        self._weights = [weight for weight, _ in stack.layers]
        self._inputs: list[Tensor] = []
        self._kept: list[tuple[Tensor, ...]] = []
        for weight, bias in hidden:
            self._inputs.append(x)
            raw = stacked_product(x, weight, bias)
            normed, *scales = torch.ops.aten.native_layer_norm(raw, raw.shape[-1:], *self._sized(raw), NORM_EPSILON)
            self._kept.append((normed, raw, *scales))
            x = ACTIVATIONS[self._activation](normed)
        self._inputs.append(x)
        outputs = torch.baddbmm(last_bias, last_weight, x.mT)
        self.outputs = outputs if evaluated is None else outputs[..., : self._rows]
        """(S, O, M)."""
        self.evaluated = None if evaluated is None else outputs[..., self._rows :]
        """(S, O, M) of what was evaluated."""

    def gradients(self, learned: Tensor, of_evaluated: Tensor | None) -> tuple[Tensor | None, list[Tensor]]:
        """Those of the evaluated inputs (M, ...) and of the weights, then biases, from those of both outputs."""
        weights, inputs, rows = self._weights, self._inputs, self._rows
        of_weights = [torch.bmm(learned, _first(inputs[-1], rows))]
        of_biases = [learned.sum(-1, keepdim=True)]
        gradient = (learned if of_evaluated is None else torch.cat([learned, of_evaluated], dim=-1)).mT
        back = weights[-1]
        for i in reversed(range(len(weights) - 1)):
            gradient = self._before_norm(_times(gradient, back), *self._kept[i])
            learned = _first(gradient, rows)
            of_weights.insert(0, stacked_product(_first(inputs[i], rows).mT, learned))
            of_biases.insert(0, learned.sum(1, keepdim=True))
            back = weights[i].mT
        of_inputs = None if of_evaluated is None else torch.bmm(gradient[:, rows:], back[..., self._split :]).sum(0)
        return of_inputs, of_weights + of_biases

    def _before_norm(self, gradient: Tensor, normed: Tensor, raw: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """The gradient of `raw`, from that of what a layer norm and an activation made of it (S, N, H)."""
        gradient = BACKWARD[self._activation](gradient, normed)
        results = torch.ops.aten.native_layer_norm_backward(
            gradient, raw, raw.shape[-1:], mean, scale, *self._sized(raw), [True, False, False]
        )
        return results[0]  # type: ignore[no-any-return]

    def _sized(self, x: Tensor) -> Sequence[Tensor]:
        """Scale and shift (H,) of a layer norm over x (..., H), of those for the widest."""
        size = x.shape[-1]
        return self._norm if len(self._norm[0]) == size else [part[:size] for part in self._norm]


BACKWARD: dict[Activation, Callable[[Tensor, Tensor], Tensor]] = {
    Activation["relu"]: lambda gradient, kept: torch.ops.aten.threshold_backward(gradient, kept, 0),
    Activation["silu"]: torch.ops.aten.silu_backward,
    Activation["tanh"]: torch.ops.aten.tanh_backward,
}
"""The gradient before an activation, from that behind it and the tensor that `ACTIVATIONS` took: that tensor holds what
came out where it works in place."""


def _first(x: Tensor, rows: int) -> Tensor:
    """The first rows of (S, N, ...)."""
    return x if x.shape[1] == rows else x[:, :rows]


def _times(gradient: Tensor, weight: Tensor) -> Tensor:
    """(S, N, D) of (S, N, O) and (S, O, D): of one output an outer product, for which `bmm` takes ten times as long."""
    return gradient * weight if gradient.shape[-1] == 1 else stacked_product(gradient, weight)
