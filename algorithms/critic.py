"""Critics of actions. Shapes: N rows, F features, S = 2 critics, C continuous actions, B branches as they are chosen, K
choices of the largest, R numbers of memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algorithms.custom import make_encoder
from algorithms.distributions import chosen_branches
from algorithms.memory import make_memory
from algorithms.networks import StackedMLP
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec


class Critic(nn.Module):
    """Twin critics in one batched pass over one encoder, and a memory of their own if the policy has one."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__()
        self.encoder = make_encoder(spec, settings)
        self.memory = make_memory(self.encoder.features, settings.memory)
        branches = chosen_branches(spec.branches, settings.joint_choices)
        self._heads = (len(branches), max(branches)) if branches else ()
        features = self.encoder.features if self.memory is None else self.memory.features
        self.is_mlp = self.memory is None and not any(True for _ in self.encoder.parameters())
        """Whether the stack is all of it."""
        self.stack = StackedMLP(2, features + spec.continuous_size, settings.hidden, math.prod(self._heads))

    def features(self, inputs: Sequence[Tensor], memory: Tensor) -> tuple[Tensor, Tensor]:
        """As `Policy.features`, of which only the number of sequences is taken: a critic begins each with nothing."""
        features: Tensor = self.encoder(inputs)
        return (features, memory) if self.memory is None else self.memory(features, torch.zeros_like(memory))

    def forward(self, features: Tensor, continuous: Tensor) -> Tensor:
        """Values (S, N, B, K) or (S, N) from features (N, F) and continuous actions (N, C)."""
        return self.by_head(self.stack(features, continuous)[0])

    def by_head(self, outputs: Tensor) -> Tensor:
        """Values of the stack's outputs (S, O, N)."""
        return outputs.mT.reshape(len(outputs), -1, *self._heads) if self._heads else outputs.squeeze(1)

    def of_outputs(self, of_values: Tensor) -> Tensor:
        """(S, O, N) gradient of the stack's outputs from that of values."""
        return of_values.flatten(2).mT if self._heads else of_values.unsqueeze(1)
