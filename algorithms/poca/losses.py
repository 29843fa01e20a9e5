"""POCA's advantages and loss of values as pure functions.

Shapes: N rows, V values.
"""

from __future__ import annotations

from torch import Tensor

BASELINE_WEIGHT = 0.5
"""Of the baselines' loss beside the values', as in ML-Agents."""


def counterfactual_advantages(by_value: Tensor, values: Tensor, baselines: Tensor) -> Tensor:
    """(V, N) what actions earned over the baselines (N, V), from what they earned `by_value` (V, N) over the values.

    The return is the same in both: it is the group's, and only what it is compared with is the agent's own.
    """
    return by_value + (values - baselines).t()


def critic_loss(of_values: Tensor, of_baselines: Tensor) -> Tensor:
    """() of the losses (V,) of values and of baselines."""
    return of_values.mean() + BASELINE_WEIGHT * of_baselines.mean()
