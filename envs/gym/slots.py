"""Shared memory between a manager and its workers: one row of every field for each instance.

Each field has one writer, and a row changes hands by a signal byte: a worker writes between an action and its signal,
the manager between a signal and the next action.

Shapes: I instances, C continuous actions, B discrete branches, A mask entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from multiprocessing import get_context
from typing import Any

import numpy as np

from envs.process.ram import check_shared
from envs.spec import Array, BehaviorSpec

STEPPED, TERMINATED, TRUNCATED, METRICS = 1, 2, 4, 8
"""Bits of `flags`: a step completed; its episode ended, by itself or cut off; metrics went ahead of this signal."""

_ALIGNMENT = 64


class Slots:
    """Views on one block of shared memory. Built in each process from the same arguments."""

    def __init__(self, spec: BehaviorSpec, instances: int, block: Any, lessons: int = 0) -> None:
        """`lessons`: how many environment parameters have lessons."""
        memory = np.frombuffer(block, np.uint8)
        views: dict[str, Array] = {}
        for name, dtype, shape, start in _fields(spec, instances, lessons):
            size = prod(shape) * dtype.itemsize
            views[name] = memory[start : start + size].view(dtype).reshape(shape)
        kinds = range(len(spec.observations))
        self.observations = tuple(views[f"observation_{k}"] for k in kinds)
        """(I, *shape) each; written by workers, like all down to `episode`."""
        self.final_observations = tuple(views[f"final_{k}"] for k in kinds)
        """(I, *shape) each: the last observations of a truncated episode."""
        self.mask = views["mask"]
        self.final_mask = views["final_mask"]
        self.reward = views["reward"]
        self.flags = views["flags"]
        self.busy = views["busy"]
        """(I,) float64: seconds that steps and resets have taken so far."""
        self.episode = views["episode"]
        """(I,) int64: number of the episode that is open."""
        self.played = views["played"]
        """(I, 1 + lessons) int64: the lessons in which that is played; empty without lessons."""
        self.lessons = views["lessons"]
        """(I, 1 + lessons) int64: the lessons that an episode begins in; written by the manager, at any time. A row
        that is read meanwhile may be half of either: then its episode counts for neither."""
        self.continuous = views["continuous"]
        """(I, C) float32; written by the manager."""
        self.discrete = views["discrete"]
        """(I, B) int32; written by the manager."""


def allocate(spec: BehaviorSpec, instances: int, lessons: int = 0) -> Any:
    """Returns a zero-filled block for `Slots`: an argument for spawned processes, gone with the last that holds it.

    UserError if it does not fit into shared memory.
    """
    *_, (_, dtype, shape, start) = _fields(spec, instances, lessons)
    size = start + prod(shape) * dtype.itemsize + _ALIGNMENT
    check_shared(size, f"The observations and actions of {instances} instances (env.instances)")
    return get_context("spawn").RawArray("B", size)


def _fields(
    spec: BehaviorSpec, instances: int, lessons: int
) -> Iterator[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
    """Yields name, dtype, shape and first byte of each field."""
    row: list[tuple[str, str, tuple[int, ...]]] = []
    for kind in ("observation", "final"):
        row += [(f"{kind}_{k}", o.dtype, o.shape) for k, o in enumerate(spec.observations)]
    row += [("mask", "bool", (spec.mask_size,)), ("final_mask", "bool", (spec.mask_size,))]
    row += [("reward", "float32", ()), ("flags", "uint8", ()), ("busy", "float64", ()), ("episode", "int64", ())]
    row += [(name, "int64", (1 + lessons if lessons else 0,)) for name in ("played", "lessons")]
    row += [("continuous", "float32", (spec.continuous_size,)), ("discrete", "int32", (len(spec.branches),))]
    start = 0
    for name, kind, shape in row:
        dtype = np.dtype(kind)
        yield name, dtype, (instances, *shape), start
        size = instances * prod(shape) * dtype.itemsize
        start += -(-size // _ALIGNMENT) * _ALIGNMENT
