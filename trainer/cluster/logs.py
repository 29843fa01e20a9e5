"""What players of a host log: read there bit by bit, and written into the run's folder on the learner's host."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from envs.process.player_launcher import MOST_LOG_BYTES
from trainer.cluster.messages import Part

_LOOK_SECONDS = 1.0
_READ_BYTES = 2**18
"""Of all files together, each time."""
_NAME = re.compile(r"\w[\w.-]{0,99}")


class LogReader:
    """Reads what was added to the files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, int] = {}
        self._looked = 0.0

    def read(self) -> list[Part]:
        """Returns what is new, at most once a second and a bounded amount of it; the rest follows."""
        now = time.monotonic()
        if now < self._looked + _LOOK_SECONDS:
            return []
        self._looked, room, parts = now, _READ_BYTES, []
        for file, size in self._files():
            begin = self._read.get(file.name, 0)
            if size < begin:  # it was cut
                begin = 0
            with contextlib.suppress(OSError), file.open("rb") as opened:
                opened.seek(begin)
                data = opened.read(min(room, size - begin))
                self._read[file.name] = begin + len(data)
                room -= len(data)
                if data:
                    parts.append(Part("log", file.name, 0, len(data), data))
        return parts

    def _files(self) -> Iterator[tuple[Path, int]]:
        with contextlib.suppress(OSError):
            for file in sorted(self._folder.iterdir()):
                if _NAME.fullmatch(file.name) and file.is_file():
                    yield file, file.stat().st_size


def write_log(folder: Path, name: str, data: bytes | bytearray | memoryview) -> None:
    """Adds `data` to a log, which begins anew once it is too long. ValueError if the name is none of a log."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a log's name {name!r}")
    with contextlib.suppress(OSError):  # a full disk ends no run
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / name
        grown = file.exists() and file.stat().st_size + len(data) > MOST_LOG_BYTES
        with file.open("wb" if grown else "ab") as opened:
            opened.write(data)
