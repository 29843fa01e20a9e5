"""The behaviors of a run: the memory that is kept for each, and which of the configured ones have appeared.

No torch at the top: it takes a second or more to import, in which the collector can start.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from algorithms.settings import AlgorithmSettings
from buffers.fragments import window_capacity
from buffers.rows import Layout, Rows
from envs.spec import BehaviorSpec, UserError
from trainer.config.schema import DEFAULT_BEHAVIOR, TrainConfig, settings_of
from trainer.runtime.ipc import CAPACITY, Shared
from trainer.runtime.policy_store import weights_bytes
from trainer.selfplay.settings import SelfPlayConfig
from trainer.selfplay.snapshots import Snapshots, snapshots_bytes

if TYPE_CHECKING:
    from algorithms.policy import Policy

SPARES = 8
"""How many behaviors may appear that the configuration does not name."""
LATE_SECONDS = 60.0
"""So long after the first behavior, the run warns of configured ones that have not appeared."""
_MIB = 2**20
_COPIES = 12
"""Of the first layer's weights: those of actors and critics, with gradients, Adam's moments, and what is published."""


def known_behaviors(config: TrainConfig) -> tuple[list[str], int]:
    """Returns, for `Shared`, the behaviors that are known before the environment runs, and how many others may come.

    Raises:
        UserError: `behaviors` leaves out one that the environment is known to have.
    """
    if known := config.env.behavior_names:
        for name in known:
            settings_of(config, name)
        return known, 0
    named = [name for name in config.behaviors if name != DEFAULT_BEHAVIOR]
    return named, 0 if config.behaviors and DEFAULT_BEHAVIOR not in config.behaviors else SPARES


def check_networks(spec: BehaviorSpec, settings: AlgorithmSettings, available: int) -> None:
    """Refuses a behavior whose networks would not fit into the `available` bytes, before they are made: UserError."""
    # Convolutions leave about as many features as an image has pixels.
    inputs = sum(prod(each.shape[:2] if len(each.shape) == 3 else each.shape) for each in spec.observations)
    needed = _COPIES * 4 * inputs * max(settings.network.hidden, default=1)
    if needed > available:
        raise UserError(
            f"behavior {spec.name!r} observes {inputs:,} values, for which its networks would need about "
            f"{needed // _MIB:,} MiB, but {available // _MIB:,} MiB of memory are left: let its agents observe less, "
            "or make the networks smaller (algorithm.network.hidden)"
        )


def open_buffer(
    shared: Shared,
    policy: Policy,
    spec: BehaviorSpec,
    settings: AlgorithmSettings,
    self_play: SelfPlayConfig,
    before: int | None = None,
    at_once: int = 1,
) -> tuple[memoryview, Snapshots | None, Rows]:
    """Opens a behavior's memory, alike in learner and collector: two slots of weights, snapshots, and the rows.

    The first that opens it chooses how many rows there are. `before`: those of the run that it goes on with. On a host
    that passes its rows on, they are as few as `at_once` agents need, and tell their positions. There are snapshots
    where there is self-play.

    Raises UserError if the rows that are asked for do not fit.
    """
    counters, passed_on = shared.counters(spec.name), shared.fragment_rows
    layout = Layout(spec, policy.state_size, settings.own().mates, bool(passed_on))
    size = policy.flat.numel()
    newest = weights_bytes(size)
    weights = newest + snapshots_bytes(size, self_play)
    if not counters[CAPACITY] and passed_on:
        counters[CAPACITY] = window_capacity(layout, passed_on, at_once)
    elif not counters[CAPACITY]:
        counters[CAPACITY] = choose_capacity(layout, weights, settings, shared.free, before)
    capacity = int(counters[CAPACITY])
    memory = shared.arena(spec.name, weights + layout.memory_bytes(capacity))
    snapshots = Snapshots(memory[newest:weights], size, self_play) if self_play.enabled else None
    return memory[:newest], snapshots, Rows(layout, memory[weights:], capacity)


def choose_capacity(
    layout: Layout, weights: int, settings: AlgorithmSettings, free: int, before: int | None = None
) -> int:
    """Returns how many rows a buffer holds: those asked for, else by default, in at most half of the `free` bytes.

    Args:
        layout: of the rows.
        weights: bytes of the weights, which come on top.
        settings: what asks for rows or for memory.
        free: bytes that are left.
        before: rows of the run that it goes on with, which stay if they fit.

    Raises:
        UserError: they do not fit into `buffer_memory_mib`, or memory is short.
    """
    name, least, rows = layout.spec.name, settings.min_rows(), settings.buffer_capacity
    if settings.buffer_memory_mib is not None:
        fitting = layout.capacity(max(0, settings.buffer_memory_mib * _MIB - weights))
        if fitting < (wanted := rows or least):
            needed = -(-(weights + layout.row_bytes * wanted) // _MIB) + 1
            raise UserError(
                f"{name}: {wanted:,} rows of {layout.row_bytes:,} bytes and the weights need {needed:,} MiB, but "
                f"algorithm.buffer_memory_mib is {settings.buffer_memory_mib:,}: raise it to {needed:,}, or ask for "
                "fewer rows"
            )
        rows = rows or fitting
    elif rows is None and before is not None and before >= least and weights + layout.memory_bytes(before) <= free:
        rows = before
    elif rows is None:
        half = free // 2 - weights
        some = layout.capacity(half) if half > layout.memory_bytes(least) else 0
        rows = max(least, min(settings.own().default_rows(layout.row_bytes), some))
    if (needed := weights + layout.memory_bytes(rows)) > free:
        raise UserError(
            f"the buffer of behavior {name!r} needs {-(-needed // _MIB):,} MiB for {rows:,} rows of "
            f"{layout.row_bytes:,} bytes, but {free // _MIB:,} MiB of memory are left: ask for fewer rows "
            "(algorithm.buffer_capacity), or free memory (in a container also docker --shm-size)"
        )
    return rows


def describe_buffer(rows: Rows, settings: AlgorithmSettings) -> tuple[str, str | None]:
    """Returns what a run says at its start of a behavior's rows, and a warning if they are few."""
    layout, name = rows.layout, rows.layout.spec.name
    size = -(-layout.memory_bytes(rows.capacity) // _MIB)
    line = f"Behavior {name!r} keeps {rows.capacity:,} rows of {layout.row_bytes:,} bytes: {size:,} MiB."
    few = settings.own().few_rows
    if settings.buffer_capacity is not None or rows.capacity >= few:
        return line, None
    key = "buffer_capacity" if settings.buffer_memory_mib is None else "buffer_memory_mib"
    return line, (
        f"Behavior {name!r}: {rows.capacity:,} rows are few for a replay, from {few:,} on it is varied: "
        f"raise algorithm.{key} if the machine has the memory, or make observations smaller."
    )


def missing_behaviors(config: TrainConfig, seen: Sequence[str], when: str) -> str | None:
    """Returns a warning about the configured behaviors that are not among those `seen`; None if all are."""
    named = [name for name in config.behaviors if name != DEFAULT_BEHAVIOR and name not in seen]
    if not named:
        return None
    missing, found = ", ".join(f"behaviors.{name}" for name in named), ", ".join(map(repr, seen))
    return f"{missing} did not appear {when}; the game has {found}: is the name right?"
