"""The behaviors of a run: the memory that is kept for each, and which of the configured ones have appeared.

No torch at the top: it takes a second or more to import, in which the collector can start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from algorithms.settings import AlgorithmSettings
from buffers.rows import Layout, Rows
from envs.spec import BehaviorSpec, UserError
from trainer.config.schema import DEFAULT_BEHAVIOR, TrainConfig, settings_of
from trainer.runtime.policy_store import weights_bytes

if TYPE_CHECKING:
    from algorithms.policy import Policy

SPARES = 8
"""How many behaviors may appear that the configuration does not name."""
LATE_SECONDS = 60.0
"""So long after the first behavior, the run warns of configured ones that have not appeared."""
_MIB = 2**20


def buffer_sizes(config: TrainConfig) -> tuple[dict[str, int], int, int]:
    """Returns, for `Shared`, the bytes of each known behavior, and how many others may come, of how many bytes each.

    Raises:
        UserError: `behaviors` leaves out one that the environment is known to have.
    """
    if known := config.env.behaviors:
        return {name: _bytes(config, name) for name in known}, 0, 0
    named = {name: _bytes(config, name) for name in config.behaviors if name != DEFAULT_BEHAVIOR}
    if config.behaviors and DEFAULT_BEHAVIOR not in config.behaviors:
        return named, 0, 0
    return named, SPARES, _bytes(config, DEFAULT_BEHAVIOR)


def divide_arena(
    arena: memoryview, policy: Policy, spec: BehaviorSpec, settings: AlgorithmSettings
) -> tuple[memoryview, Rows]:
    """Divides a behavior's memory into two slots of weights and its rows, alike in learner and collector.

    Raises UserError if the rows that are asked for do not fit.
    """
    weights = weights_bytes(policy.flat.numel())
    layout = Layout(spec, policy.state_size)
    fitting = layout.capacity(max(0, len(arena) - weights))
    least = settings.min_rows() if settings.buffer_capacity is None else settings.buffer_capacity
    if fitting < least:
        needed = -(-(weights + layout.row_bytes * least) // _MIB) + 1
        raise UserError(
            f"{spec.name}: {least:,} rows of {layout.row_bytes:,} bytes and the weights need {needed:,} MiB, but "
            f"algorithm.buffer_memory_mib is {len(arena) // _MIB:,}: raise it to {needed:,}, or ask for fewer rows"
        )
    return arena[:weights], Rows(layout, arena[weights:], settings.buffer_capacity or fitting)


def missing_behaviors(config: TrainConfig, seen: Sequence[str], when: str) -> str | None:
    """Returns a warning about the configured behaviors that are not among those `seen`; None if all are."""
    named = [name for name in config.behaviors if name != DEFAULT_BEHAVIOR and name not in seen]
    if not named:
        return None
    missing, found = ", ".join(f"behaviors.{name}" for name in named), ", ".join(map(repr, seen))
    return f"{missing} did not appear {when}; the game has {found}: is the name right?"


def _bytes(config: TrainConfig, behavior: str) -> int:
    settings, _ = settings_of(config, behavior)
    return settings.buffer_memory_mib * _MIB
