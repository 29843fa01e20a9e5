"""The behaviors of a run: the memory that is kept for each, and which of the configured ones have appeared.

No torch at the top: it takes a second or more to import, in which the collector can start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from algorithms.settings import AlgorithmSettings, least_rows
from buffers.rows import Layout, Rows
from envs.spec import BehaviorSpec, UserError
from trainer.config.schema import DEFAULT_BEHAVIOR, GymConfig, TrainConfig, settings_of
from trainer.runtime.env_factory import gym_env
from trainer.runtime.policy_store import weights_bytes

if TYPE_CHECKING:
    from algorithms.policy import Policy

SPARES = 8
"""Behaviors that may appear without being named."""
LATE_SECONDS = 60.0
"""After the first behavior, those that are configured and have not appeared are warned of."""
_MIB = 2**20


def buffer_sizes(config: TrainConfig) -> tuple[dict[str, int], int, int]:
    """For `Shared`: bytes by behavior of those that are known, and how many others there may be, of how many bytes.

    Raises:
        UserError: `behaviors` leaves out the behavior of a Gymnasium environment.
    """
    if isinstance(config.env, GymConfig):
        name = gym_env(config.env).behavior
        return {name: _bytes(config, name)}, 0, 0
    named = {name: _bytes(config, name) for name in config.behaviors if name != DEFAULT_BEHAVIOR}
    if config.behaviors and DEFAULT_BEHAVIOR not in config.behaviors:
        return named, 0, 0
    return named, SPARES, _bytes(config, DEFAULT_BEHAVIOR)


def divide_arena(
    arena: memoryview, policy: Policy, spec: BehaviorSpec, settings: AlgorithmSettings
) -> tuple[memoryview, Rows]:
    """The behavior's bytes as two slots of weights and the rows behind them; UserError if the asked rows do not fit."""
    weights = weights_bytes(policy.flat.numel())
    layout = Layout(spec, policy.memory_size)
    fitting = layout.capacity(max(0, len(arena) - weights))
    least = least_rows(settings) if settings.buffer_capacity is None else settings.buffer_capacity
    if fitting < least:
        needed = -(-(weights + layout.row_bytes * least) // _MIB) + 1
        raise UserError(
            f"{spec.name}: {least:,} rows of {layout.row_bytes:,} bytes and the weights need {needed:,} MiB, but "
            f"algorithm.buffer_memory_mib is {len(arena) // _MIB:,}: raise it to {needed:,}, or ask for fewer rows"
        )
    return arena[:weights], Rows(layout, arena[weights:], settings.buffer_capacity or fitting)


class Behaviors:
    """The behaviors that are configured by name, and which have appeared."""

    def __init__(self, config: TrainConfig) -> None:
        self._names = [name for name in config.behaviors if name != DEFAULT_BEHAVIOR]
        self._first: float | None = None
        self._warned = False
        self.seen: list[str] = []
        """Behaviors that have appeared, in their order."""

    def appeared(self, name: str, now: float) -> None:
        """Notes that a behavior has appeared, at `now` seconds, perhaps again."""
        self._first = now if self._first is None else self._first
        if name not in self.seen:
            self.seen.append(name)

    def overdue(self, now: float) -> str | None:
        """Words for those that have not appeared in time: once."""
        if self._warned or self._first is None or now < self._first + LATE_SECONDS:
            return None
        self._warned = True
        return self._words(f"within {LATE_SECONDS:.0f} s of the first behavior")

    def never(self) -> str | None:
        """Words for those that have not appeared at all."""
        return self._words("in this run")

    def _words(self, when: str) -> str | None:
        missing = ", ".join(f"behaviors.{name}" for name in self._names if name not in self.seen)
        if not missing:
            return None
        return f"{missing} did not appear {when}; the game has {', '.join(map(repr, self.seen))}: is the name right?"


def _bytes(config: TrainConfig, behavior: str) -> int:
    settings, _ = settings_of(config, behavior)
    return settings.buffer_memory_mib * _MIB
