"""Saving and restoring rows in chunks, while a writer goes on.

A chunk holds a fixed range of numbers, all fields but `next`: once its range is full it never changes, so a later
snapshot need not write it again. Links change after their row is there, so the index holds the whole column `next`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from buffers.rows import Rows
from envs.spec import Array

CHUNK_BYTES = 2**24


class Snapshot:
    """The rows up to `head`, the newest at the moment of construction. Write the `chunks`, then the `index`."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.drawable = rows.drawable
        self.samples = rows.samples
        self.head = rows.head
        self.chunk_rows = max(1, CHUNK_BYTES // rows.layout.row_bytes)
        oldest = max(0, rows.overwritten) + 1
        self.indices = range((oldest - 1) // self.chunk_rows, -(-self.head // self.chunk_rows))
        """The chunks of this snapshot, unchanged ones included; no others are needed to restore it."""

    def chunks(self, since: int = 0) -> Iterator[tuple[int, dict[str, Array]]]:
        """Copies of the chunks that changed since an earlier snapshot whose head was `since`: index, arrays by field.

        Rows that the writer overwrites meanwhile may be torn; `index` leaves them out.
        """
        for index in self.indices:
            if (index + 1) * self.chunk_rows > since:
                numbers = _numbers(index, self.chunk_rows, self.head)
                yield index, dict(zip(_names(self.rows), self.rows.gather(numbers, _names(self.rows))))

    def index(self) -> dict[str, Array]:
        """Counters and links, for `restore`; to be taken after all chunks."""
        first = max(0, self.rows.overwritten) + 1
        (links,) = self.rows.gather(np.arange(first, self.head + 1, dtype=np.int64), ("next",))
        oldest = max(0, self.rows.overwritten) + 1
        links = links[oldest - first :]
        links[links > self.head] = -1
        counters = {
            "head": self.head,
            "oldest": oldest,
            "drawable": self.drawable,
            "samples": self.samples,
            "chunk_rows": self.chunk_rows,
        }
        return {"next": links, **{name: np.array(value, np.int64) for name, value in counters.items()}}


def restore(rows: Rows, index: Mapping[str, Array], chunks: Iterable[tuple[int, Mapping[str, Array]]]) -> None:
    """Fill empty `rows` with a snapshot. They may hold fewer than it has, which keeps the newest, or more.

    A row that linked beyond the snapshot is not linked; after `Writer.load_state` of that moment, its agent links it.
    """
    head, oldest = int(index["head"]), int(index["oldest"])
    first = max(oldest, head - rows.capacity + 1)
    for chunk, arrays in chunks:
        numbers = _numbers(chunk, int(index["chunk_rows"]), head)
        wanted = numbers >= first
        slots = rows.slots(numbers[wanted])
        for name in _names(rows):
            rows.fields[name][slots] = arrays[name][wanted]
    links = index["next"][first - oldest :]
    rows.fields["next"][rows.slots(np.arange(first, head + 1, dtype=np.int64))] = links
    missing = rows.slots(np.arange(max(1, head - rows.capacity + 1), first, dtype=np.int64))
    rows.fields["next"][missing] = -1
    rows.fields["final"][missing] = True
    held = int(np.count_nonzero(links >= 0))
    rows.restore_counters(head, int(index["drawable"]), held, int(index["samples"]))


def _numbers(index: int, chunk_rows: int, head: int) -> Array:
    return np.arange(index * chunk_rows + 1, min((index + 1) * chunk_rows, head) + 1, dtype=np.int64)


def _names(rows: Rows) -> tuple[str, ...]:
    return tuple(name for name in rows.fields if name != "next")
