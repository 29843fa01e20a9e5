"""Snapshots of a policy, which the learner leaves in shared memory for the collector's opponents.

A snapshot has a number, from 1 on, written before and after its numbers are: a reader that was overtaken notices. What
the collector holds is not written over, so a match ends as it began, also across a checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from envs.spec import Array
from trainer.selfplay.settings import SelfPlayConfig

_ALIGN = 64


def snapshots_bytes(size: int, settings: SelfPlayConfig) -> int:
    """Returns the bytes that snapshots of `size` float32 numbers take; 0 without self-play."""
    if not settings.enabled:
        return 0
    return -(-(8 * (2 * _slots(settings) + settings.opponents) + 4 * size * _slots(settings)) // _ALIGN) * _ALIGN


def _slots(settings: SelfPlayConfig) -> int:
    """Returns for how many there is room: those of the window, those that act, and the next one."""
    return settings.window + settings.opponents + 1


class Snapshots:
    """Snapshots of `size` float32 numbers in `memory` (`snapshots_bytes`, zeros at first)."""

    def __init__(self, memory: memoryview, size: int, settings: SelfPlayConfig) -> None:
        slots = _slots(settings)
        header: Array = np.frombuffer(memory, np.int64, 2 * slots + settings.opponents)
        self._before, self._after, self.held = header[:slots], header[slots : 2 * slots], header[2 * slots :]
        """`held` (opponents,): numbers of those that act, 0 for none. The collector writes it."""
        offset = 8 * len(header)
        self._data: Array = np.frombuffer(memory, np.float32, slots * size, offset=offset).reshape(slots, size)

    def add(self, number: int, flat: Array, window: Collection[int]) -> None:
        """Writes a snapshot (size,) over one that is neither in the `window` nor held."""
        kept = {*window, *self.held.tolist()} - {0}
        slot = next(i for i, there in enumerate(self._after.tolist()) if there not in kept)
        self._after[slot] = 0
        self._before[slot] = number
        self._data[slot] = flat
        self._after[slot] = number

    def copy_to(self, flat: Array, number: int) -> bool:
        """Copies a snapshot into `flat` (size,); returns False if it is there no more."""
        slots = np.flatnonzero(self._after == number)
        if not number or not len(slots):
            return False
        flat[:] = self._data[slots[0]]
        return bool(self._before[slots[0]] == self._after[slots[0]] == number)

    def kept(self, window: Collection[int]) -> dict[int, Array]:
        """Returns copies of those in the `window` and those that are held, by number."""
        wanted = {*window, *self.held.tolist()} - {0}
        return {n: self._data[i].copy() for i, n in enumerate(self._after.tolist()) if n in wanted}
