"""The scale of each reward signal: what its rewards are divided by, so that nothing depends on their unit.

What is measured is the discounted return of what agents did, G <- r + discount * G along each agent's steps, 0 where an
episode begins, as gymnasium's NormalizeReward and SimbaV2 (arXiv 2502.15280) do. No network's output is part of it.

Shapes: S signals, N rows of a rollout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from algorithms.networks.awaited import AwaitedStates
from buffers.rollout import Rollout
from envs.spec import Array


class ReturnScale:
    """The running deviation of each signal's returns, with a floor that keeps the largest of them within `BOUND`.

    All numbers lie on the device, and nothing waits for them.
    """

    def __init__(self, names: Sequence[str], discounts: Sequence[float], device: torch.device) -> None:
        self._names = list(names)
        self._discounts = torch.tensor(discounts, dtype=torch.float64, device=device)[:, None]
        self.count = 0.0
        """Rows measured, up to `MEMORY`."""
        self._statistics = torch.zeros(4, len(names), dtype=torch.float64, device=device)
        """Mean, variance and largest absolute of the returns, then the scale: 0 while nothing but zeros was seen."""
        self.forget()

    @property
    def scales(self) -> Tensor:
        """(S,) float64; 1 while nothing but zeros was seen."""
        scale = self._statistics[3]
        return torch.where(scale > 0, scale, 1.0)

    @torch.no_grad()
    def measure(self, rollout: Rollout, rewards: Tensor, absorbing: Tensor) -> Tensor:
        """Takes in rows that are not known yet; returns old over new scales (S,), 1 where there was none.

        Args:
            rollout: the rows; each agent's come in their order, from one rollout to the next.
            rewards: (S, N) what each signal pays for them.
            absorbing: (S,) the value of what follows the end of an episode that terminated.
        """
        returns = self._follow(rollout, rewards.double())
        at_ends = absorbing.double().abs() * float(rollout.terminated.any())
        before = self._statistics[3].clone()
        self._merge(returns, at_ends)
        return torch.where(before > 0, before / self.scales, 1.0)

    def forget(self) -> None:
        """Forgets who was under way: the rows that come next have other numbers."""
        self._awaited = AwaitedStates(len(self._names), self._statistics.device, torch.float64)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what an exact continuation needs, without what `weights` holds."""
        return self._awaited.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        self._awaited.load_state_dict(state)

    def weights(self) -> dict[str, Tensor]:
        """Returns by signal (5,) float64: the count and the statistics, in which predictions are counted."""
        columns = self._statistics.cpu().t()
        count = columns.new_tensor([self.count])
        return {name: torch.cat([count, column]) for name, column in zip(self._names, columns)}

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `weights` gave; with nothing there, predictions are taken to be in raw units."""
        self.count = 0.0
        self._statistics.zero_()
        if not state:
            self._statistics[3] = 1
        for i, name in enumerate(self._names):
            if name in state:
                self.count = float(state[name][0])
                self._statistics[:, i] = state[name][1:].to(self._statistics)

    def _follow(self, rollout: Rollout, rewards: Tensor) -> Tensor:
        """(S, N) returns up to each row, from where each agent stood; those of episodes that go on are kept."""
        decay = np.ones(len(rollout.numbers), np.bool_)
        decay[rollout.firsts] = False
        rewards[:, self._on_device(rollout.firsts)] += self._discounts * self._awaited.before(rollout).t()
        longest = int(np.diff(rollout.ends, prepend=-1).max())
        returns = accumulate_forward(rewards, self._discounts * self._on_device(decay), longest)
        self._awaited.keep(rollout, returns[:, self._on_device(rollout.ends)].t().nan_to_num(0.0, 0.0, 0.0))
        return returns

    def _merge(self, returns: Tensor, at_ends: Tensor) -> None:
        """Takes returns (S, N) into the statistics, and the largest ones (S,) that follow their ends."""
        mean, variance, largest, _ = self._statistics
        rows = returns.shape[1]
        total = self.count + rows
        share, self.count = rows / total, min(total, MEMORY)
        new_variance, new_mean = torch.var_mean(returns, 1, unbiased=False)
        delta = new_mean - mean
        variance = torch.lerp(variance, new_variance, share) + share * (1 - share) * delta.square()
        largest = torch.maximum(largest * math.exp(-rows / MEMORY), torch.maximum(returns.abs().amax(1), at_ends))
        scale = torch.maximum(variance.sqrt(), largest / BOUND).clamp(min=TINY) * (largest > 0)
        merged = torch.stack([mean + share * delta, variance, largest, scale])
        # A signal of the user's own may pay what is not finite: losses say so, and its statistics stay as they are.
        self._statistics.copy_(torch.where(merged.isfinite().all(0), merged, self._statistics))

    def _on_device(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._statistics.device)


def accumulate_forward(values: Tensor, decay: Tensor, longest: int) -> Tensor:
    """(S, N) `total[i] = values[i] + decay[i] * total[i - 1]`; `decay` is 0 at least once in `longest` rows.

    Takes log2(longest) rounds of whole-vector operations, as `algorithms.returns.accumulate_backward` does.
    """
    shift = 1
    while shift < longest:
        values = values + decay * F.pad(values[:, :-shift], (shift, 0))
        decay = decay * F.pad(decay[:, :-shift], (shift, 0))
        shift *= 2
    return values


BOUND = 10.0
"""What the largest return is divided down to at most, in deviations: one reward after 50,000 zeros would be 200."""
MEMORY = 250_000.0
"""Rows over which old returns fade. Fewer: scales would move with every phase of play, and predictions with them. More:
a policy that has become good would be measured by its first, bad returns for most of a run."""
TINY = 1e-30
"""Least scale, far below all rewards that float32 tells from 0."""
