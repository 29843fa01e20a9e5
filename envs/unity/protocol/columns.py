"""The agents of one message, read by column.

Protobuf merges a message that comes again where only one is expected: what is repeated in it is strung together. So the
list of a behavior's agents, read as if it were one agent all of whose fields are repeated, holds a list for each field.
That costs a fraction of visiting every agent. Fields that are zero are not sent, so a list may be shorter than N.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from envs.spec import Array


class MessageAgents:
    """The agents of one behavior id, one by one (`infos`) and, where they are many, by column."""

    def __init__(self, agents: Any) -> None:
        self.infos: Sequence[Any] = agents.value
        self.count = len(self.infos)
        self.columns = None
        if self.count >= _MANY:
            self.columns = read_columns(agents)
        else:
            self.infos = list(self.infos)  # quicker to go through again

    def has(self, name: str) -> bool:
        """Returns whether any agent has a number there that is not zero."""
        if self.columns is not None:
            return bool(getattr(self.columns, name))
        return any(getattr(info, name) for info in self.infos)

    def field(self, name: str) -> list[Any]:
        """Returns (N,) one number of each."""
        if self.columns is not None:
            values = getattr(self.columns, name)
            if len(values) == self.count:
                return values[:]  # type: ignore[no-any-return]
            if not values:
                return [0] * self.count
        return [getattr(info, name) for info in self.infos]

    def array(self, name: str, dtype: Any) -> Array:
        """Returns (N,) one number of each."""
        return np.array(self.field(name), dtype) if self.has(name) else np.zeros(self.count, dtype)

    def masks(self) -> list[bytes]:
        """Returns (N,) a byte for each entry, 1 = disabled; empty = nothing is."""
        if self.columns is not None and len(self.columns.action_mask) in (0, self.count):
            return self.columns.action_mask[:]  # type: ignore[no-any-return]
        return [bytes(info.action_mask) for info in self.infos]


def read_columns(agents: Any) -> Any:
    """Returns the columns of a raw `ListAgentInfoProto`: lists `id`, `reward`, …, as long as agents have the field.

    `action_mask` and `observations` are lists of bytes: packed bools, and serialized messages.
    """
    # Serialized by us, so that no agent holds a field twice, and equal observations are equal bytes.
    return _classes()["outstep.Agents"].FromString(agents.SerializeToString()).value


class FloatColumn:
    """Reads one observation of many agents that differ in their floats alone.

    Args:
        observation: a raw ObservationProto, to which others are compared.
        size: how many floats it has.
    """

    def __init__(self, observation: Any, size: int) -> None:
        marker = b"\xff" * 4 * size  # in no text, and no number that is not negative
        model = type(observation)()
        model.CopyFrom(observation)
        model.float_data.data = marker
        serialized = model.SerializeToString()
        self._length = len(serialized)
        self._start = serialized.index(marker)
        self._end = self._start + len(marker)
        self._around = np.frombuffer(serialized.replace(marker, b""), np.uint8)

    def read(self, observations: Sequence[bytes]) -> Array | None:
        """Returns (N, size) float32 of serialized observations (N,), or None if more than their floats differs."""
        joined = b"".join(observations)
        if len(joined) != len(observations) * self._length:
            return None
        table = np.frombuffer(joined, np.uint8).reshape(-1, self._length)
        around = np.concatenate([table[:, : self._start], table[:, self._end :]], axis=1)
        if not (around == self._around).all():
            return None
        return np.ascontiguousarray(table[:, self._start : self._end]).view("<f4")


_MANY = 8
"""Agents that are read faster by column."""


@cache
def _classes() -> Any:
    """By full name."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="outstep/columns.proto", package="outstep", syntax="proto3")
    agents = file.message_type.add(name="Agents")
    agents.field.add(name="value", number=1, label=1, type=kinds.TYPE_MESSAGE, type_name=".outstep.Agent")
    agent = file.message_type.add(name="Agent")
    for name, number, kind in (
        ("reward", 7, kinds.TYPE_FLOAT),
        ("done", 8, kinds.TYPE_BOOL),
        ("max_step_reached", 9, kinds.TYPE_BOOL),
        ("id", 10, kinds.TYPE_INT32),
        ("action_mask", 11, kinds.TYPE_BYTES),
        ("observations", 13, kinds.TYPE_BYTES),
        ("group_id", 14, kinds.TYPE_INT32),
        ("group_reward", 15, kinds.TYPE_FLOAT),
    ):
        agent.field.add(name=name, number=number, label=3, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    # All of them are kept: before protobuf 4.25 a class does not keep those of its fields alive.
    return message_factory.GetMessageClassesForFiles([file.name], pool)
