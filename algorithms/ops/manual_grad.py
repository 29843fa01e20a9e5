"""Functions whose gradient is written by hand, called by autograd or without it.

Such a function is a class of two static methods, as `torch.autograd.Function` has them: `forward(ctx, *inputs)` gives
the outputs and saves what `backward(ctx, *of_outputs)` needs, which gives the gradients of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class ByHand:
    """One call of a function, then its gradient, of which autograd keeps no books.

    For small networks these take longer than what they compute: a quarter of SAC's update at 2 x 64 and batch 64. Only
    where no gradient is recorded (`torch.no_grad`).
    """

    saved_tensors: tuple[Tensor, ...]

    def __init__(self, function: Any, needs_input_grad: Sequence[bool], *inputs: Any) -> None:
        """`needs_input_grad` says of which inputs `gradients` are asked for."""
        self.needs_input_grad = needs_input_grad
        self._backward = function.backward
        self.outputs = function.forward(self, *inputs)

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Called by the function."""
        self.saved_tensors = tensors

    def gradients(self, *of_outputs: Tensor | None) -> tuple[Tensor, ...]:
        """Of the inputs, in their order, from those of the outputs."""
        gradients: tuple[Tensor, ...] = self._backward(self, *of_outputs)
        return gradients


def by_autograd(function: Any) -> Callable[..., Any]:
    """The same function for autograd. Its gradient has none."""
    methods = {
        "forward": staticmethod(function.forward),
        "backward": staticmethod(once_differentiable(function.backward)),
    }
    made: Any = type(function.__name__, (torch.autograd.Function,), methods)
    apply: Callable[..., Any] = made.apply
    return apply
