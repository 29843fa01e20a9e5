"""Instances for libraries whose `step` has to block: the episodes and durations of ours, slept out and recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, SupportsFloat

import gymnasium

from benchmarks.supply import Completions, Span
from benchmarks.waiting import SleepDuration
from envs.gym.adapter import GymEnv
from envs.seeding import episode_seed

Env = gymnasium.Env[Any, Any]


@dataclass(frozen=True)
class BlockingInstance:
    """Makes instance number `index`; picklable, so that a library's worker can call it."""

    env: GymEnv
    seed: int
    index: int
    waits: bool
    """Whether its steps return durations that are to be waited out."""

    def __call__(self) -> Env:
        """A new env."""
        env: Env = SeededEpisodes(self.env.make(), self.seed, self.index)
        if self.waits:
            env = RecordedCompletions(SleepDuration(env, self.env.time_scale), self.env.time_scale)
        return env


class SeededEpisodes(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Seeds each reset as our workers do, so that an instance plays the same episodes under every library."""

    def __init__(self, env: Env, seed: int, instance: int) -> None:
        super().__init__(env)
        self._seed, self._instance, self._episode = seed, instance, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The next episode; a `seed` of the library's is ignored."""
        chosen = episode_seed(self._seed, self._instance, self._episode)
        self._episode += 1
        return self.env.reset(seed=chosen, options=options)


class RecordedCompletions(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Records, in the worker, when steps complete and what durations were drawn."""

    def __init__(self, env: Env, time_scale: float) -> None:
        super().__init__(env)
        self._time_scale = time_scale
        self._drawn = 0.0
        self._completions = Completions()

    def begin_round(self) -> None:
        """Forgets the completions so far."""
        self._completions = Completions()

    def round_span(self) -> Span:
        """What was completed since `begin_round`."""
        return self._completions.span()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The env's own reset; its duration counts, but it is no sample."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._drawn += info.get("duration", 0.0) / self._time_scale
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """The env's own step."""
        result = self.env.step(action)
        self._drawn += result[4]["duration"] / self._time_scale
        self._completions.record(time.perf_counter(), self._drawn)
        return result
