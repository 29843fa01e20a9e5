"""Reward signals: objects that score rows. What is learned from is the sum of their scores, each times its strength.

SAC scores rows when they are drawn, PPO when a rollout is complete.

Shapes: `...` any arrangement of rows, N rows in all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from algorithms.imitation.demonstrations import Steps
from algorithms.metrics import Averages, below
from algorithms.policy import Policy
from algorithms.rewards.settings import SignalSettings
from buffers.rows import Rows


class Scores(NamedTuple):
    """What rows earn."""

    rewards: Tensor
    """(...) float32."""
    absorbing: Tensor = torch.zeros(())
    """() float32: each step in the state that follows the end of an episode that terminated, for ever."""


class RewardSignal(ABC):
    """One source of reward beside the environment's, which may learn from what agents do.

    A class of your own writes `score`, and whatever else it needs. Its `Settings`, if it has any, are a dataclass that
    derives from `SignalSettings`.

    Args:
        name: where the settings stand below `reward`.
        settings: its own.
        policy: the one that is paid; its `prepare` makes inputs of a network from raw observations.
        demos: by path, the demonstrations that settings name.
        seed: all randomness follows from it.
    """

    def __init__(
        self, name: str, settings: SignalSettings, policy: Policy, demos: Mapping[str, Rows], seed: int
    ) -> None:
        self.name, self.policy = name, policy
        self.settings: Any = settings
        self.device = policy.flat.device
        self.strength = torch.full((), settings.strength, device=self.device)

    @abstractmethod
    def score(self, steps: Steps) -> Scores:
        """Returns what N steps earn, before it is weighted by the strength."""

    def learn(self, steps: Steps, samples: float) -> None:  # noqa: B027
        """Learns from N steps that agents took, as much as `samples` new ones ask for."""

    def set_progress(self, samples: int) -> None:  # noqa: B027
        """Moves schedules to `samples` samples."""

    def metrics(self) -> dict[str, float]:
        """Returns means since the last reading, by TensorBoard's names. Waits for the device."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what an exact continuation needs."""
        return {"strength": self.strength.cpu().clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        self.strength.copy_(state["strength"])


SCORED_AT_ONCE = 1024
"""Rows of one pass of a signal: bounds the memory that images take."""


def _in_parts(signal: RewardSignal, steps: Steps) -> Scores:
    """Returns what steps earn, a part of them at a time."""
    count = len(steps.mask)
    if count <= SCORED_AT_ONCE:
        return signal.score(steps)
    parts = [signal.score(steps.part(first, first + SCORED_AT_ONCE)) for first in range(0, count, SCORED_AT_ONCE)]
    return Scores(torch.cat([part.rewards for part in parts]), parts[0].absorbing)


class Rewards:
    """The sum of the environment's reward, times its strength, and of all other signals, by name."""

    def __init__(self, strength: float, signals: Mapping[str, RewardSignal], device: torch.device) -> None:
        self._strength = strength
        self._signals = signals
        self._nothing = torch.zeros((), device=device)
        self._averages = Averages([f"reward/{name}" for name in ("extrinsic", *signals)], device)
        self._always = torch.ones((), dtype=torch.bool, device=device)

    @property
    def look(self) -> bool:
        """Whether any signal looks at more than the environment's rewards."""
        return bool(self._signals)

    def score(self, rewards: Tensor, steps: Steps | None, loss_mask: Tensor | None = None) -> Scores:
        """What rows earn in all: of the environment's rewards (...), and of these rows' N steps if signals `look`.

        The means in `metrics` are over rows that are `loss_mask` (...) bool: all if None.
        """
        total, absorbing = rewards * self._strength, self._nothing
        if steps is None:
            return Scores(total, absorbing)
        counts = torch.ones_like(total) if loss_mask is None else loss_mask.to(total.dtype)
        means = [(total * counts).sum() / counts.sum()]
        for signal in self._signals.values():
            scores = _in_parts(signal, steps)
            earned = (scores.rewards * signal.strength).view(rewards.shape)
            means.append((earned * counts).sum() / counts.sum())
            total = total + earned
            absorbing = absorbing + scores.absorbing * signal.strength
        self._averages.add(torch.stack(means), self._always)
        return Scores(total, absorbing)

    def learn(self, steps: Steps, samples: float) -> None:
        """Lets signals learn from N steps that agents took; see `RewardSignal.learn`."""
        for signal in self._signals.values():
            signal.learn(steps, samples)

    def set_progress(self, samples: int) -> None:
        """Moves schedules to `samples` samples."""
        for signal in self._signals.values():
            signal.set_progress(samples)

    def metrics(self) -> dict[str, float]:
        """By TensorBoard's names: what each signal paid a row on average, and their own."""
        if not self._signals:
            return {}
        own = (signal.metrics() for signal in self._signals.values())
        return {**self._averages.read(), **{key: value for metrics in own for key, value in metrics.items()}}

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what an exact continuation needs."""
        states = {name: signal.state_dict() for name, signal in self._signals.items()}
        return {f"{name}/{key}": value for name, state in states.items() for key, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        for name, signal in self._signals.items():
            signal.load_state_dict(below(state, f"{name}/"))
