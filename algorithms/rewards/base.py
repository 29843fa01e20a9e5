"""Reward signals: objects that score rows, and what of their scores is learned from.

SAC scores rows when they are drawn, PPO when a rollout is complete.

Shapes: `...` any arrangement of rows, N rows in all, S signals, V values that an algorithm learns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from algorithms.imitation.demonstrations import Steps
from algorithms.metrics import Averages, below
from algorithms.policy import Policy
from algorithms.rewards.scale import BOUND, ReturnScale
from algorithms.rewards.settings import SignalSettings
from buffers.rollout import Rollout
from buffers.rows import Rows


class Scores(NamedTuple):
    """What rows earn by one signal."""

    rewards: Tensor
    """(...) float32."""
    absorbing: Tensor = torch.zeros(())
    """() float32: each step in the state that follows the end of an episode that terminated, for ever."""


class Earned(NamedTuple):
    """What rows earn in all, for each of the values that are learned."""

    rewards: Tensor
    """(V, ...) float32."""
    absorbing: Tensor
    """(V,) float32: the value of the state that follows the end of an episode that terminated."""


ValueOf = Literal["sum", "discount", "signal"]
"""What an algorithm learns values of: the sum of all signals, the sum of those of one discount, or each signal."""


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
    """The environment's reward and all other signals: each over its scale, times its strength, and their sums.

    Args:
        strength: that of the environment's reward.
        signals: all others, by name.
        device: where rows are scored.
        discount: the algorithm's.
        discounts: of each signal, the environment's reward first; None = the algorithm's.
        normalize: whether returns are divided by their scales.
        value_of: of what values are learned. In raw units a value for each signal is one for each discount.
    """

    def __init__(
        self,
        strength: float,
        signals: Mapping[str, RewardSignal],
        device: torch.device,
        discount: float = 0.0,
        discounts: Sequence[float] | None = None,
        normalize: bool = False,
        value_of: ValueOf = "sum",
    ) -> None:
        self._signals = signals
        names = ["extrinsic", *signals]
        given = [discount] * len(names) if discounts is None else list(discounts)
        by_signal = normalize and value_of == "signal"
        self.discounts = given if by_signal else [discount, *sorted({*given} - {discount})]
        """(V,) of each value. That of the algorithm's discount comes first, unless there is one for each signal."""
        self.scale = ReturnScale(names, given, device) if normalize else None
        self._strengths = torch.full((len(names),), strength, device=device)
        same = torch.eye(len(names)) if by_signal else torch.tensor([[g == d for g in given] for d in self.discounts])
        self._members = same.float().to(device)
        """(V, S) 1 where a signal is a part of a value."""
        self.pays_game = self._members[:, 0] > 0
        """(V,) bool: of which the environment's reward is a part."""
        self._by_signal = by_signal
        for_ever = [1 / (1 - each) if each < 1 else 0.0 for each in given]
        self._for_ever = torch.tensor(for_ever, device=device)
        """(S,) the absorbing state's value where a step there pays 1; no signal that pays there has a discount of 1."""
        self.value_weights = torch.ones(len(self.discounts), device=device)
        """(V,) what each value counts for the policy."""
        self.units = torch.ones(len(self.discounts), device=device)
        """(V,) by which a value is multiplied to be in the game's units, strength included; where signals are summed,
        the mean of theirs. Always the same tensor."""
        self._nothing = torch.zeros(len(self.discounts), device=device)
        self._averages = Averages([f"reward/{name}" for name in names], device)
        self._always = torch.ones((), dtype=torch.bool, device=device)
        self._weigh()

    @property
    def look(self) -> bool:
        """Whether any signal looks at more than the environment's rewards."""
        return bool(self._signals)

    def score(self, rewards: Tensor, steps: Steps | None) -> list[Scores]:
        """What rows earn by each signal: of the environment's rewards (...), and of these N steps if signals `look`."""
        scores = [Scores(rewards, self._strengths.new_zeros(()))]
        if steps is not None:
            for signal in self._signals.values():
                earned, absorbing = _in_parts(signal, steps)
                scores.append(Scores(earned.view(rewards.shape), absorbing.to(rewards.device)))
        return scores

    def log(self, scores: Sequence[Scores], loss_mask: Tensor | None = None) -> None:
        """Takes what was scored into the means of `metrics`, over rows that are `loss_mask` (...) bool: all if None."""
        if self._signals:
            earned = torch.stack([each.rewards for each in scores]).flatten(1) * self._strengths[:, None]
            counts = torch.ones_like(earned[0]) if loss_mask is None else loss_mask.flatten().to(earned.dtype)
            self._averages.add((earned * counts).sum(1) / counts.sum(), self._always)

    def measure(self, rollout: Rollout, scores: Sequence[Scores]) -> Tensor | None:
        """Takes new rows into the scales; returns old over new unit of each value (V,), None in raw units."""
        if self.scale is None:
            return None
        rewards = torch.stack([each.rewards for each in scores])
        moved = self.scale.measure(rollout, rewards, self._absorbing(scores))
        self._weigh()
        if self._by_signal:
            return moved.float()
        # What a sum was made of is not known. By its strength each signal's returns have the same size in it.
        shares = self._members * self._strengths
        return torch.where(shares.sum(1) > 0, shares @ moved.float() / shares.sum(1).clamp(min=TINY), 1.0)

    def combine(self, scores: Sequence[Scores]) -> Earned:
        """Returns what is learned from, of rows scored: sums of rewards over scales, times strengths."""
        rewards = [each.rewards for each in scores]
        if self.scale is not None:  # a row that has come since the last measurement may be of any size
            rewards = [each.clamp(*limits) for each, limits in zip(rewards, self._limits)]
        if self._factors.numel() == 1 and not self._signals:  # the usual case, in a third of the operations
            return Earned((rewards[0] * self._factors[0])[None], self._nothing)
        earned = self._factors @ torch.stack(rewards).flatten(1)
        return Earned(earned.view(-1, *rewards[0].shape), self._factors @ self._absorbing(scores))

    def learn(self, steps: Steps, samples: float) -> None:
        """Lets signals learn from N steps that agents took; see `RewardSignal.learn`."""
        for signal in self._signals.values():
            signal.learn(steps, samples)

    def set_progress(self, samples: int) -> None:
        """Moves schedules to `samples` samples."""
        for signal in self._signals.values():
            signal.set_progress(samples)
        if self._signals:
            self._weigh()

    def metrics(self) -> dict[str, float]:
        """By TensorBoard's names: what each signal paid a row on average, its scale, and their own."""
        scales = {}
        if self.scale is not None:
            names = (f"reward/{name}_return_scale" for name in ("extrinsic", *self._signals))
            scales = dict(zip(names, self.scale.scales.tolist()))
        if not self._signals:
            return scales
        own = (signal.metrics() for signal in self._signals.values())
        return {**self._averages.read(), **scales, **{key: value for metrics in own for key, value in metrics.items()}}

    def weights(self) -> dict[str, Tensor]:
        """Returns the units in which values are counted, none if raw."""
        return {} if self.scale is None else self.scale.weights()

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `weights` gave, here or in a run in raw units."""
        if self.scale is not None:
            self.scale.load_weights(state)
        self._weigh()

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what an exact continuation needs of the signals."""
        states = {name: signal.state_dict() for name, signal in self._signals.items()}
        return {f"{name}/{key}": value for name, state in states.items() for key, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        for name, signal in self._signals.items():
            signal.load_state_dict(below(state, f"{name}/"))
        self._weigh()

    def _absorbing(self, scores: Sequence[Scores]) -> Tensor:
        """(S,) value of the absorbing state."""
        return torch.stack([each.absorbing for each in scores]) * self._for_ever

    def _weigh(self) -> None:
        """Computes what follows from strengths and scales."""
        for i, signal in enumerate(self._signals.values(), 1):
            self._strengths[i] = signal.strength
        strengths, members = self._strengths, self._members
        if self.scale is None:
            self._factors = members * strengths
            return
        scales = self.scale.scales.float()
        limits = 2 * BOUND * scales  # as a reward is G - discount * G of the row before
        self._limits = list(zip((-limits).unbind(), limits.unbind()))
        self._factors = members / scales
        if self._by_signal:
            self.value_weights = strengths.clone()
            self.units.copy_(strengths * scales)
        else:
            self._factors = self._factors * strengths
            self.units.copy_(strengths @ scales / strengths.sum().clamp(min=TINY))


TINY = 1e-30
"""Keeps 0 / 0 from being NaN."""
