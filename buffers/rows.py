"""Linked rows of experience in one block of memory that a writer and a reader share without locks.

Shapes: M rows of an append, K of them with a last observation; A mask entries, C continuous actions, D discrete
branches, R numbers of memory, G teammates that a row may name.

Every row has a number; numbers start at 1 and lie in slot `1 + (number - 1) % capacity`. Number 0 is the absorbing
row, in a slot of its own: all zeros, so that zero-filled memory is an empty buffer whose row 0 links to itself. `next`
of a row is the number of the same agent's next row: -1 until that is there (for ever, in a final row), 0 where the
episode terminated. A row can be drawn once `next` is not -1; `next` is always a later number, or 0.

Where agents have groups, `mates` of a row are the numbers of the rows of its teammates: of what each of them saw and
did when the agent decided. It is negative where a teammate had decided before and is still at that, and 0 where there
is none. Nothing is stored twice, but for a teammate that takes longer: what it saw and does stands in a final row, too.

The writer advances `reserved` before it overwrites slots, then fills rows, sets links, and advances `head` and counts.
A reader gathers first and then looks at `overwritten`: what it read of any later number is whole, and so are the rows
that its links led to. A counter or a link is 8 aligned bytes, which processors store whole, and x86 in program order;
elsewhere the many instructions between two numpy calls stand in for a fence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from envs.spec import Array, BehaviorSpec, UserError


@dataclass(frozen=True)
class Field:
    """One column of the rows: `shape` and numpy `dtype` of one row's entry."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row's entry."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Layout:
    """The fields of a behavior's rows."""

    spec: BehaviorSpec
    state_size: int = 0
    """Numbers of an actor's recurrent state; each row holds those before its step (the field `memory`)."""
    mates: int = 0
    """G: teammates that each row names at most (the field `mates`)."""
    positions: bool = False
    """Whether each row says how many steps of its episode came before (the field `position`), also without a state."""

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """All fields."""
        spec = self.spec
        return (
            *(Field(f"observation_{i}", o.shape, o.dtype) for i, o in enumerate(spec.observations)),
            Field("mask", (spec.mask_size,), "bool"),
            Field("continuous", (spec.continuous_size,), "float32"),
            Field("discrete", (len(spec.branches),), "int32"),
            Field("log_prob", (), "float32"),
            Field("version", (), "int64"),
            Field("agent", (), "int64"),
            Field("reward", (), "float32"),
            Field("terminated", (), "bool"),
            Field("truncated", (), "bool"),
            Field("final", (), "bool"),
            Field("number", (), "int64"),
            Field("next", (), "int64"),
            *((Field("memory", (self.state_size,), "float32"),) if self.state_size else ()),
            *((Field("position", (), "int32"),) if self.state_size or self.positions else ()),
            *((Field("mates", (self.mates,), "int64"),) if self.mates else ()),
        )

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return sum(field.row_bytes for field in self.fields)

    def memory_bytes(self, capacity: int) -> int:
        """Bytes of a block that holds `capacity` rows."""
        return _HEADER_BYTES + sum(_aligned((capacity + 1) * field.row_bytes) for field in self.fields)

    def capacity(self, memory_bytes: int) -> int:
        """Returns the rows that a block of `memory_bytes` holds; UserError if it is too small for any."""
        rows = (memory_bytes - _HEADER_BYTES - _ALIGNMENT * len(self.fields)) // self.row_bytes - 1
        if rows < _LEAST_CAPACITY:
            least = (self.memory_bytes(_LEAST_CAPACITY) + _ALIGNMENT * len(self.fields)) / 2**20
            raise UserError(
                f"{memory_bytes / 2**20:.3g} MiB are too few for a buffer of {self.spec.name!r}, whose rows take "
                f"{self.row_bytes} bytes: give it room for thousands of rows, {least:.2g} MiB at the very least"
            )
        return int(rows)


_NOTHING: Array = np.zeros(0)


class Rows:
    """The rows of one behavior as views on `memory`: `layout.memory_bytes(capacity)` writable bytes, at first zeros.

    Any number of processes may hold a `Rows` of the same block; one of them may have a `Writer`.
    """

    def __init__(self, layout: Layout, memory: Any, capacity: int) -> None:
        block = np.frombuffer(memory, dtype=np.uint8)
        needed = layout.memory_bytes(capacity)
        if block.nbytes < needed or block.ctypes.data % 8:
            raise ValueError(f"{capacity} rows need {needed} bytes aligned to 8; the block has {block.nbytes}")
        self.layout = layout
        self.capacity = capacity
        self.guard = min(capacity // 16, 1024)
        """Oldest rows that a reader leaves alone, because the writer may come upon them during a gather."""
        self.header: Array = np.ndarray(_COUNTERS, np.int64, block)
        self.fields: dict[str, Array] = {}
        """By field name, one array (capacity + 1, *shape), indexed by slot."""
        offset = _HEADER_BYTES
        for field in layout.fields:
            self.fields[field.name] = np.ndarray((capacity + 1, *field.shape), field.dtype, block, offset)
            offset += _aligned((capacity + 1) * field.row_bytes)

    @property
    def head(self) -> int:
        """Number of the newest row; 0 if there is none."""
        return int(self.header.item(_HEAD))

    @property
    def reserved(self) -> int:
        """Number up to which the writer may be filling slots now; equals `head` between appends."""
        return int(self.header.item(_RESERVED))

    @property
    def sampleable(self) -> int:
        """How many rows ever became sampleable: terminated, truncated, or linked to the agent's next row."""
        return int(self.header.item(_SAMPLEABLE))

    @property
    def samples(self) -> int:
        """How many rows were ever appended, final rows left out."""
        return int(self.header.item(_SAMPLES))

    @property
    def sampleable_now(self) -> int:
        """How many rows are sampleable and not overwritten."""
        return max(0, self.sampleable - int(self.header.item(_EVICTED)))

    @property
    def overwritten(self) -> int:
        """Rows up to this number are overwritten or about to be; negative before the first lap."""
        return self.reserved - self.capacity

    def slots(self, numbers: Array) -> Array:
        """Slots of rows. `fmod` keeps the sign, which puts number 0 into slot 0."""
        slots: Array = np.fmod(numbers - 1, self.capacity)
        slots += 1
        return slots

    def gather(self, numbers: Array, names: tuple[str, ...]) -> list[Array]:
        """Copies of the named fields at `numbers` (...), each (..., *shape). Look at `overwritten` afterwards."""
        return self.at(self.slots(numbers), names)

    def at(self, slots: Array, names: tuple[str, ...]) -> list[Array]:
        """The same of `slots` (...)."""
        return [self.fields[name].take(slots, axis=0, mode="clip") for name in names]

    def restore_counters(self, head: int, sampleable: int, sampleable_now: int, samples: int) -> None:
        """Set the counters of rows whose fields have been restored."""
        self.header[:] = (head, head, sampleable, sampleable - sampleable_now, samples, sampleable, samples)


class Writer:
    """Appends completed rows and links each agent's rows. One for each block, in one thread.

    Where an earlier writer died in an append, the new one goes on behind the rows that were not finished. It links no
    row of the earlier one.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        fields = rows.fields
        inputs = [fields[name] for name in observation_names(rows.layout.spec)]
        inputs += [fields["mask"], fields["continuous"], fields["discrete"]]
        inputs += [fields.get("memory", _NOTHING), fields.get("position", _NOTHING)]
        self._inputs = [(i, field) for i, field in enumerate(inputs) if field.size]
        self._last = np.zeros(64, np.int64)  # number of the last row, by agent; 0 = none
        self._recover()

    def append(
        self,
        agent: Array,
        observations: tuple[Array, ...],
        mask: Array,
        continuous: Array,
        discrete: Array,
        log_prob: Array,
        version: Array | int,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_observations: tuple[Array, ...],
        final_mask: Array,
        state: Array = _NOTHING,
        position: Array = _NOTHING,
        final_state: Array = _NOTHING,
        mates: Array = _NOTHING,
        final_mates: Array = _NOTHING,
    ) -> None:
        """Append M rows, of distinct agents: what each agent saw and did, and how that step closed.

        Args:
            agent: (M,) int64, dense numbers.
            observations: for each observation of the spec (M, *shape): what the agent acted on.
            mask: (M, A) bool.
            continuous: (M, C) float32.
            discrete: (M, D) int32.
            log_prob: (M,) float32, joint over all actions, of the policy that acted.
            version: (M,) int64, or one for all: version of the policy that acted.
            reward: (M,) float32.
            terminated: (M,) bool.
            truncated: (M,) bool, followed by a last observation; with `terminated` only where the agent's group goes on
                without it.
            final_observations: for each observation (K, *shape): the last of the truncated, kept as rows of their own.
            final_mask: (K, A) bool.
            state: (M, R) float32, before the step, if the layout has a state; else it and the next two are left out.
            position: (M,) steps of its episode that came before; also where the layout has `positions`.
            final_state: (K, R) float32, of the truncated after their last step.
            mates: (M, G) int64, if the layout has such; else it and the next are left out.
            final_mates: (K, G) int64, the teammates with which what follows the truncated goes on.
        """
        rows, count, head = self.rows, len(agent), self.rows.head
        if not count:
            return
        cut = int(np.count_nonzero(truncated))
        ending = int(np.count_nonzero(terminated & ~truncated if cut else terminated))
        first_final = head + 1 + count
        newest = head + count + cut
        self._reserve(head, newest)

        fields, index = rows.fields, self._span(head + 1, count)
        numbers = np.arange(head + 1, first_final, dtype=np.int64)
        values = (*observations, mask, continuous, discrete, state, position)
        for i, field in self._inputs:
            field[index] = values[i]
        fields["log_prob"][index] = log_prob
        fields["version"][index] = version
        fields["agent"][index] = agent
        fields["reward"][index] = reward
        fields["terminated"][index] = terminated
        fields["truncated"][index] = truncated
        fields["final"][index] = False
        fields["number"][index] = numbers
        fields["next"][index] = -1
        if rows.layout.mates:
            fields["mates"][index] = mates
        # Rows before the links to them, since a reader may follow a link at once.
        if cut:
            finals = self._append_final(first_final, agent[truncated], (*final_observations, final_mask), final_state)
            if rows.layout.mates:
                fields["mates"][finals] = final_mates
                fields["terminated"][finals] = terminated[truncated]  # the agent itself is gone
        if ending or cut:
            links = np.where(terminated, np.int64(0), np.int64(-1))
            links[truncated] = np.arange(first_final, newest + 1)
            fields["next"][index] = links
        linked = self._link(agent, numbers, newest)
        if ending or cut:
            self._last[agent[terminated | truncated]] = 0

        self._commit(newest, count, linked + ending + cut)

    def append_seen(
        self,
        agent: Array,
        observations: tuple[Array, ...],
        mask: Array,
        continuous: Array,
        discrete: Array,
        state: Array,
    ) -> Array:
        """Append what K agents see and do as final rows, which are no samples; returns their numbers (K,)."""
        head, count = self.rows.head, len(agent)
        self._reserve(head, head + count)
        self._append_final(head + 1, agent, (*observations, mask, continuous, discrete), state)
        self.rows.header[_HEAD] = head + count
        return np.arange(head + 1, head + count + 1, dtype=np.int64)

    def forget(self, agents: Array) -> None:
        """Leave the last rows of `agents` unlinked for ever, because their instance failed."""
        self._last[agents[agents < len(self._last)]] = 0

    def state(self) -> dict[str, Array]:
        """Number of the last row by agent, for `load_state`."""
        return {"last": self._last.copy()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on linking where the writer that gave `state` stood."""
        self._last = np.array(state["last"], np.int64)

    def _recover(self) -> None:
        """Finishes or gives up what an earlier writer has left half done, so that all counters are exact."""
        rows, header, links = self.rows, self.rows.header, self.rows.fields["next"]
        head, reserved = rows.head, rows.reserved
        if head < reserved:
            unfinished = rows.slots(np.arange(head + 1, reserved + 1, dtype=np.int64))
            links[unfinished] = -1
            rows.fields["final"][unfinished] = True  # neither drawn nor waited for
            # Links to them were set last, so what these lead to is whole: sequences end there as at a last observation.
            header[_NEXT_SAMPLEABLE] = header[_SAMPLEABLE] + np.count_nonzero(links > head)
            header[_NEXT_SAMPLES] = header[_SAMPLES]
            header[_HEAD] = reserved
        header[_SAMPLES], header[_SAMPLEABLE] = header[_NEXT_SAMPLES], header[_NEXT_SAMPLEABLE]
        held = rows.slots(np.arange(max(0, rows.overwritten) + 1, reserved + 1, dtype=np.int64))
        header[_EVICTED] = header[_SAMPLEABLE] - np.count_nonzero(links[held] >= 0)

    def _commit(self, newest: int, new_samples: int, new_sampleable: int) -> None:
        """Makes rows up to `newest` count, whose fields and links are there."""
        header = self.rows.header
        samples, sampleable = header[_SAMPLES] + new_samples, header[_SAMPLEABLE] + new_sampleable
        header[_NEXT_SAMPLES], header[_NEXT_SAMPLEABLE] = samples, sampleable
        header[_HEAD] = newest  # from here on the append counts, even if the writer dies
        header[_SAMPLES] = samples
        header[_SAMPLEABLE] = sampleable  # after `head`: a row that is counted can be found

    def _reserve(self, head: int, newest: int) -> None:
        """Announce that slots up to that of `newest` are overwritten, and count the sampleable rows lost thereby."""
        rows, header = self.rows, self.rows.header
        if newest - head > rows.capacity:
            raise ValueError(f"{newest - head} rows in one append; the buffer holds {rows.capacity}")
        header[_RESERVED] = newest
        lost = newest - max(head, rows.capacity)
        if lost > 0:
            old = rows.fields["next"][self._span(newest - lost + 1, lost)]
            header[_EVICTED] += np.count_nonzero(old >= 0)

    def _span(self, first: int, count: int) -> slice | Array:
        """Index of `count` rows from number `first` on: a slice, which numpy fills fastest, unless they wrap."""
        slot = 1 + (first - 1) % self.rows.capacity
        if slot + count <= self.rows.capacity + 1:
            return slice(slot, slot + count)
        return self.rows.slots(np.arange(first, first + count))

    def _link(self, agent: Array, numbers: Array, newest: int) -> int:
        """Link each agent's previous row, if the buffer still holds it, to the new one; return how many."""
        try:
            previous = self._last[agent]
        except IndexError:
            grown = np.zeros(max(2 * len(self._last), int(agent.max()) + 1), np.int64)
            grown[: len(self._last)] = self._last
            self._last = grown
            previous = grown[agent]
        self._last[agent] = numbers
        held = previous > max(newest - self.rows.capacity, 0)
        linked = int(np.count_nonzero(held))
        if linked < len(numbers):
            previous, numbers = previous[held], numbers[held]
        self.rows.fields["next"][self.rows.slots(previous)] = numbers
        return linked

    def _append_final(self, first: int, agent: Array, values: tuple[Array, ...], state: Array) -> slice | Array:
        """Write observations, masks, perhaps actions, and memories as rows `first` and on; returns their index."""
        fields = self.rows.fields
        index = self._span(first, len(agent))
        for field in fields.values():
            field[index] = 0
        for i, field in self._inputs:
            if i < len(values):
                field[index] = values[i]
        if self.rows.layout.state_size:
            fields["memory"][index] = state
        fields["agent"][index] = agent
        fields["final"][index] = True
        fields["number"][index] = np.arange(first, first + len(agent))
        fields["next"][index] = -1
        return index


def observation_names(spec: BehaviorSpec) -> tuple[str, ...]:
    """Names of the fields that hold the observations of `spec`, in its order."""
    return tuple(f"observation_{i}" for i in range(len(spec.observations)))


_ALIGNMENT = 64
_HEADER_BYTES = 64
_LEAST_CAPACITY = 16
_COUNTERS = 7
_HEAD, _RESERVED, _SAMPLEABLE, _EVICTED, _SAMPLES, _NEXT_SAMPLEABLE, _NEXT_SAMPLES = range(_COUNTERS)
"""The last two: what `sampleable` and `samples` are once `head` is that of the append under way."""


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
