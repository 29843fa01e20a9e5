"""Waits out what a step's animation would take, for libraries whose `step` has to block."""

from __future__ import annotations

import time
from typing import Any, SupportsFloat

import gymnasium

from envs.spec import UserError


class SleepDuration(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Makes `step` last `info["duration"] / time_scale` seconds, the time that the env itself took included.

    `time_scale` 0 does not wait. A `reset` whose `info` has a duration lasts as long as it says. Raises UserError for
    a negative time scale and for an env whose steps return no duration.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], time_scale: float = 20.0) -> None:
        if not time_scale >= 0:
            raise UserError(f"SleepDuration: time_scale={time_scale!r} must be 0 (do not wait) or more")
        gymnasium.utils.RecordConstructorArgs.__init__(self, time_scale=time_scale)
        super().__init__(env)
        self.time_scale = time_scale

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Takes the env's own step, made to last."""
        start = time.perf_counter()
        result = self.env.step(action)
        if "duration" not in result[4]:
            raise UserError(f"SleepDuration: {self.env} returns no info['duration'] from step; wrap only envs that do")
        self._wait_until(start, result[4]["duration"])
        return result

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the env itself, which is made to last if it reports a duration."""
        start = time.perf_counter()
        observation, info = self.env.reset(seed=seed, options=options)
        self._wait_until(start, info.get("duration", 0.0))
        return observation, info

    def _wait_until(self, start: float, duration: float) -> None:
        if self.time_scale:
            time.sleep(max(0.0, start + duration / self.time_scale - time.perf_counter()))
