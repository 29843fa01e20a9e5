"""Batches of what agents did, for networks that learn at a ratio of their own beside the policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Generator, Tensor

from algorithms.imitation.demonstrations import Steps
from algorithms.metrics import load_torch_state


class OwnBatches:
    """Batches of the agent's steps, as many as new samples ask for. All randomness follows from `seed`."""

    def __init__(self, updates_per_sample: float, batch_size: int, device: torch.device, seed: int) -> None:
        self._updates_per_sample, self._size = updates_per_sample, batch_size
        self._owed = 0.0
        self._generator = Generator(device).manual_seed(seed)

    def draw(self, steps: Steps, samples: float) -> Iterator[Steps]:
        """What to learn from after `samples` new samples: parts of `steps`, or all if there are no more than a batch.

        Parts of an update are owed to the next call.
        """
        self._owed += samples * self._updates_per_sample
        due = int(self._owed + ROUNDING)
        self._owed -= due
        count = len(steps.mask)
        for _ in range(due):
            if count <= self._size:
                yield steps
            else:
                device = self._generator.device
                yield steps.take(torch.randint(count, (self._size,), generator=self._generator, device=device))

    def state_dict(self) -> dict[str, Tensor]:
        """What an exact continuation needs."""
        return {
            "random/steps": self._generator.get_state().clone(),
            "owed": torch.tensor(self._owed, dtype=torch.float64),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        load_torch_state(self._generator, state["random/steps"])
        self._owed = float(state["owed"])


ROUNDING = 1e-6
"""Of an update: ten times 0.1 samples fall short of 1."""
