"""PPO's value, and what it remembers.

Actors evaluate no values, so rows hold the policy's recurrent state alone. That of the value is computed by replaying
each rollout, segment by segment; what it remembers behind a segment that goes on is kept for the row that follows.

Shapes: N rows of a rollout, S segments, Q sequences of L rows, P = Q * L, R numbers of the value's recurrent state (0
without), V values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.networks.custom import make_body
from algorithms.networks.encoders import initialize
from algorithms.networks.recurrent import RecurrentLayer, make_recurrent_layer
from algorithms.policy import Policy
from buffers.rollout import Sequences
from envs.spec import Array


class Value(nn.Module):
    """State values, from the policy's features if `shared`, else from layers of its own, a recurrent one among them.

    What the value has to remember is not what the policy has to, and its gradient is the larger one by far.
    """

    def __init__(self, policy: Policy, shared: bool, count: int) -> None:
        """`count` is V."""
        super().__init__()
        self.own: nn.Sequential | None = None
        self.recurrent_layer: RecurrentLayer | None = None
        features = policy.feature_size
        if not shared:
            encoder, trunk = make_body(policy.spec, policy.network)
            self.own, features = nn.Sequential(encoder, trunk), trunk.features
            self.recurrent_layer = make_recurrent_layer(features, policy.network.memory)
        if self.recurrent_layer is not None:
            features = self.recurrent_layer.features
        self.state_size = 0 if self.recurrent_layer is None else policy.state_size
        """R."""
        self.head = nn.Linear(features, count)
        initialize(self.head, 1.0)

    def forward(self, inputs: Sequence[Tensor], policy_features: Tensor, state: Tensor) -> Tensor:
        """(N, V) values of Q sequences, from the value's recurrent state (Q, R) before each."""
        features = policy_features
        if self.own is not None:
            features = self.own(inputs)
        if self.recurrent_layer is not None:
            features, _ = self.recurrent_layer(features, state)
        values: Tensor = self.head(features)
        return values

    @torch.no_grad()
    def replay(
        self, inputs: Sequence[Tensor], sequences: Sequences, ends: Array, state: Tensor, rows_at_once: int
    ) -> tuple[Tensor, Tensor]:
        """Returns the recurrent state before each sequence (Q, R), and that behind each segment (S, R).

        Args:
            inputs: of the sequences, (P, ...).
            sequences: their rows.
            ends: (S,) place of each segment's last row.
            state: (S, R) before each segment.
            rows_at_once: of a pass through the layers before the recurrent one.
        """
        count, length = sequences.rows.shape
        before = state.new_zeros(count, self.state_size)
        if self.own is None or self.recurrent_layer is None:
            return before, state
        parts = zip(*(torch.split(x, rows_at_once) for x in inputs))
        features = torch.cat([self.own(part) for part in parts]).view(count, length, -1)
        segments = np.searchsorted(ends, sequences.rows[:, 0])
        turns = np.arange(count) - np.searchsorted(segments, segments)
        lengths = torch.from_numpy(sequences.loss_mask.sum(1))
        state = state.clone()
        for turn in range(turns.max() + 1):
            chosen = np.flatnonzero(turns == turn)
            places, of = (torch.from_numpy(x).to(state.device) for x in (chosen, segments[chosen]))
            before[places] = state[of]
            _, state[of] = self.recurrent_layer(features[places].flatten(0, 1), state[of], lengths[chosen])
        return before, state


def with_own_memory(state: Mapping[str, Tensor], value: Value) -> Mapping[str, Tensor]:
    """Returns the state of an algorithm, also of a version whose value saw the policy's recurrent state.

    Of that the layers before the recurrent one are taken over; this and the head begin anew, as they are in `value`.
    """
    if value.own is None or value.recurrent_layer is None:
        return state
    fresh = torch.cat([parameter.detach().flatten() for parameter in value.parameters()]).cpu()
    old = state["weights/value"]
    if len(old) == len(fresh):
        return state
    kept = sum(parameter.numel() for parameter in value.own.parameters())
    moved = {**state, "weights/value": torch.cat([old[:kept], fresh[kept:]])}
    for name in ("optimizer/mean", "optimizer/square"):
        if name in state:
            moments = state[name][: len(state[name]) - len(old) + kept]
            moved[name] = torch.cat([moments, moments.new_zeros(len(fresh) - kept)])
    return moved


def with_own_heads(state: Mapping[str, Tensor], value: Value) -> Mapping[str, Tensor]:
    """Returns the weights of an algorithm, also of one with other reward signals.

    Of other heads, the first one is taken over, which is that of the game's reward. The others begin as in `value`.
    """
    old, (weight, bias) = state["weights/value"], value.head.parameters()
    body = sum(parameter.numel() for parameter in value.parameters()) - weight.numel() - bias.numel()
    count, rest = divmod(len(old) - body, value.head.in_features + 1)
    if rest or count < 1 or count == len(bias):
        return state
    heads = torch.cat([weight.detach(), bias.detach()[:, None]], dim=1).cpu()
    size = count * value.head.in_features
    heads[0] = torch.cat([old[body:][: value.head.in_features], old[body + size :][:1]])
    return {**state, "weights/value": torch.cat([old[:body], heads[:, :-1].flatten(), heads[:, -1]])}
