"""Matrix products of dense layers, by whichever of torch's two libraries is the faster one at their size.

On CPUs without Intel's name MKL leaves half of an AVX-512 unit idle, which oneDNN does not; but oneDNN takes 10
microseconds to begin. One core of an AMD EPYC, microseconds of a layer:

| rows x inputs x outputs | MKL | oneDNN | oneDNN, held to AVX2 |
|-------------------------|-----|--------|----------------------|
| 128 x 64 x 64           |  12 |     16 |                   20 |
| 128 x 128 x 128         |  39 |     29 |                   44 |
| 256 x 128 x 128         |  75 |     44 |                   74 |
| 256 x 256 x 256         | 288 |    139 |                  262 |
| 512 x 256 x 256         | 571 |    265 |                    - |

Nothing here has a gradient: it is for forward passes and gradients written by hand.

Shapes: N rows, I inputs, O outputs, S stacked copies.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    """(N, O) of x (N, I), weight (O, I) and bias (O,), perhaps through a ReLU."""
    if prefers_one_dnn(x, weight):
        return _one_dnn(x, weight, bias, relu)
    outputs = torch.addmm(bias, x, weight.t())
    return outputs.relu_() if relu else outputs


def product(x: Tensor, other: Tensor) -> Tensor:
    """(N, O) of x (N, I) and other (I, O)."""
    return _one_dnn(x, other.t()) if prefers_one_dnn(x, other) else torch.mm(x, other)


def stacked_product(x: Tensor, other: Tensor, bias: Tensor | None = None) -> Tensor:
    """(S, N, O) of x (S, N, I), other (S, I, O) and bias (S, 1, O)."""
    if prefers_one_dnn(x, other):
        biases = [None] * len(x) if bias is None else bias.squeeze(1).unbind()
        return torch.stack([_one_dnn(*each) for each in zip(x.unbind(), other.mT.unbind(), biases)])
    return torch.bmm(x, other) if bias is None else torch.baddbmm(bias, x, other)


def prefers_one_dnn(x: Tensor, weight: Tensor) -> bool:
    """Whether that is the faster one for x (..., N, I) and weight (..., I, O) or (..., O, I)."""
    size = x.shape[-2] * weight.shape[-1] * weight.shape[-2]
    return size >= LARGE and x.is_cpu and x.dtype == torch.float32 and _has_one_dnn()


LARGE = 2**22
"""Multiplications from which on it is, and nowhere slower."""


def _one_dnn(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """As `linear`. What `torch.compile` makes of layers; no other way leads to oneDNN for ordinary tensors."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")
    return result


@cache
def _has_one_dnn() -> bool:
    """Whether this torch can do that."""
    try:
        _one_dnn(torch.zeros(2, 2), torch.zeros(2, 2).t())
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True
