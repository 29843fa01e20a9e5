"""Random actions, the same for every contender: those of an instance depend on the seed, the instance and its step.

Shapes: I instances, N of them that ask; B discrete branches.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from envs.spec import Array, UserError

_PERIOD = 4096  # steps after which an instance's actions repeat


class RandomActions:
    """Draws choices of `branches` beforehand, so that drawing costs every contender the same: next to nothing."""

    def __init__(self, branches: tuple[int, ...], instances: int, seed: int) -> None:
        drawn = [
            np.random.default_rng((seed, instance)).integers(branches, size=(_PERIOD, len(branches)), dtype=np.int32)
            for instance in range(instances)
        ]
        self._table = np.stack(drawn)
        self._steps = np.zeros(instances, np.int64)

    def take(self, instances: Array) -> Array:
        """The next choices (N, B) int32 of the given distinct instances (N,)."""
        steps = self._steps[instances]
        self._steps[instances] = steps + 1
        return self._table[instances, steps % _PERIOD]


def discrete_branches(space: gymnasium.Space[Any]) -> tuple[int, ...]:
    """Choices of each branch of an action space that counts from 0; UserError for a space of another kind."""
    if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0:
        return (int(space.n),)
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return tuple(int(n) for n in space.nvec)
    raise UserError(f"benchmarks act with Discrete and MultiDiscrete spaces, not {space}")
