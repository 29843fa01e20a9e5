"""Changes that make hostile inputs of valid ones, for fuzzing: of bytes, of protobuf's messages and of JSON."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

Field = tuple[int, int, int | bytes]
"""Of a message: number, wire type, and the value: an int of a varint, else bytes."""


def random_bytes(random: Random, most: int = 400) -> bytes:
    """Anything."""
    return random.randbytes(random.randint(0, most))


def changed_bytes(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to four changes: bits flipped, cut, spliced with one of `others`, numbers and lengths changed."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        at = random.randint(0, len(changed))
        end = min(len(changed), at + random.choice((1, 2, 4, 8, random.randint(0, 300))))
        kind = random.randrange(8)
        if kind == 0 and changed:
            changed[min(at, len(changed) - 1)] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at:end]
        elif kind == 3:
            changed[at:at] = changed[at:end] * random.choice((1, 1, 2, 30))
        elif kind == 4:
            changed[at:at] = random_bytes(random, 20)
        elif kind == 5:
            other = random.choice(others) if others else data
            start = random.randint(0, len(other))
            changed[at:] = other[start : start + random.randint(0, len(other))]
        elif kind == 6:
            number = _packed(random)
            changed[at : at + len(number)] = number
        else:
            number = _varint(random.choice(_NUMBERS))
            changed[at : at + random.choice((1, len(number)))] = number
    return bytes(changed)


def changed_message(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A message with one of its fields changed, at any depth, and lengths around it that are right."""
    fields = _fields(data)
    if not fields:
        return changed_bytes(random, data, others)
    i = random.randrange(len(fields))
    number, kind, value = fields[i]
    action = random.randrange(10)
    if action == 0:
        del fields[i]
    elif action == 1:
        fields[i:i] = [fields[i]] * random.choice((1, 1, 2, 40))
    elif action == 2:
        random.shuffle(fields)
    elif action == 3:
        fields[i] = random.randint(1, 20), kind, value
    elif action == 4 and others and (found := _fields(random.choice(others))):
        fields[i] = random.choice(found)
    elif isinstance(value, int):
        fields[i] = number, kind, random.choice(_NUMBERS)
    elif kind == _BYTES:
        fields[i] = number, kind, changed_message(random, value, others)
    else:
        fields[i] = number, kind, _packed(random, len(value))
    return b"".join(_encoded(each) for each in fields)


def changed_json(random: Random, data: bytes) -> bytes:
    """A text of JSON with one of its values or keys changed, at any depth."""
    content = json.loads(data)
    node: Any = content
    while isinstance(node, (dict, list)) and node:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = random.choice(keys)
        if not (isinstance(node[key], (dict, list)) and node[key]) or random.random() < _STOP:
            _change_entry(random, node, key)
            break
        node = node[key]
    return json.dumps(content).encode()


def delimited(message: bytes) -> bytes:
    """A message behind its length, a varint."""
    return _varint(len(message)) + message


_STOP = 0.2
"""How often a value that holds others is changed as a whole."""
_NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63, 2**64 - 1)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    10**6,
    2**31,
    2**62,
    -(2**63),
    10**40,
    1.5,
    float("nan"),
    float("inf"),
)
_VALUES += ("", "../x", "/dev/zero", "0", "-1", "x" * 300, [], {}, [[]], {"a": {}}, [0] * 100)
_FLOATS = (float("nan"), float("inf"), -float("inf"), 3.4e38, -0.0, 1e-45)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _change_entry(random: Random, node: Any, key: Any) -> None:
    if random.random() < _STOP:
        del node[key]
    elif isinstance(node, dict) and random.random() < _STOP:
        node[random.choice(("", "a", "../x", "7", "replay", "files"))] = node.pop(key)
    else:
        node[key] = random.choice(_VALUES)


def _packed(random: Random, size: int = 0) -> bytes:
    """A number of 1 to 8 bytes, or of `size`, that asks for trouble."""
    size = size or random.choice((1, 2, 4, 8))
    if size == _FLOAT_BYTES and random.random() < 1 / 2:
        return struct.pack("<f", random.choice(_FLOATS))
    number: int = random.choice(_NUMBERS) % 256**size
    return number.to_bytes(size, "little" if random.random() < 1 / 2 else "big")


_FLOAT_BYTES = 4


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def _encoded(field: Field) -> bytes:
    number, kind, value = field
    if isinstance(value, int):
        return _varint(number << 3 | kind) + _varint(value)
    return _varint(number << 3 | kind) + (delimited(value) if kind == _BYTES else value)


def _fields(data: bytes) -> list[Field] | None:
    """The fields of a message; None if it is none."""
    fields: list[Field] = []
    at = 0
    sizes = {_FIXED64: 8, _FIXED32: 4}
    try:
        while at < len(data):
            tag, at = _read_varint(data, at)
            kind = tag & 7
            value: int | bytes
            if kind == _VARINT:
                value, at = _read_varint(data, at)
            else:
                size, at = _read_varint(data, at) if kind == _BYTES else (sizes[kind], at)
                value, at = data[at : at + size], at + size
            if at > len(data) or not tag >> 3:
                return None
            fields.append((tag >> 3, kind, value))
    except (IndexError, KeyError):
        return None
    return fields


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
