"""Environments that our player serves in the benchmark of Unity players."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from envs.spec import Array


class Instant(gymnasium.Env[Array, Any]):
    """20 floats in, one of three choices out, without end; a step costs next to nothing."""

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (20,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self) -> None:
        self._observation: Array = np.full(20, 0.5, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Always the same."""
        super().reset(seed=seed)
        return self._observation, {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Always the same."""
        return self._observation, 0.0, False, False, {}


gymnasium.register("Instant-v0", entry_point="benchmarks.unity_toys:Instant")
