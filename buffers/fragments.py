"""Fragments: rows of one collector in order, which are appended in bulk to the block of another process.

A fragment is its first row's number in the collector's own block, and the rows' fields as columns, one behind another.
Links do not travel: they are made when rows arrive. Within what one collector has sent without a gap, a row goes on
from its agent's row before if its `position` is the next one. Where numbers leave something out, nothing is linked
across; rows that have come already are left out.

Shapes: N rows of a fragment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from buffers.rows import Field, Layout, Rows, Writer
from envs.spec import Array

LARGEST_AGENT = 2**20 - 1
"""The largest number of an agent that a collector may have. Those of open agents are dense, so it is never near."""
FRAGMENT_BYTES = 2**20
"""A fragment has no more than that, where it holds several rows."""
WINDOW = 8
"""Fragments that a collector may be ahead of what was taken."""
_OF_THE_BLOCK = ("number", "next")
"""Fields that a row gets from the block in which it lies."""
_FINAL, _NOTHING = -1, -2
"""What may follow a row, where it is not a `position`: the final row, or nothing."""


class Fragment(NamedTuple):
    """Rows of one collector in order."""

    first: int
    """Number of the first row in the collector's own block."""
    length: int
    """How many they are: N."""
    data: memoryview | bytes | bytearray
    """N rows of `FragmentLayout`."""


class FragmentLayout:
    """Where the columns of a fragment lie: those of larger items first, so that all are aligned."""

    def __init__(self, layout: Layout) -> None:
        """`layout`: of the collector's own rows, which have to tell their positions. ValueError if they do not."""
        kept = [each for each in layout.fields if each.name not in _OF_THE_BLOCK and each.row_bytes]
        if "position" not in [each.name for each in kept]:
            raise ValueError("rows without positions cannot be linked on arrival")
        self.fields: tuple[Field, ...] = tuple(sorted(kept, key=lambda each: -np.dtype(each.dtype).itemsize))
        self.row_bytes = sum(each.row_bytes for each in kept)

    def columns(self, count: int, data: memoryview | bytes | bytearray) -> dict[str, Array]:
        """Returns views (N, *shape) on `data`, by field; truth values as bytes. ValueError if the size is another."""
        if count < 1 or len(data) != count * self.row_bytes:
            raise ValueError(f"{count} rows in {len(data)} bytes, where a row has {self.row_bytes}")
        columns, offset = {}, 0
        for each in self.fields:
            dtype = "uint8" if each.dtype == "bool" else each.dtype
            columns[each.name] = np.ndarray((count, *each.shape), dtype, data, offset)
            offset += count * each.row_bytes
        return columns


def fragment_rows(layout: Layout, wanted: int) -> int:
    """Returns how many rows a fragment has: those `wanted`, or as many as `FRAGMENT_BYTES` hold."""
    return max(1, min(wanted, FRAGMENT_BYTES // layout.row_bytes))


def window_capacity(layout: Layout, wanted: int, at_once: int) -> int:
    """Returns how many rows a collector's own block needs: two windows, and some appends of `at_once` agents."""
    return 2 * WINDOW * fragment_rows(layout, wanted) + 16 + 8 * at_once


class FragmentReader:
    """Takes the rows of a collector's block as fragments, while that goes on writing."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.layout = FragmentLayout(rows.layout)
        self.lost = 0
        """Rows that were overwritten before they were taken."""
        self._cursor = 0
        self._taken = 0
        self._skipped: list[tuple[int, int]] = []

    @property
    def waiting(self) -> int:
        """Samples that are there and were not taken."""
        return self.rows.samples - self._taken

    def skip(self, first: int, last: int) -> None:
        """Leaves rows out that a collector left half done when it died: they are no rows."""
        if first <= last:
            self._skipped.append((first, last))

    def take(self, limit: int) -> Fragment | None:
        """Returns the oldest rows that were not taken, at most `limit`; None if there are none."""
        rows = self.rows
        while True:
            first, last = self._next_range()
            oldest = rows.overwritten + 1
            if first < oldest:
                self.lost += min(oldest, last + 1) - first
                self._cursor = min(oldest - 1, last)
                left = rows.slots(np.arange(self._cursor + 1, rows.head + 1, dtype=np.int64))
                self._taken = rows.samples - int(np.count_nonzero(~rows.fields["final"][left]))
                continue
            count = min(limit, last - first + 1)
            if count <= 0:
                return None
            data = bytearray(count * self.layout.row_bytes)
            slots = rows.slots(np.arange(first, first + count, dtype=np.int64))
            columns = self.layout.columns(count, data)
            for name, column in columns.items():
                source = rows.fields[name]
                source.view(column.dtype).take(slots, axis=0, out=column, mode="clip")
            if first > rows.overwritten:  # else the writer has come upon them meanwhile
                break
        self._cursor = first + count - 1
        self._taken += count - int(np.count_nonzero(columns["final"]))
        return Fragment(first, count, data)

    def _next_range(self) -> tuple[int, int]:
        """Returns the numbers of the first and the last row that may be taken together."""
        head = self.rows.head
        for first, last in self._skipped:
            if self._cursor + 1 < first:
                return self._cursor + 1, first - 1
            self._cursor = max(self._cursor, last)
        self._skipped = []
        return self._cursor + 1, head


@dataclass
class _Source:
    """What is known of one collector: by agent, the number of its last row (0: none), and what may follow that."""

    expected: int = 0
    """The number of the row that comes next; 0 where anything may."""
    last: Array = field(default_factory=lambda: np.zeros(64, np.int64))
    follows: Array = field(default_factory=lambda: np.full(64, _NOTHING, np.int64))

    def grow(self, agents: int) -> None:
        more = max(agents, 2 * len(self.last)) - len(self.last)
        self.last = np.concatenate((self.last, np.zeros(more, np.int64)))
        self.follows = np.concatenate((self.follows, np.full(more, _NOTHING, np.int64)))


class FragmentWriter(Writer):
    """Appends fragments of several collectors. The one writer of its block; `append` is not for it.

    An agent's number is its own times the number of collectors, plus that of its collector: so none collide.
    """

    def __init__(self, rows: Rows, sources: int) -> None:
        """`sources`: collectors, numbered from 0 on."""
        super().__init__(rows)
        self._sources = [_Source() for _ in range(sources)]
        layout = rows.layout
        self.layout = FragmentLayout(Layout(layout.spec, layout.state_size, positions=True))
        self._copied = [each for each in self.layout.fields if each.name in rows.fields and each.name != "agent"]

    def forget_source(self, source: int) -> None:
        """Links no row of a collector to what has come from it: another one takes its place."""
        self._sources[source] = _Source()

    def add(self, source: int, fragment: Fragment) -> int:
        """Appends the rows of a fragment that have not come before, and links them.

        Returns:
            How many rows were lost on the way just before it.

        Raises:
            ValueError: it is damaged: the size does not fit, or numbers and marks that no row has. Nothing was
                appended.
        """
        rows, here = self.rows, self._sources[source]
        if fragment.first < 1 or fragment.length > rows.capacity:
            raise ValueError(f"{fragment.length} rows from number {fragment.first} on; the buffer has {rows.capacity}")
        columns = self.layout.columns(fragment.length, fragment.data)
        self._check(columns)
        lost = fragment.first - here.expected if here.expected else 0
        if lost > 0:
            self.forget_source(source)
            here = self._sources[source]
        elif lost < 0:
            columns = {name: column[-lost:] for name, column in columns.items()}
        if not (count := len(columns["agent"])):
            return 0
        self._write(source, here, columns, count)
        here.expected = fragment.first + fragment.length
        return max(lost, 0)

    def _check(self, columns: dict[str, Array]) -> None:
        agent, ends = columns["agent"], np.array([columns[name] for name in ("terminated", "truncated", "final")])
        if agent.min() < 0 or agent.max() > LARGEST_AGENT:
            raise ValueError(f"agents {agent.min()} to {agent.max()}, not 0 to {LARGEST_AGENT}")
        if ends.max() > 1 or ends.sum(axis=0).max() > 1 or columns["position"].min() < 0:
            raise ValueError("rows with several ends, or before their episode")

    def _write(self, source: int, here: _Source, columns: dict[str, Array], count: int) -> None:
        rows, head = self.rows, self.rows.head
        newest = head + count
        agent, terminated, final = columns["agent"], columns["terminated"] != 0, columns["final"] != 0
        numbers = np.arange(head + 1, newest + 1, dtype=np.int64)
        position = columns["position"].astype(np.int64)
        begins_with = np.where(final, _FINAL, position)
        goes_on_with = np.where(columns["truncated"] != 0, _FINAL, position + 1)
        goes_on_with[terminated | final] = _NOTHING

        order = np.argsort(agent, kind="stable")
        sorted_agent, sorted_numbers, before = agent[order], numbers[order], begins_with[order]
        same = sorted_agent[1:] == sorted_agent[:-1]
        linked = same & (before[1:] == goes_on_with[order[:-1]])
        links = np.full(count, -1, np.int64)
        links[order[:-1][linked]] = sorted_numbers[1:][linked]
        links[terminated] = 0
        bounds = np.ones(count + 1, bool)
        np.logical_not(same, out=bounds[1:-1])
        (firsts,), (lasts,) = bounds[:-1].nonzero(), bounds[1:].nonzero()
        agents = sorted_agent[firsts]
        if agents[-1] >= len(here.last):
            here.grow(int(agents[-1]) + 1)
        previous = here.last[agents]
        held = (previous > max(newest - rows.capacity, 0)) & (here.follows[agents] == before[firsts])

        self._reserve(head, newest)
        index = self._span(head + 1, count)
        for each in self._copied:
            column = columns[each.name]
            rows.fields[each.name][index] = column != 0 if each.dtype == "bool" else column
        rows.fields["agent"][index] = agent * len(self._sources) + source
        rows.fields["number"][index] = numbers
        rows.fields["next"][index] = links
        # Rows before the links to them, since a reader may follow a link at once.
        rows.fields["next"][rows.slots(previous[held])] = sorted_numbers[firsts][held]
        here.last[agents], here.follows[agents] = sorted_numbers[lasts], goes_on_with[order[lasts]]
        new_sampleable = np.count_nonzero(held) + np.count_nonzero(linked) + np.count_nonzero(terminated)
        self._commit(newest, count - int(np.count_nonzero(final)), int(new_sampleable))
