"""Critics of actions. Shapes: N rows, F features, S = 2 critics, V values, C continuous actions, B branches as they are
chosen, K choices of the largest, R numbers of the recurrent state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algorithms.networks.custom import make_encoder
from algorithms.networks.distributions import chosen_branches
from algorithms.networks.mlp import StackedMLP
from algorithms.networks.recurrent import make_recurrent_layer
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec


class Critic(nn.Module):
    """Twin critics in one batched pass over one encoder, and a recurrent layer of their own if the policy has one."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings, dueling: bool = False, values: int = 1) -> None:
        """`dueling` separates a branch's choices by their advantages; see `SACSettings.dueling`. `values` is V."""
        super().__init__()
        self.encoder = make_encoder(spec, settings)
        self.recurrent_layer = make_recurrent_layer(self.encoder.features, settings.memory)
        branches = chosen_branches(spec.branches, settings.joint_choices)
        self.dueling = dueling and bool(branches)
        self.values = values
        self._heads = (len(branches), max(branches) + self.dueling) if branches else ()
        features = self.encoder.features if self.recurrent_layer is None else self.recurrent_layer.features
        inputs, outputs = features + spec.continuous_size, values * math.prod(self._heads)
        self.stack = StackedMLP(2, inputs, settings.hidden, outputs, settings.activation)
        if self.dueling:
            with torch.no_grad():
                self.stack.weights[-1].mul_(FIRST_SCALE)

    def features(self, inputs: Sequence[Tensor], state: Tensor) -> tuple[Tensor, Tensor]:
        """As `Policy.features`, of which only the number of sequences is taken: a critic begins each with nothing."""
        features: Tensor = self.encoder(inputs)
        return (
            (features, state)
            if self.recurrent_layer is None
            else self.recurrent_layer(features, torch.zeros_like(state))
        )

    def forward(self, features: Tensor, continuous: Tensor) -> Tensor:
        """Q (S, N, B, K) or (S, N) of features (N, F) and continuous actions (N, C); (S, V, N, ...) if V is above 1."""
        inputs = torch.cat([features, continuous], dim=-1) if continuous.shape[1] else features
        return self.by_head(self.stack(inputs))

    def by_head(self, outputs: Tensor) -> Tensor:
        """Q of the stack's outputs (S, O, N)."""
        if self.values > 1:
            outputs = outputs.view(len(outputs), self.values, -1, outputs.shape[-1])
        if not self._heads:
            return outputs.squeeze(-2)
        heads = outputs.mT.reshape(*outputs.shape[:-2], -1, *self._heads)
        if not self.dueling:
            return heads
        value, advantages = heads[..., :1], heads[..., 1:] * ADVANTAGE_SCALE
        return value + advantages - advantages.mean(-1, keepdim=True)

    @torch.no_grad()
    def rescale(self, ratios: Tensor) -> None:
        """Multiplies what is said of each value by `ratios` (V,)."""
        weight, bias = self.stack.layers[-1]
        factors = ratios.repeat_interleave(weight.shape[1] // self.values)[:, None]
        weight.mul_(factors)
        bias.mul_(factors)


FIRST_SCALE = 0.01
"""Scale of the last layer's first weights: else values differ by chance by 0.4, and what looks worse is never tried."""
ADVANTAGE_SCALE = 0.1
"""Adam moves weights as far whatever their gradient. At 1 a choice that was not tried gets none of what others gain: in
the corridor an agent then came to cell 24 of 39, and at 0.1 through."""
