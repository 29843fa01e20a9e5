"""Memory of a run, added up before the first step: one that cannot fit is refused at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from envs.spec import UserError


def reckon(wanted: Sequence[tuple[str, int]]) -> int:
    """Returns the bytes that a run's processes will share, (name, bytes) each; UserError if they are not available."""
    total = sum(size for _, size in wanted)
    available = available_shared()
    if total > available:
        parts = ", ".join(f"{name} {_words(size)}" for name, size in wanted)
        raise UserError(
            f"the run wants {_words(total)} of memory ({parts}), but {_words(available)} are available: "
            "ask for smaller buffers, or free memory (in a container also docker --shm-size)"
        )
    return total


def check_shared(size: int, what: str) -> None:
    """Refuses shared memory that does not fit, by a UserError: writing to it would end this process without a word."""
    room = available_shared()
    if size > room:
        raise UserError(
            f"{what} need {_words(size)} of shared memory, but {_words(room)} are left: "
            "ask for less, or give more (docker: --shm-size)"
        )


def available_shared() -> int:
    """Bytes that processes can still share: what is available, or the room where it is kept if that is less."""
    if os.name != "posix":
        return available_memory()
    volumes = [os.statvfs(folder) for folder in shared_folders()]
    return min(available_memory(), max(volume.f_bavail * volume.f_frsize for volume in volumes))


def shared_folders() -> list[str]:
    """Returns where POSIX systems keep shared memory, in files: the first that has room serves.

    Linux keeps files in memory in the first. Without room there, as in a container, temporary files serve.
    """
    folders = [_SHARED] if os.access(_SHARED, os.W_OK) else []
    with suppress(FileNotFoundError):
        folders.append(tempfile.gettempdir())
    if not folders:
        raise UserError(f"no folder can be written for shared memory: make {_SHARED} writable, or name one by TMPDIR")
    return folders


def available_memory(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that processes can still claim: what the machine has left, or a container's limit where that is lower."""
    available = int(psutil.virtual_memory().available)
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            # `max`, no number, means unlimited. The file cache counts as used, but yields when memory is wanted.
            stat = (cgroups / limit).with_name("memory.stat").read_text().split()
            cache = int(stat[stat.index("inactive_file") + 1])
            left = int((cgroups / limit).read_text()) - int((cgroups / usage).read_text()) + cache
        except (OSError, ValueError):
            continue
        available = min(available, max(0, left))
    return available


_SHARED = "/dev/shm"  # noqa: S108


def _words(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
