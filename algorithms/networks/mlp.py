"""Networks: MLPs, one whose last layer a goal makes, and critics stacked into one batched pass.

Shapes: N rows, D numbers, F features, S stacked copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.networks.encoders import initialize
from algorithms.settings import Activation


class MLP(nn.Module):
    """Linear layers, each followed by an activation; no layer at all hands the input on."""

    def __init__(self, inputs: int, hidden: Sequence[int], activation: Activation = Activation["relu"]) -> None:
        super().__init__()
        self.activation = activation
        sizes = [inputs, *hidden]
        self.layers = nn.ModuleList(nn.Linear(ahead, behind) for ahead, behind in pairwise(sizes))
        for layer in self.layers:
            initialize(layer, math.sqrt(2))
        self.features = sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, F) of inputs (N, D)."""
        activate = ACTIVATIONS[self.activation]
        for layer in self.layers:
            x = activate(layer(x))
        return x


class GoalMLP(nn.Module):
    """An MLP whose last layer has weights that a goal makes: the hyper-network of ML-Agents' `hyper`.

    Row by row these are W0 + sum over u of g[u] W[u], of an encoding g (N, U) of the goal. So the layer is a linear one
    of the products of g with its input, and no weights of a row are ever laid out.
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], goal: Sequence[tuple[int, int]], activation: Activation
    ) -> None:
        """`goal` says where its numbers begin and end among the inputs; `hidden` has one layer at least."""
        super().__init__()
        self.activation, self.goal = activation, list(goal)
        self.features = hidden[-1]
        self.body = MLP(inputs, hidden[:-1], activation)
        units = min(self.features, GOAL_UNITS)
        self.encoding = MLP(sum(end - start for start, end in goal), [units, units], activation)
        self.last = nn.Linear((1 + units) * self.body.features, self.features)
        nn.init.zeros_(self.last.bias)
        # As in ML-Agents: W0 is 0 at first, and all others together are as large as an ordinary layer's.
        nn.init.uniform_(self.last.weight, -1, 1)
        with torch.no_grad():
            self.last.weight[:, : self.body.features] = 0
            self.last.weight /= math.sqrt(units * self.body.features)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, F) of inputs (N, D)."""
        encoding = self.encoding(torch.cat([x[:, start:end] for start, end in self.goal], dim=-1))
        encoding = F.layer_norm(encoding, encoding.shape[-1:], eps=NORM_EPSILON)
        factors = torch.cat([torch.ones_like(encoding[:, :1]), encoding], dim=-1)
        products = factors[:, :, None] * self.body(x)[:, None]  # (N, 1 + U, D)
        return ACTIVATIONS[self.activation](self.last(products.flatten(1)))


class StackedMLP(nn.Module):
    """Several MLPs of one shape in one batched pass; layer norm before activations keeps critics from diverging."""

    ones: Tensor
    zeros: Tensor

    def __init__(
        self,
        copies: int,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        activation: Activation = Activation["relu"],
    ) -> None:
        super().__init__()
        self.activation = activation
        sizes = [inputs, *hidden]
        shapes = [*pairwise(sizes), (outputs, sizes[-1])]
        self.weights = nn.ParameterList(
            torch.empty(copies, *shape).uniform_(-1, 1) / math.sqrt(ahead) for shape, ahead in zip(shapes, sizes)
        )
        shapes = [*((1, units) for units in hidden), (outputs, 1)]
        self.biases = nn.ParameterList(torch.zeros(copies, *shape) for shape in shapes)
        self.layers = list(zip(self.weights, self.biases))
        """The same layer by layer: going through the lists above takes a quarter of a pass at 2 x 64."""
        # Scale and shift of layer norms: learned by nobody, but torch's kernel takes half the time if they are there.
        self.register_buffer("ones", torch.ones(max(hidden, default=0)), persistent=False)
        self.register_buffer("zeros", torch.zeros(max(hidden, default=0)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (S, O, N) of inputs (N, D)."""
        *hidden, (last_weight, last_bias) = self.layers
        activate = ACTIVATIONS[self.activation]
        x = x.expand(len(last_weight), *x.shape)
        for weight, bias in hidden:
            x = activate(self._norm(torch.baddbmm(bias, x, weight)))
        return torch.baddbmm(last_bias, last_weight, x.mT)

    def _norm(self, x: Tensor) -> Tensor:
        size, scale, shift = x.shape[-1], self.ones, self.zeros
        if size < len(scale):
            scale, shift = scale[:size], shift[:size]
        return torch.layer_norm(x, (size,), scale, shift, NORM_EPSILON)


NORM_EPSILON = 1e-5
GOAL_UNITS = 128
"""Numbers of a goal's encoding, at most: the last layer has as many times its weights."""
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    Activation["relu"]: torch.relu_,
    Activation["silu"]: F.silu,
    Activation["tanh"]: torch.tanh_,
}
"""In place where the gradient follows from what comes out: SiLU's needs what went in."""
