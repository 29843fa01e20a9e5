"""Passes weights from the learner to the actors through shared memory: two slots, a version before and after each.

The writer fills the slot that readers do not use, and then makes it the current one. A reader that was overtaken while
it copied notices by the versions and copies again. Nobody waits.
"""

from __future__ import annotations

import numpy as np

from envs.spec import Array

_HEADER = 5  # int64: latest version and its slot; for each slot the version before and after its data
_ALIGN = 64


def weights_bytes(size: int) -> int:
    """Returns the bytes of two slots of `size` float32 numbers with their header, rounded up to a cache line."""
    return -(-(_HEADER * 8 + 2 * size * 4) // _ALIGN) * _ALIGN


class _Slots:
    def __init__(self, memory: memoryview, size: int) -> None:
        self._header: Array = np.frombuffer(memory, np.int64, _HEADER)
        self._before, self._after = self._header[1:3], self._header[3:5]
        self._data: Array = np.frombuffer(memory, np.float32, 2 * size, offset=_HEADER * 8).reshape(2, size)

    @property
    def latest(self) -> int:
        """The newest complete version; 0 before the first."""
        return int(self._header[0]) >> 1


class PolicyWriter(_Slots):
    """Publishes vectors of `size` float32 numbers in `memory` (`weights_bytes(size)` bytes, zeros at first)."""

    def publish(self, flat: Array, version: int) -> None:
        """Makes `flat` (size,) the newest, as `version` (greater than the one before)."""
        slot = 1 - (int(self._header[0]) & 1)
        self._before[slot] = version
        self._data[slot] = flat
        self._after[slot] = version
        self._header[0] = version << 1 | slot

    def published(self) -> tuple[Array, int]:
        """Returns a copy of the newest vector (size,), and its version; 0 before the first."""
        return self._data[int(self._header[0]) & 1].copy(), self.latest


class PolicyReader(_Slots):
    """Copies the newest published vector."""

    version = 0

    def refresh(self, flat: Array) -> bool:
        """Copies the newest vector into `flat` (size,) unless it holds that already; returns whether it copied."""
        while self.latest != self.version:
            newest = int(self._header[0])
            version, slot = newest >> 1, newest & 1
            if self._after[slot] != version:
                continue  # overtaken: there is a newer one by now
            flat[:] = self._data[slot]
            if self._before[slot] == version:
                self.version = version
                return True
        return False
