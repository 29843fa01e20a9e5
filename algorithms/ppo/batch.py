"""What PPO learns from: the rows of a rollout in sequences, or some of them.

Shapes: those of `algorithms.ppo.ppo`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from algorithms.poca.critic import Group


class Transitions(NamedTuple):
    """What agents saw and did, on the device, sequence by sequence: those of a whole rollout (P rows) or some (M)."""

    inputs: tuple[Tensor, ...]
    mask: Tensor
    continuous: Tensor
    discrete: Tensor
    """(P, B) int64, as they are chosen."""
    recurrent_state: Tensor
    """(Q, R) before each sequence, the policy's."""
    value_state: Tensor
    """(Q, R) before each sequence, the value's; (Q, 0) if it has none of its own."""
    loss_mask: Tensor | None
    """(P,) float32, 0 where padded; None if nothing is."""
    group: Group | None = None
    """Teammates, for a critic that sees them."""

    def part(self, first: int, end: int) -> Transitions:
        """The sequences from `first` on, before `end`."""
        length = len(self.mask) // len(self.recurrent_state)
        rows = slice(first * length, end * length)
        mask, continuous, discrete = (x[rows] for x in self[1:4])
        inputs = tuple(x[rows] for x in self.inputs)
        state, value_state = self.recurrent_state[first:end], self.value_state[first:end]
        group = None if self.group is None else self.group.part(rows)
        return Transitions(inputs, mask, continuous, discrete, state, value_state, None, group)


class PPOBatch(NamedTuple):
    """Rows to learn from: a whole rollout (P) or a minibatch (M)."""

    played: Transitions
    proximal_log_prob: Tensor
    """(P,) joint log-probability under the policy as the update starts; (P, C + B) if each action has its ratio."""
    weights: Tensor
    """(P,) truncated proximal over behaviour probability."""
    advantages: Tensor
    """(P,) of zero mean and unit deviation over the rollout."""
    values: Tensor
    """(P, W) as the update starts."""
    targets: Tensor
    """(P, V) of the values."""

    def take(self, sequences: Tensor) -> PPOBatch:
        """Some of the sequences."""
        played, rows = self.played, sequences
        length = len(played.mask) // len(played.recurrent_state)
        if length > 1:
            rows = (sequences[:, None] * length + torch.arange(length, device=sequences.device)).flatten()
        mask, continuous, discrete = (x.index_select(0, rows) for x in played[1:4])
        inputs = tuple(x.index_select(0, rows) for x in played.inputs)
        loss_mask = None if played.loss_mask is None else played.loss_mask.index_select(0, rows)
        state, value_state = (x.index_select(0, sequences) for x in (played.recurrent_state, played.value_state))
        group = None if played.group is None else played.group.take(rows)
        taken = Transitions(inputs, mask, continuous, discrete, state, value_state, loss_mask, group)
        return PPOBatch(taken, *(x.index_select(0, rows) for x in self[1:]))
