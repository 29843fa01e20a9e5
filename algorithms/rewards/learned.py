"""Reward signals whose networks learn from what agents do, at a ratio of their own beside the policy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

import torch
from torch import Generator, Tensor, nn

from algorithms.imitation.demonstrations import Steps
from algorithms.metrics import SKIPPED, Averages, below, load_torch_state
from algorithms.ops.adam import FlatAdam, place
from algorithms.rewards.base import RewardSignal
from algorithms.settings import scheduled


class LearnedSignal(RewardSignal):
    """A signal with a network, an optimiser, batches, and a strength that may follow a schedule."""

    vector_name: str
    """Under which the network's parameters are saved."""
    _batches: OwnBatches
    _averages: Averages

    def _place(self, network: nn.Module) -> None:
        """Lays the network's parameters into one vector, those that are learned first, and makes the optimiser."""
        parameters = sorted(network.parameters(), key=lambda parameter: not parameter.requires_grad)
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._vector = torch.empty(sum(parameter.numel() for parameter in parameters), device=self.device)
        place(parameters, self._vector)
        learned = sum(parameter.numel() for parameter in self._parameters)
        self._optimizer = FlatAdam(self._vector[:learned], self.settings.learning_rate, None)

    @abstractmethod
    def _update(self, steps: Steps) -> None:
        """Makes one gradient step on these steps of the agent; nothing waits for it."""

    def learn(self, steps: Steps, samples: float) -> None:
        """Makes as many gradient steps as `samples` new ones ask for, on parts of the agent's steps."""
        for batch in self._batches.draw(steps, samples):
            self._update(batch)

    def set_progress(self, samples: int) -> None:
        """Moves the strength to what it is after `samples` samples."""
        chosen = self.settings
        self.strength.fill_(scheduled(chosen.strength, chosen.strength_end, chosen.schedule_samples, samples))

    def metrics(self) -> dict[str, float]:
        """Returns means over the gradient steps since the last reading, and how many were skipped."""
        return {**self._averages.read(), f"{self.name}/{SKIPPED}": self._optimizer.skipped()}

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what an exact continuation needs of these."""
        return {
            **super().state_dict(),
            self.vector_name: self._vector.cpu().clone(),
            **{f"optimizer/{key}": value for key, value in self._optimizer.state_dict().items()},
            **self._batches.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        super().load_state_dict(state)
        self._vector.copy_(state[self.vector_name])
        self._optimizer.load_state_dict(below(state, "optimizer/"))
        self._batches.load_state_dict(state)


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
