"""What passes between the learner's host and one that collects: requests one way, replies the other.

A message is 8 bytes with two lengths (little-endian uint32: of its JSON and of all the rest), the JSON, and parts, each
as many bytes as the JSON says. All begin at a multiple of 8. Nothing is pickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from envs.spec import Lessons, Statistic
from trainer.telemetry.statistics import Episode, Statistics

MOST_BYTES = 2**29
"""Of a message: one observation may have 256 MiB."""
HEADER = struct.Struct("<II")
_ALIGN = 8
_encoded = json.JSONEncoder(separators=(",", ":")).encode


class Part(NamedTuple):
    """Bytes of a message, and what they are."""

    kind: str
    """`rows` or `weights`, of a behavior; `picture`; `log`, of a player."""
    name: str
    """Of the behavior, or of the file."""
    number: int
    """Of the first row, or the version of the weights; for files 0."""
    length: int
    """Rows, or numbers; for files bytes."""
    data: memoryview | bytes | bytearray


@dataclass
class Message:
    """One message; `content` is anything that JSON can hold."""

    content: dict[str, Any]
    parts: list[Part] = field(default_factory=list)

    def encode(self) -> list[memoryview | bytes | bytearray]:
        """Returns its bytes in pieces, none of them copied. ValueError if it is too long to be sent."""
        heads = [(each.kind, each.name, each.number, each.length, len(each.data)) for each in self.parts]
        text = _encoded([self.content, heads]).encode()
        text += b" " * (-len(text) % _ALIGN)
        pieces: list[memoryview | bytes | bytearray] = []
        for each in self.parts:
            pieces += [each.data, bytes(-len(each.data) % _ALIGN)]
        rest = sum(map(len, pieces))
        if len(text) + rest > MOST_BYTES:
            raise ValueError(f"a message of {len(text) + rest:,} bytes, more than {MOST_BYTES:,}")
        return [HEADER.pack(len(text), rest) + text, *pieces]

    @staticmethod
    def size(header: bytes | bytearray | memoryview) -> int:
        """Returns the bytes that follow a message's first 8; ValueError if there are more than a message may have."""
        size: int = sum(HEADER.unpack(header))
        if size > MOST_BYTES:
            raise ValueError(f"a message of {size:,} bytes, more than {MOST_BYTES:,}")
        return size

    @staticmethod
    def decode(header: bytes | bytearray | memoryview, body: memoryview) -> Message:
        """Returns the message; its parts are views on `body`. ValueError if it is none."""
        length = HEADER.unpack(header)[0]
        try:
            content, heads = json.loads(bytes(body[:length]))
            parts, offset = [], length
            for kind, name, number, count, size in heads:
                if not all(type(each) is int for each in (number, count, size)) or min(count, size) < 0:
                    raise ValueError("lengths that are none")
                if offset + size > len(body):
                    raise ValueError("parts beyond its end")
                parts.append(Part(str(kind), str(name), number, count, body[offset : offset + size]))
                offset += size + -size % _ALIGN
            if not isinstance(content, dict):
                raise ValueError("no content")
            return Message(content, parts)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"a damaged message: {error}") from error


def episode_content(episodes: Iterable[Episode]) -> list[Any]:
    """Returns episodes as JSON can hold them."""
    return [[*each[:5], None if each.lessons is None else each.lessons.row] for each in episodes]


def read_episodes(content: Iterable[Any], first_instance: int, samples: int) -> list[Episode]:
    """Returns the episodes of a host whose instances count from `first_instance` on, as the run has `samples`."""
    return [
        Episode(
            first_instance + int(instance),
            samples,
            float(reward),
            int(length),
            {str(name): float(value) for name, value in metrics.items()},
            None if lessons is None else Lessons(int(lessons[0]), tuple(map(int, lessons[1:]))),
        )
        for instance, _, reward, length, metrics, lessons in content
    ]


def statistics_content(statistics: Statistics) -> dict[str, Any]:
    """Returns statistics as JSON can hold them."""
    arrays = {name: getattr(statistics, name).tolist() for name in ("samples", "spans", "busy")}
    return {**arrays, "elapsed": statistics.elapsed, "seconds": statistics.seconds, "layout": statistics.layout}


def read_game_statistics(content: Sequence[Sequence[Any]]) -> list[Statistic]:
    """Returns the numbers that games of a host have reported."""
    return [
        Statistic(
            str(key),
            float(value),
            str(aggregation),
            None if lessons is None else Lessons(int(lessons[0]), tuple(lessons[1])),
        )
        for key, value, aggregation, lessons in content
    ]


def read_statistics(content: Mapping[str, Any], instances: int) -> Statistics:
    """Returns the statistics of a host with so many instances; ValueError if they are of another number."""
    samples = np.asarray(content["samples"], np.int64)
    spans, busy = (np.asarray(content[name], np.float64) for name in ("spans", "busy"))
    if not samples.shape == spans.shape == busy.shape == (instances,):
        raise ValueError(f"statistics of other than {instances} instances")
    seconds = {str(name): float(value) for name, value in content["seconds"].items()}
    return Statistics(samples, spans, busy, float(content["elapsed"]), seconds, str(content["layout"]))
