"""Shared memory between a manager and its workers: one row of every field for each instance, or for each agent in it.

Each field has one writer, and a row changes hands by a signal byte: a worker writes between an action and its signal,
the manager between a signal and the next action.

Shapes: I instances, N agents, C continuous actions, B discrete branches, A mask entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from multiprocessing import get_context
from typing import Any

import numpy as np

from envs.process.ram import check_shared
from envs.spec import Array, BehaviorSpec

STEPPED, TERMINATED, TRUNCATED, METRICS = 1, 2, 4, 8
"""Bits of `flags`: a step completed; its episode ended, by itself or cut off; metrics went ahead of this signal."""

Field = tuple[str, str, tuple[int, ...]]
"""Name, dtype and shape of an array."""

_ALIGNMENT = 64


class AgentSlots:
    """What passes between a worker and N agents of one behavior."""

    def __init__(self, spec: BehaviorSpec, views: Mapping[str, Array]) -> None:
        kinds = range(len(spec.observations))
        self.observations = tuple(views[f"observation_{k}"] for k in kinds)
        """(N, *shape) each; written by workers, like all down to `flags`."""
        self.final_observations = tuple(views[f"final_{k}"] for k in kinds)
        """(N, *shape) each: the last observations of a truncated episode."""
        self.mask = views["mask"]
        self.final_mask = views["final_mask"]
        self.reward = views["reward"]
        self.flags = views["flags"]
        self.continuous = views["continuous"]
        """(N, C) float32; written by the manager."""
        self.discrete = views["discrete"]
        """(N, B) int32; written by the manager."""


class InstanceSlots:
    """What passes between a worker and I instances, whoever plays in them."""

    def __init__(self, views: Mapping[str, Array]) -> None:
        self.busy = views["busy"]
        """(I,) float64: seconds that steps and resets have taken so far."""
        self.episode = views["episode"]
        """(I,) int64: number of the episode that is open."""
        self.played = views["played"]
        """(I, 1 + lessons) int64: the lessons in which that is played; empty without lessons."""
        self.lessons = views["lessons"]
        """(I, 1 + lessons) int64: the lessons that an episode begins in; written by the manager, at any time. A row
        that is read meanwhile may be half of either: then its episode counts for neither."""


class Slots(AgentSlots, InstanceSlots):
    """Views on one block of shared memory, for instances of one agent each. Built in each process from the same."""

    def __init__(self, spec: BehaviorSpec, instances: int, block: Any, lessons: int = 0) -> None:
        """`lessons`: how many environment parameters have lessons."""
        views = views_of(block, _fields(spec, instances, lessons))
        AgentSlots.__init__(self, spec, views)
        InstanceSlots.__init__(self, views)


def allocate(spec: BehaviorSpec, instances: int, lessons: int = 0) -> Any:
    """Returns a zero-filled block for `Slots`, as `allocate_fields` does."""
    return allocate_fields(_fields(spec, instances, lessons), instances)


def allocate_fields(fields: Sequence[Field], instances: int) -> Any:
    """Returns a zero-filled block for `views_of`: an argument for spawned processes, gone with the last that holds it.

    UserError if it does not fit into shared memory.
    """
    *_, (_, dtype, shape, start) = _placed(fields)
    size = start + prod(shape) * dtype.itemsize + _ALIGNMENT
    check_shared(size, f"The observations and actions of {instances} instances (env.instances)")
    return get_context("spawn").RawArray("B", size)


def views_of(block: Any, fields: Sequence[Field]) -> dict[str, Array]:
    """Returns by name the arrays of a block, which was allocated for the same fields."""
    memory = np.frombuffer(block, np.uint8)
    return {
        name: memory[start : start + prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        for name, dtype, shape, start in _placed(fields)
    }


def agent_fields(spec: BehaviorSpec, agents: int) -> list[Field]:
    """Returns what `AgentSlots` of so many agents need."""
    row: list[Field] = []
    for kind in ("observation", "final"):
        row += [(f"{kind}_{k}", o.dtype, o.shape) for k, o in enumerate(spec.observations)]
    row += [("mask", "bool", (spec.mask_size,)), ("final_mask", "bool", (spec.mask_size,))]
    row += [("reward", "float32", ()), ("flags", "uint8", ())]
    row += [("continuous", "float32", (spec.continuous_size,)), ("discrete", "int32", (len(spec.branches),))]
    return [(name, dtype, (agents, *shape)) for name, dtype, shape in row]


def instance_fields(instances: int, lessons: int) -> list[Field]:
    """Returns what `InstanceSlots` of so many instances need, with so many parameters that have lessons."""
    columns = 1 + lessons if lessons else 0
    lesson_fields: list[Field] = [(name, "int64", (instances, columns)) for name in ("played", "lessons")]
    return [("busy", "float64", (instances,)), ("episode", "int64", (instances,)), *lesson_fields]


def _fields(spec: BehaviorSpec, instances: int, lessons: int) -> list[Field]:
    return [*agent_fields(spec, instances), *instance_fields(instances, lessons)]


def _placed(fields: Sequence[Field]) -> Iterator[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
    """Yields name, dtype, shape and first byte of each field."""
    start = 0
    for name, kind, shape in fields:
        dtype = np.dtype(kind)
        yield name, dtype, shape, start
        size = prod(shape) * dtype.itemsize
        start += -(-size // _ALIGNMENT) * _ALIGNMENT
