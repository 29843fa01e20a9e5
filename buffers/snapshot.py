"""Saving and restoring rows in chunks, while a writer goes on.

A chunk holds a fixed range of numbers, all fields but `next`: once its range is full it never changes, so a later
snapshot need not write it again. Links change after their row is there, so the index holds the whole column `next`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from buffers.rows import Rows
from envs.spec import Array, UserError

CHUNK_BYTES = 2**24


class Snapshot:
    """The rows up to `head`, the newest at the moment of construction. Write the `chunks`, then the `index`."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.sampleable = rows.sampleable
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
        oldest = min(max(0, self.rows.overwritten), self.head) + 1  # all may be overwritten meanwhile
        links = links[oldest - first :]
        links[links > self.head] = -1
        values = (self.head, oldest, self.sampleable, self.samples, self.chunk_rows)
        return {"next": links, **{name: np.array(value, np.int64) for name, value in zip(_COUNTERS, values)}}


def restore(rows: Rows, index: Mapping[str, Array], chunks: Iterable[tuple[int, Mapping[str, Array]]]) -> None:
    """Fill empty `rows` with a snapshot. They may hold fewer than it has, which keeps the newest, or more.

    A row that linked beyond the snapshot is not linked; after `Writer.load_state` of that moment, its agent links it.
    Raises UserError if it is no snapshot of such rows.
    """
    head, oldest = _check_index(index)
    first, held = max(oldest, head - rows.capacity + 1), 0
    for chunk, arrays in chunks:
        numbers = _check_chunk(rows, chunk, int(index["chunk_rows"]), head, arrays)
        wanted = numbers >= first
        slots = rows.slots(numbers[wanted])
        for name in _names(rows):
            rows.fields[name][slots] = arrays[name][wanted]
        held += len(slots)
    if held < head - first + 1:
        raise UserError(f"of the rows {first} to {head} that were saved, {held} are there")
    links = index["next"][first - oldest :]
    rows.fields["next"][rows.slots(np.arange(first, head + 1, dtype=np.int64))] = links
    missing = rows.slots(np.arange(max(1, head - rows.capacity + 1), first, dtype=np.int64))
    rows.fields["next"][missing] = -1
    rows.fields["final"][missing] = True
    sampleable_now = int(np.count_nonzero(links >= 0))
    rows.restore_counters(head, int(index["drawable"]), sampleable_now, int(index["samples"]))


def _check_index(index: Mapping[str, Array]) -> tuple[int, int]:
    """Numbers of the newest row and the oldest; UserError if the links do not fit them."""
    missing = {*_COUNTERS, "next"} - index.keys()
    if missing or any(index[name].size != 1 or index[name].dtype != np.int64 for name in _COUNTERS):
        raise UserError(f"the index of the rows that were saved lacks {', '.join(sorted(missing)) or 'counters'}")
    head, oldest, links = int(index["head"]), int(index["oldest"]), index["next"]
    if oldest < 1 or links.dtype != np.int64 or links.shape != (head + 1 - oldest,):
        raise UserError(f"the rows {oldest} to {head} that were saved have {links.dtype}{list(links.shape)} links")
    after = np.arange(oldest, head + 1) < links
    if not (after & (links <= head) | (links == 0) | (links == -1)).all():
        raise UserError(f"the rows {oldest} to {head} that were saved have links to rows that cannot follow them")
    return head, oldest


def _check_chunk(rows: Rows, chunk: int, chunk_rows: int, head: int, arrays: Mapping[str, Array]) -> Array:
    """Numbers of a chunk's rows; UserError if they are not such as `rows` holds."""
    count = max(0, min(chunk_rows, head - chunk * chunk_rows)) if chunk >= 0 else 0
    for name in _names(rows):
        field, saved = rows.fields[name], arrays.get(name)
        if saved is None or saved.dtype != field.dtype or saved.shape != (count, *field.shape[1:]):
            seen = "are not there" if saved is None else f"are {saved.dtype}{list(saved.shape)}"
            raise UserError(
                f"chunk {chunk} of the rows that were saved does not fit: its values of {name!r} {seen}, "
                f"not {field.dtype}{[count, *field.shape[1:]]}"
            )
    return _numbers(chunk, chunk_rows, head)


def _numbers(index: int, chunk_rows: int, head: int) -> Array:
    return np.arange(index * chunk_rows + 1, min((index + 1) * chunk_rows, head) + 1, dtype=np.int64)


def _names(rows: Rows) -> tuple[str, ...]:
    return tuple(name for name in rows.fields if name != "next")


_COUNTERS = ("head", "oldest", "drawable", "samples", "chunk_rows")
