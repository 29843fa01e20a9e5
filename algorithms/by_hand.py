"""Functions whose gradient is written by hand, called without autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function


class ByHand:
    """One call of a function, then its gradient: what `function.apply` does, but autograd keeps no books of it.

    For small networks that takes longer than what they compute: a quarter of SAC's update at 2 x 64 and batch 64. Only
    where no gradient is recorded (`torch.no_grad`).
    """

    saved_tensors: tuple[Tensor, ...]

    def __init__(self, function: type[Function], needs_input_grad: Sequence[bool], *inputs: Any) -> None:
        """`needs_input_grad` says of which inputs `gradients` are asked for."""
        self.needs_input_grad = needs_input_grad
        self._function: Any = function
        self.outputs = self._function.forward(self, *inputs)

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Called by the function."""
        self.saved_tensors = tensors

    def gradients(self, *of_outputs: Tensor | None) -> tuple[Tensor, ...]:
        """Of the inputs, in their order, from those of the outputs."""
        gradients: tuple[Tensor, ...] = self._function.backward(self, *of_outputs)
        return gradients
