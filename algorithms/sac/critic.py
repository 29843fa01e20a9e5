"""Critics of actions. Shapes: N rows, F features, S = 2 critics, C continuous actions, B branches as they are chosen, K
choices of the largest, R numbers of memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algorithms.networks.custom import make_encoder
from algorithms.networks.distributions import chosen_branches
from algorithms.networks.mlp import StackedMLP
from algorithms.networks.recurrent import make_memory
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec


class Critic(nn.Module):
    """Twin critics in one batched pass over one encoder, and a memory of their own if the policy has one."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings, dueling: bool = False) -> None:
        """`dueling` tells a branch's choices apart by their advantages; see `SACSettings.dueling`."""
        super().__init__()
        self.encoder = make_encoder(spec, settings)
        self.memory = make_memory(self.encoder.features, settings.memory)
        branches = chosen_branches(spec.branches, settings.joint_choices)
        self._dueling = dueling and bool(branches)
        self._heads = (len(branches), max(branches) + self._dueling) if branches else ()
        features = self.encoder.features if self.memory is None else self.memory.features
        self.is_mlp = self.memory is None and not any(True for _ in self.encoder.parameters())
        """Whether the stack is all of it."""
        self.stack = StackedMLP(2, features + spec.continuous_size, settings.hidden, math.prod(self._heads))
        if self._dueling:
            with torch.no_grad():
                self.stack.weights[-1].mul_(FIRST_SCALE)

    def features(self, inputs: Sequence[Tensor], memory: Tensor) -> tuple[Tensor, Tensor]:
        """As `Policy.features`, of which only the number of sequences is taken: a critic begins each with nothing."""
        features: Tensor = self.encoder(inputs)
        return (features, memory) if self.memory is None else self.memory(features, torch.zeros_like(memory))

    def forward(self, features: Tensor, continuous: Tensor) -> Tensor:
        """Values (S, N, B, K) or (S, N) from features (N, F) and continuous actions (N, C)."""
        return self.by_head(self.stack(features, continuous)[0])

    def by_head(self, outputs: Tensor) -> Tensor:
        """Values of the stack's outputs (S, O, N)."""
        if not self._heads:
            return outputs.squeeze(1)
        heads = outputs.mT.reshape(len(outputs), -1, *self._heads)
        return _joined(heads) if self._dueling else heads

    def of_outputs(self, of_values: Tensor) -> Tensor:
        """(S, O, N) gradient of the stack's outputs from that of values."""
        if not self._heads:
            return of_values.unsqueeze(1)
        return (_of_heads(of_values) if self._dueling else of_values).flatten(2).mT


def _joined(heads: Tensor) -> Tensor:
    """Values (S, N, B, K) of heads (S, N, B, 1 + K): the state's worth, and how far each choice is above the mean."""
    advantages = heads[..., 1:] * ADVANTAGE_SCALE
    return heads[..., :1] + advantages - advantages.mean(-1, keepdim=True)


def _of_heads(of_values: Tensor) -> Tensor:
    """Their gradient (S, N, B, 1 + K), from that of values."""
    of_advantages = (of_values - of_values.mean(-1, keepdim=True)) * ADVANTAGE_SCALE
    return torch.cat([of_values.sum(-1, keepdim=True), of_advantages], dim=-1)


FIRST_SCALE = 0.01
"""Of the last layer's first weights: else values differ by chance by 0.4, and what looks worse is never tried."""
ADVANTAGE_SCALE = 0.1
"""Adam moves weights as far whatever their gradient. At 1 a choice that was not tried gets none of what others gain: in
the corridor an agent then came to cell 24 of 39, and at 0.1 through."""
