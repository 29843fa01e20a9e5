"""Finds observations that never change, such as those of a camera that does not render. Shapes: N rows."""

from __future__ import annotations

import numpy as np

from buffers.rows import Rows, observation_names
from envs.spec import Array


class ConstantObservations:
    """Looks at rows now and then, for observations that are the same in all of them.

    An observation that has changed once is not looked at again, so that this costs nothing but where one is constant.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._first: dict[str, tuple[str, Array]] = {}
        """By the buffer's name of each observation that has not changed: its own name, and the first one."""
        self._seen = 0

    def look(self) -> list[str]:
        """Returns the names of the observations that have not changed so far; none before there are rows."""
        rows, spec = self._rows, self._rows.layout.spec
        head, first = rows.head, self._seen == 0
        start = max(self._seen, rows.overwritten + rows.guard)
        if head <= start:
            return [name for name, _ in self._first.values()]
        numbers = np.unique(np.linspace(start + 1, head, ROWS).astype(np.int64))
        slots = rows.slots(numbers)
        if first:
            own = {name: each.name for name, each in zip(observation_names(spec), spec.observations)}
            self._first = {name: (own[name], rows.fields[name][slots[0]].copy()) for name in own}
        for name, (_, observation) in list(self._first.items()):
            size = max(1, observation.nbytes)
            chosen = slots[:: max(1, len(slots) * size // BYTES)]
            if (rows.fields[name][chosen] != observation).any():
                del self._first[name]
        self._seen = head
        return [name for name, _ in self._first.values()]


ROWS, BYTES = 1000, 2**24
"""How many rows are looked at at a time, at most, and about how many bytes of them."""
