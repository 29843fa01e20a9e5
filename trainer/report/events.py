"""The scalars in TensorBoard's events, read within bounds: anybody may have written the files.

A file of events is records, each `length (8 bytes) | checksum (4) | event | checksum (4)`, little-endian. Whatever is
damaged ends its file, as does what a run was killed while it wrote.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_MOST_BYTES = 2**29
"""Of what is read of all files."""
_MOST_RECORD_BYTES = 2**24
_MOST_NAMES = 10_000
_MOST_POINTS = 2**24
_MOST_STEP, _MOST_SECONDS = 2**53, 2.0**40


class Events(NamedTuple):
    """What is in the files."""

    points: dict[str, tuple[array[int], array[float]]]
    """By tag: steps and values, as they were written; those that a resume has undone are left out."""
    times: list[float]
    """Seconds since 1970: of the first event, and of each file's last scalar."""


def read_events(folder: Path) -> Events:
    """Reads all files of events in a folder, the oldest first."""
    found = Events({}, [])
    left, points = _MOST_BYTES, 0
    for path in sorted(each for each in folder.glob("events.out.tfevents.*") if each.is_file()):
        last = None
        for event, size in _events(path, left):
            left -= size
            if not (0 <= event.step < _MOST_STEP and 0 <= event.wall_time < _MOST_SECONDS):
                continue
            if not found.times:
                found.times.append(event.wall_time)
            if event.session_log.status == event.session_log.START:
                _undo(found, event.step)
            for value in event.summary.value:
                if points < _MOST_POINTS and value.HasField("simple_value") and math.isfinite(value.simple_value):
                    if value.tag not in found.points and len(found.points) < _MOST_NAMES:
                        found.points[value.tag] = array("q"), array("d")
                    if value.tag in found.points:
                        steps, values = found.points[value.tag]
                        steps.append(event.step)
                        values.append(value.simple_value)
                        points, last = points + 1, event.wall_time
        found.times.extend([] if last is None else [last])
    return found


def _events(path: Path, most: int) -> Iterator[tuple[Any, int]]:
    """Yields the events of the first `most` bytes of a file, each with its size, up to what is none."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    try:
        with path.open("rb") as file:
            while len(head := file.read(12)) == 12:
                (size,) = struct.unpack("<Q", head[:8])
                if size > min(most, _MOST_RECORD_BYTES):
                    return
                content = file.read(size + 4)[:size]
                yield Event.FromString(content), 16 + size
                most -= 16 + size
    except (OSError, DecodeError):
        return


def _undo(found: Events, step: int) -> None:
    """Takes away what a resumed part of a run writes again: all from a step on."""
    for tag, (steps, values) in found.points.items():
        kept = [place for place, each in enumerate(steps) if each < step]
        if len(kept) < len(steps):
            found.points[tag] = array("q", (steps[i] for i in kept)), array("d", (values[i] for i in kept))
