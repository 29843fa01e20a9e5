"""The side channels of our player: engine settings and parameters come in, statistics go out."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Mapping
from uuid import UUID

from envs.spec import UserError

ENGINE = UUID("e951342c-4f7e-11ea-b238-784f4387d1f7").bytes_le
PARAMETERS = UUID("534c891e-810f-11ea-a9d0-822485860400").bytes_le
STATS = UUID("a1d8f7b7-cec8-50f9-b78b-d3e165a78520").bytes_le

_TIME_SCALE = 2
_FLOAT, _SAMPLER = 0, 1
_UNIFORM, _GAUSSIAN = 0, 1
_AVERAGE = 0


class Settings:
    """What a trainer has set in this player."""

    def __init__(self) -> None:
        self.time_scale = 1.0
        self._parameters: dict[str, Callable[[], float]] = {}

    def take(self, data: bytes) -> None:
        """Reads a message's side channel bytes, and skips what means nothing here; UserError if they are cut short."""
        try:
            for channel, content in _frames(data):
                if channel == ENGINE:
                    if struct.unpack_from("<i", content)[0] == _TIME_SCALE:
                        (self.time_scale,) = struct.unpack_from("<f", content, 4)
                elif channel == PARAMETERS:
                    (length,) = struct.unpack_from("<i", content)
                    (name,) = struct.unpack_from(f"{length}s", content, 4)
                    self._parameters[name.decode("ascii")] = _source(content, 4 + length)
        except (struct.error, UnicodeDecodeError) as error:
            raise UserError(f"The trainer's side channel data cannot be read ({error}): {data!r}.") from error

    def parameters(self) -> dict[str, float]:
        """Returns environment parameters for an episode: those with a sampler are drawn."""
        return {name: source() for name, source in self._parameters.items()}


def statistics(values: Mapping[str, float]) -> bytes:
    """Returns side channel bytes that report `values`, each to be averaged."""
    data = bytearray()
    for name, value in values.items():
        text = name.encode("ascii", "replace")
        content = struct.pack(f"<i{len(text)}sfi", len(text), text, value, _AVERAGE)
        data += STATS + struct.pack("<i", len(content)) + content
    return bytes(data)


def _frames(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<i", data, at + 16)
        begin = at + 20
        (content,) = struct.unpack_from(f"{length}s", data, begin)
        yield data[at : at + 16], content
        at = begin + length


def _source(content: bytes, at: int) -> Callable[[], float]:
    """Returns a parameter's value, or what draws it."""
    (kind,) = struct.unpack_from("<i", content, at)
    if kind == _FLOAT:
        (value,) = struct.unpack_from("<f", content, at + 4)
        return lambda: float(value)
    if kind != _SAMPLER:
        raise UserError(f"An environment parameter has the type {kind}; 0 (a float) and 1 (a sampler) are known.")
    seed, law = struct.unpack_from("<ii", content, at + 4)
    draw = random.Random(seed)
    if law in (_UNIFORM, _GAUSSIAN):
        first, second = struct.unpack_from("<ff", content, at + 12)
        drawn = draw.uniform if law == _UNIFORM else draw.gauss
        return lambda: drawn(first, second)
    (count,) = struct.unpack_from("<i", content, at + 12)
    bounds = struct.unpack_from(f"<{count}f", content, at + 16)
    ranges = list(zip(bounds[::2], bounds[1::2]))
    widths = [high - low for low, high in ranges]
    return lambda: draw.uniform(*draw.choices(ranges, widths)[0])
