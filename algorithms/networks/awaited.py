"""What is carried from one rollout to the next: a row that is left for later goes on where the one before it stood.

Shapes: S segments of a rollout, R numbers that are carried, K rows that are awaited.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from buffers.rollout import Rollout
from envs.spec import Array


class AwaitedStates:
    """What is known before rows that are still to come, by their numbers."""

    def __init__(self, size: int, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self._numbers = np.zeros(0, np.int64)  # (K,) in order
        self._states = torch.zeros(0, size, device=device, dtype=dtype)

    def before(self, rollout: Rollout) -> Tensor:
        """Returns (S, R) before the segments of a rollout.

        Zeros where none is awaited: an episode begins, or what was before has been dropped as too old.
        """
        numbers = rollout.numbers[rollout.firsts]
        known = np.isin(numbers, self._numbers)
        found = self._states.new_zeros(len(numbers), self._states.shape[1])
        found[self._places(np.flatnonzero(known))] = self._states[
            self._places(np.searchsorted(self._numbers, numbers[known]))
        ]
        return found

    def keep(self, rollout: Rollout, behind: Tensor) -> None:
        """Takes the states (S, R) behind a rollout's segments, and forgets those of rows that will not come."""
        taken = rollout.numbers[rollout.firsts]
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
