"""Files that are whole or not there, also after a power cut: written beside their place, flushed, and renamed."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, data: bytes) -> None:
    """Writes a file that is whole or not there, or as it was, if the disk refuses by an OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".aside-{file.name}")
    try:
        aside.unlink(missing_ok=True)  # left by a kill, or a link that leads elsewhere
        write_flushed(aside, data)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    os.replace(aside, file)
    flush(file.parent)


def write_flushed(file: Path, data: bytes) -> None:
    """Writes a file, and returns once the disk has it."""
    with file.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())


def flush(path: Path) -> None:
    """Makes what a file holds last, or the names in a folder; Windows has no such call for either."""
    if os.name != "nt":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
