"""Checks of a user's own module: that it can be called, and that actors and optimisers get all of it.

Shapes: N rows, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.metrics import words_of
from envs.spec import UserError


def check_module(network: nn.Module, inputs: Callable[[int], Any], about: str) -> int:
    """Returns the number of features F of a network, whose inputs for N rows `inputs(N)` makes.

    Raises UserError if it does not say its `features`, fails, or would fail later; `about` names it.
    """
    features = getattr(network, "features", None)
    if type(features) is not int or features < 1:
        raise UserError(f"{about} has features={features!r}: it must say how many it returns, as an int above 0")
    for rows in (1, 3):
        given = inputs(rows)
        try:
            outputs = network(given)
        except Exception as error:  # the user's code
            shapes = [tuple(x.shape) for x in ((given,) if isinstance(given, Tensor) else given)]
            raise UserError(f"{about} fails on inputs of shapes {shapes} ({words_of(error)})") from error
        shape = getattr(outputs, "shape", None)
        if shape != (rows, features) or outputs.dtype != torch.float32:
            seen = type(outputs).__name__ if shape is None else f"{outputs.dtype} of shape {tuple(shape)}"
            right = f"torch.float32 of shape {rows, features}"
            raise UserError(f"{about} returns {seen} for {rows} rows; it must be {right}")
    if buffers := [name for name, _ in network.named_buffers()]:
        raise UserError(
            f"{about} has the buffer {buffers[0]!r}, and only parameters reach the actors: "
            "do without, also without batch normalisation (layer normalisation has none)"
        )
    named = dict(network.named_parameters())
    idle = [name for name, parameter in named.items() if not parameter.requires_grad or not outputs.requires_grad]
    if named and not idle:
        gradients = torch.autograd.grad(outputs.sum(), list(named.values()), allow_unused=True)
        idle = [name for name, gradient in zip(named, gradients) if gradient is None]
    if idle:
        why = "which is frozen or has no part in the features"
        raise UserError(f"{about} has the parameter {idle[0]!r}, {why}: leave it out")
    return features
