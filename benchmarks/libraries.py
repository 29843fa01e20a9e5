"""The libraries that block: Gymnasium's AsyncVectorEnv and Stable-Baselines3's SubprocVecEnv, with random actions.

A sample counts when the library returns it; nothing is stored, which is to their advantage.
Shapes: I instances, B discrete branches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv

from benchmarks.actions import RandomActions, discrete_branches
from benchmarks.blocking import BlockingInstance
from benchmarks.tasks import Round, Task
from envs.spec import Array

Clock = Callable[[], float]


class GymnasiumAsync:
    """AsyncVectorEnv with shared memory, a process for each instance, as it comes."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def start(self) -> None:
        """Starts its processes and resets."""
        self._envs = AsyncVectorEnv(_makers(self._task), context="spawn")
        space = self._envs.single_action_space
        self._drive = NextStepDrive(self._envs, space, self._task.instances, self._task.seed)
        self._envs.reset()

    def round(self, seconds: float) -> Round:
        """Steps for `seconds`."""
        if self._task.waits:
            self._envs.call("begin_round")
        samples, elapsed = self._drive.run(seconds)
        return Round(samples, elapsed, list(self._envs.call("round_span")) if self._task.waits else [])

    def layout(self) -> str:
        """Instances and processes, in words."""
        return f"{self._task.instances} instances in {self._task.instances} workers"

    def close(self) -> None:
        """Ends its processes."""
        self._envs.close()


class StableBaselines:
    """SubprocVecEnv, a process for each instance, as it comes."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def start(self) -> None:
        """Starts its processes and resets."""
        from stable_baselines3.common.vec_env import SubprocVecEnv  # imports torch

        self._envs = SubprocVecEnv(_makers(self._task))
        self._drive = SameStepDrive(self._envs, self._envs.action_space, self._task.instances, self._task.seed)
        self._envs.reset()

    def round(self, seconds: float) -> Round:
        """Steps for `seconds`."""
        if self._task.waits:
            self._envs.env_method("begin_round")
        samples, elapsed = self._drive.run(seconds)
        return Round(samples, elapsed, self._envs.env_method("round_span") if self._task.waits else [])

    def layout(self) -> str:
        """Instances and processes, in words."""
        return f"{self._task.instances} instances in {self._task.instances} workers"

    def close(self) -> None:
        """Ends its processes."""
        self._envs.close()


class NextStepDrive:
    """Drives a Gymnasium vector env: the call after an episode's end resets that instance, and is no sample of it."""

    def __init__(
        self, envs: Any, space: gymnasium.Space[Any], instances: int, seed: int, clock: Clock = time.perf_counter
    ) -> None:
        branches = discrete_branches(space)
        self._envs, self._clock = envs, clock
        self._actions = RandomActions(branches, instances, seed)
        self._batch = np.zeros((instances, len(branches)), np.int32)
        self._flat = isinstance(space, gymnasium.spaces.Discrete)
        self._stepping = np.arange(instances)

    def run(self, seconds: float) -> tuple[int, float]:
        """Steps for `seconds`: samples and seconds passed."""
        samples, start = 0, self._clock()
        while (now := self._clock()) < start + seconds:
            self._batch[self._stepping] = self._actions.take(self._stepping)
            batch = self._batch[:, 0] if self._flat else self._batch
            _, _, terminated, truncated, _ = self._envs.step(batch)
            samples += len(self._stepping)
            ended: Array = terminated | truncated
            self._stepping = np.flatnonzero(~ended)
        return samples, now - start


class SameStepDrive:
    """Drives a Stable-Baselines3 vector env: every call is a sample of each instance, resets come within it."""

    def __init__(
        self, envs: Any, space: gymnasium.Space[Any], instances: int, seed: int, clock: Clock = time.perf_counter
    ) -> None:
        self._envs, self._clock = envs, clock
        self._actions = RandomActions(discrete_branches(space), instances, seed)
        self._flat = isinstance(space, gymnasium.spaces.Discrete)
        self._instances = np.arange(instances)

    def run(self, seconds: float) -> tuple[int, float]:
        """Steps for `seconds`: samples and seconds passed."""
        samples, start = 0, self._clock()
        while (now := self._clock()) < start + seconds:
            batch = self._actions.take(self._instances)
            self._envs.step(batch[:, 0] if self._flat else batch)
            samples += len(self._instances)
        return samples, now - start


def _makers(task: Task) -> list[Callable[[], gymnasium.Env[Any, Any]]]:
    return [BlockingInstance(task.env, task.seed, index, task.waits) for index in range(task.instances)]
