from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import numpy as np
import pytest

import trainer.runtime.arenas
from envs.spec import UserError
from trainer.runtime.arenas import Arenas
from trainer.runtime.ipc import SPAWN

MIB = 2**20
posix = pytest.mark.skipif(not hasattr(os, "fstatvfs"), reason="Windows")


def writes(arenas: Arenas) -> None:
    arenas.open(1, 1000, "b")[:3] = b"abc"


def test_arenas_do_not_overlap_and_have_the_size_that_is_asked_for() -> None:
    arenas, sizes = Arenas(3), [1000, 50_000, 3000]
    for place, size in enumerate(sizes):
        np.frombuffer(arenas.open(place, size, "one"), np.uint8)[:] = place + 1
    opened = [arenas.open(place, size, "one") for place, size in enumerate(sizes)]
    assert [len(arena) for arena in opened] == sizes
    assert [set(arena) for arena in opened] == [{1}, {2}, {3}]


def test_what_a_process_that_has_ended_wrote_is_there_for_the_one_that_started_it() -> None:
    arenas = Arenas(2)
    process = SPAWN.Process(target=writes, args=(arenas,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert bytes(arenas.open(1, 1000, "b")[:4]) == b"abc\0"
    assert set(arenas.open(0, 1000, "a")) == {0}


@posix
def test_memory_is_promised_when_an_arena_gets_its_size_and_taken_when_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer.runtime.arenas, "available_memory", lambda: 100 * MIB)
    monkeypatch.setattr(os, "fstatvfs", lambda file: SimpleNamespace(f_bavail=10**6, f_frsize=4096))
    arenas = Arenas(2)
    assert arenas.free == 100 * MIB
    memory = arenas.open(0, 64 * MIB, "one")
    assert arenas.free == 36 * MIB
    np.frombuffer(memory, np.uint8)[: 32 * MIB] = 1  # of the 100 MiB, these would now be missing
    assert arenas.free == 68 * MIB


@posix
def test_an_arena_lies_where_there_is_room_and_is_refused_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    left = {"small": 2 * MIB, "large": 8 * MIB}
    for name in left:
        (tmp_path / name).mkdir()
    places: dict[int, str] = {}

    def unnamed(folder: str) -> int:
        file = real(folder)
        places[file] = os.path.basename(folder)
        return file

    real = trainer.runtime.arenas._unnamed_file
    monkeypatch.setattr(trainer.runtime.arenas, "_unnamed_file", unnamed)
    monkeypatch.setattr(trainer.runtime.arenas, "shared_folders", lambda: [str(tmp_path / name) for name in left])
    monkeypatch.setattr(os, "fstatvfs", lambda file: SimpleNamespace(f_bavail=left[places[file]], f_frsize=1))
    arenas = Arenas(4)
    assert arenas.free == 8 * MIB
    for place, size in enumerate([MIB, 2 * MIB]):
        arenas.open(place, size, "one")
    assert {places[file] for file in places if os.fstat(file).st_size == MIB} == {"small"}
    assert {places[file] for file in places if os.fstat(file).st_size == 2 * MIB} == {"large"}
    with pytest.raises(UserError, match=r"the rows of 'a' needs 7 MiB, but 6 MiB of shared memory are left"):
        arenas.open(2, 7 * MIB, "the rows of 'a'")


@posix
def test_where_room_is_tight_it_is_taken_at_once_and_what_is_not_there_is_refused(monkeypatch) -> None:
    taken = []
    monkeypatch.setattr(os, "posix_fallocate", lambda *given: taken.append(given[1:]), raising=False)
    monkeypatch.setattr(Arenas, "_room", lambda self, folder: 10 * MIB)
    arenas = Arenas(4)
    arenas.open(0, 4 * MIB, "a")
    assert not taken
    arenas.open(1, 6 * MIB, "b")
    monkeypatch.setattr(Arenas, "_room", lambda self, folder: 3000 * MIB)
    arenas.open(2, 2000 * MIB, "large")
    assert taken == [(0, 6 * MIB), (0, 2000 * MIB)]

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(UserError, match="c needs 2,000 MiB, which another program has taken meanwhile"):
        arenas.open(3, 2000 * MIB, "c")
