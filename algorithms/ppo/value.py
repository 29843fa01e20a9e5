"""PPO's value, and what it remembers.

Actors evaluate no values, so rows hold the policy's recurrent state alone. That of the value is computed by replaying
each rollout, segment by segment; what it remembers behind a segment that goes on is kept for the row that follows.

Shapes: N rows of a rollout, S segments, Q sequences of L rows, P = Q * L, R numbers of the value's recurrent state (0
without), K rows that are awaited, V values.
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
from buffers.rollout import Rollout, Sequences
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


class AwaitedStates:
    """The value's recurrent state before rows that are still to come, by their numbers."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._numbers = np.zeros(0, np.int64)  # (K,) in order
        self._states = torch.zeros(0, size, device=device)

    def before(self, numbers: Array) -> Tensor:
        """Returns (S, R) of segments that begin with rows of these numbers.

        Zeros where none is awaited: an episode begins, or what was before has been dropped as too old.
        """
        known = np.isin(numbers, self._numbers)
        found = self._states.new_zeros(len(numbers), self._states.shape[1])
        found[self._places(np.flatnonzero(known))] = self._states[
            self._places(np.searchsorted(self._numbers, numbers[known]))
        ]
        return found

    def keep(self, rollout: Rollout, behind: Tensor) -> None:
        """Takes the states (S, R) behind a rollout's segments, and forgets those of rows that will not come."""
        taken = rollout.numbers[np.concatenate(([0], rollout.ends[:-1] + 1))]
        awaited = np.flatnonzero(~np.isin(self._numbers, taken) & (self._numbers > rollout.overwritten))
        going = np.flatnonzero(rollout.following)
        numbers = np.concatenate((self._numbers[awaited], rollout.following[going]))
        states = torch.cat([self._states[self._places(awaited)], behind[self._places(going)]])
        order = np.argsort(numbers)
        self._numbers, self._states = numbers[order], states[self._places(order)]

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what an exact continuation needs."""
        return {"numbers": torch.from_numpy(self._numbers.copy()), "states": self._states.cpu().clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave; nothing of a version without it."""
        if state:
            self._numbers = state["numbers"].numpy().copy()
            self._states = state["states"].to(self._states)

    def _places(self, places: Array) -> Tensor:
        return torch.from_numpy(places).to(self._states.device)


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
