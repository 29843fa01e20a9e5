"""The algorithms, by the `name` that their settings bear."""

from __future__ import annotations

from typing import Any

from envs.imports import Registry

ALGORITHMS: Registry[Any] = Registry(
    "algorithm",
    "outstep.algorithms",
    {
        "ppo": "algorithms.settings:PPOSettings",
        "sac": "algorithms.settings:SACSettings",
        "custom": "algorithms.settings:CustomSettings",
    },
)
"""Settings classes."""
