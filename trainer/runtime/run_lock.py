"""Allows one process for each run, by a lock on its folder that no kill leaves behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from envs.spec import UserError

_FILE = "in_use"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Locks a run's folder for this process; UserError if another process trains there, or it cannot be written.

    The system removes the lock when the process ends, in whatever way.
    """
    try:
        file = (folder / _FILE).open("a+b")
    except OSError as error:
        raise UserError(f"the run's folder {folder} cannot be written ({error.strerror}): make it writable") from error
    with file:
        try:
            lock_file(file)
        except OSError as error:
            raise UserError(
                f"the run in {folder} is still going on, in another process: wait for its end or end it, or begin "
                f"another run from its weights with init={folder}"
            ) from error
        yield


def is_occupied(folder: Path) -> bool:
    """Returns whether a process trains in a run's folder now."""
    if not (folder / _FILE).is_file():  # a pipe would be waited for
        return False
    try:
        file = (folder / _FILE).open("rb")
    except OSError:
        return False
    with file:
        try:
            lock_file(file)
        except OSError:
            return True
    return False


def lock_file(file: IO[bytes]) -> None:
    """Locks an open file until it is closed, or its process ends in whatever way; OSError if another has locked it."""
    if os.name == "posix":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
