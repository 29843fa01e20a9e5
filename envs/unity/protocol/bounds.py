"""What one player may send. More fails that player alone, before work is done or memory is taken for it."""

from __future__ import annotations

from functools import cache
from typing import Any

from envs.unity.protocol.messages import raw_class

MOST_MESSAGE_BYTES = 256 * 2**20
MOST_AGENTS = 10_000
"""In one message, and alive at once in one behavior."""
MOST_BEHAVIORS = 64
"""Behavior ids, teams included."""
MOST_OBSERVATIONS = 256
"""Of one agent."""
MOST_STATISTICS = 10_000
"""Messages of side channels in one message of the player: most are statistics."""
MOST_STATISTIC_NAMES = 1_000
"""Each is a metric of its own."""
MOST_NAME = 1_000
"""Characters of the name of a behavior, an observation or a statistic."""
MOST_PARTS = 2**19
"""Fields in all of one message. Two bytes can be a whole agent, which takes a hundred once it is read."""


class PlayerFault(Exception):
    """One player sent what cannot be used (NaN, wrong shape, …): its instance is restarted, the run goes on."""


def check_count(what: str, count: int, most: int) -> None:
    """Raises PlayerFault if there are more than `most` of something that the player sent."""
    if count > most:
        raise PlayerFault(f"it sent {count:,} {what}, not at most {most:,}")


def check_name(what: str, name: str) -> None:
    """Raises PlayerFault if a name is too long."""
    if len(name) > MOST_NAME:
        raise PlayerFault(
            f"it sent the name of {what} {shown(name)} of {len(name):,} characters, not at most {MOST_NAME:,}"
        )


def shown(value: object, most: int = 100) -> str:
    """Returns what a player has made up as a message may show it: on one line, printable, and not for ever."""
    text = repr(value[: most + 1] if isinstance(value, (str, bytes, list, tuple)) else value)
    return text if len(text) <= most else f"{text[:most]}…"


def check_parts(content: bytes) -> None:
    """Refuses a serialized UnityMessageProto of too many agents or fields, without reading what is in them.

    Only large messages are looked at: what is in a small one takes less than a hundred times its size.

    Raises:
        PlayerFault: it has too many. Bytes that are no message are left to whoever reads them.
    """
    if len(content) <= _SMALL_BYTES:
        return
    left, small_left = MOST_PARTS, _MOST_PACKED_BYTES
    agents, observation = map(_fields_of, ("UnityRLOutputProto.ListAgentInfoProto", "ObservationProto"))
    stack: list[tuple[int, int, _Fields]] = [(0, len(content), _fields_of("UnityMessageProto"))]
    try:
        while stack:
            at, end, fields = stack.pop()
            if fields is agents:
                check_count("agents in one message", _count_fields(content, at, end), MOST_AGENTS)
            while at < end:
                left -= 1
                tag, at = content[at], at + 1
                if tag > 127:
                    tag, at = _varint(content, at - 1)
                size, at = _size(content, at, tag & 7)
                inner = fields.get(tag >> 3)
                if inner is None:
                    small_left -= size
                elif inner is not _BYTES and size > (4096 if inner is observation else 64):  # less takes little
                    stack.append((at, at + size, inner))
                at += size
                if left < 0 or small_left < 0:
                    what = f"{MOST_PARTS:,} fields" if left < 0 else f"{_MOST_PACKED_BYTES:,} bytes of lists and names"
                    raise PlayerFault(f"it sent a message of {len(content):,} bytes with more than {what}")
    except IndexError:  # cut off
        return


_SMALL_BYTES = 2**21
_MOST_PACKED_BYTES = 2**25
_MOST_COUNTED = 10**6
"""More agents are not counted."""

_Fields = dict[int, Any]
"""By field number: the same of a message, or `_BYTES` for bytes, which are read as they are. Others are left out."""
_BYTES: _Fields = {}


@cache
def _fields_of(name: str) -> _Fields:
    fields: _Fields = {}
    for field in raw_class(name).DESCRIPTOR.fields:
        if field.message_type is not None:
            entry = field.message_type.GetOptions().map_entry
            value = field.message_type.fields_by_name["value"].message_type if entry else field.message_type
            inner = _fields_of(value.full_name.partition(".")[2])
            fields[field.number] = {2: inner} if entry else inner
        elif field.type == field.TYPE_BYTES:
            fields[field.number] = _BYTES
    return fields


def _count_fields(content: bytes, at: int, end: int) -> int:
    count = 0
    while at < end and count < _MOST_COUNTED:
        tag, at = _varint(content, at)
        size, at = _size(content, at, tag & 7)
        at += size
        count += 1
    return count


def _size(content: bytes, at: int, wire_type: int) -> tuple[int, int]:
    """Returns how many bytes a field's value has, and where it begins: behind its length, if it has one."""
    if wire_type == 2:
        size = content[at]
        return (size, at + 1) if size < 128 else _varint(content, at)
    if wire_type == 0:
        return _varint(content, at)[1] - at, at
    return {1: 8, 5: 4}.get(wire_type, 0), at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Returns a number, and where it ends."""
    value = content[at]
    at += 1
    if value < 128:
        return value, at
    value &= 127
    for shift in range(7, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
    return value, at
