"""Actions as inputs of a network. Shapes: N steps, X numbers of an action."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from algorithms.imitation.demonstrations import Steps
from envs.spec import BehaviorSpec


class ActionInputs(nn.Module):
    """Actions as games took them: the continuous ones clipped to [-1, 1], then each branch's choice, one-hot.

    A choice that its mask forbids was not taken by the game, and is left out.
    """

    starts: Tensor

    def __init__(self, spec: BehaviorSpec) -> None:
        super().__init__()
        self._choices = sum(spec.branches)
        self.features = spec.continuous_size + self._choices
        branches = torch.tensor([0, *spec.branches])
        self.register_buffer("starts", branches.cumsum(0)[:-1], persistent=False)

    def forward(self, steps: Steps) -> Tensor:
        """(N, X)."""
        chosen = steps.continuous.new_zeros(len(steps.continuous), self._choices)
        chosen.scatter_(1, steps.discrete + self.starts, 1.0)
        if steps.mask.shape[1]:
            chosen = chosen * steps.mask
        return torch.cat([steps.continuous.clamp(-1, 1), chosen], dim=-1)
