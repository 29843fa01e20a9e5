"""Memory that processes share, in pieces whose sizes are known only once they run: those of the behaviors' rows.

An arena takes no memory before it is written: the system gives it page by page, filled with zeros.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import sys
import tempfile
import weakref
from itertools import chain
from multiprocessing import reduction
from typing import Any

from envs.process.ram import available_memory, shared_folders
from envs.spec import UserError

_BLOCK = 512
_MIB = 2**20


class Arenas:
    """Arenas that spawned processes inherit. The first process that opens one gives it its size.

    They end with the last process that holds them, however that ends.
    """

    def __init__(self, count: int) -> None:
        self._name = f"outstep-{os.getpid()}-{secrets.token_hex(8)}"
        # For each arena an empty file in each folder, of which one gets a size. Files that have no name leave nothing
        # behind; a process can only inherit those that are there when it starts.
        self._hold(
            [[] if sys.platform == "win32" else list(map(_unnamed_file, shared_folders())) for _ in range(count)]
        )

    def __len__(self) -> int:
        return len(self._files)

    def open(self, place: int, size: int, owner: str) -> memoryview:
        """Returns the `size` bytes of an arena: zeros at first, then what any process has written.

        Raises:
            UserError: there is no room for as many as `owner` wants.
        """
        if place not in self._opened:
            self._opened[place] = self._map(place, size, owner)
        return memoryview(self._opened[place])

    @property
    def free(self) -> int:
        """Bytes that one more arena may have: what is available, less what those before will take when written."""
        if sys.platform == "win32":
            return max(0, available_memory() - sum(map(len, self._opened.values())))
        untaken = sum(map(_untaken, chain(*self._files)))
        return max(0, min(available_memory() - untaken, max(map(self._room, range(len(self._files[0]))))))

    def _map(self, place: int, size: int, owner: str) -> mmap.mmap:
        if sys.platform == "win32":
            return mmap.mmap(-1, size, tagname=f"{self._name}-{place}")
        files = self._files[place]
        sized = next((file for file in files if os.fstat(file).st_size), None)
        if sized is None:
            rooms = list(map(self._room, range(len(files))))
            sized = next((file for file, room in zip(files, rooms) if room >= size), None)
            if sized is None:
                wanted, left = -(-size // _MIB), max(rooms) // _MIB
                raise UserError(
                    f"{owner} needs {wanted:,} MiB, but {left:,} MiB of shared memory are left: "
                    "ask for less, or give more (docker: --shm-size)"
                )
            os.ftruncate(sized, size)
            if rooms[files.index(sized)] < 2 * size and hasattr(os, "posix_fallocate"):
                _reserve(sized, size, owner)
        return mmap.mmap(sized, size)

    def _room(self, folder: int) -> int:
        """Bytes that are left in a folder, less what files that are there will take when they are written."""
        files = [files[folder] for files in self._files]
        volume = os.fstatvfs(files[0])
        return max(0, volume.f_bavail * volume.f_frsize - sum(map(_untaken, files)))

    def _hold(self, files: list[list[int]]) -> None:
        self._files = files
        self._opened: dict[int, mmap.mmap] = {}
        for file in chain(*files):
            weakref.finalize(self, os.close, file)

    def __getstate__(self) -> tuple[str, list[list[Any]]]:
        """Hands the files on to a process that is being spawned."""
        return self._name, [list(map(reduction.DupFd, files)) for files in self._files]

    def __setstate__(self, state: tuple[str, list[list[Any]]]) -> None:
        self._name = state[0]
        self._hold([[file.detach() for file in files] for files in state[1]])


def _unnamed_file(folder: str) -> int:
    file, name = tempfile.mkstemp(prefix="outstep-", dir=folder)
    os.unlink(name)
    return file


def _reserve(file: int, size: int, owner: str) -> None:
    """Takes all pages at once, where room is tight: another program could take it, and a write would end in SIGBUS.

    In memory that takes a second a GiB.
    """
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            os.ftruncate(file, 0)
            raise UserError(
                f"{owner} needs {-(-size // _MIB):,} MiB, which another program has taken meanwhile"
            ) from error


def _untaken(file: int) -> int:
    found = os.fstat(file)
    return max(0, found.st_size - _BLOCK * found.st_blocks)
