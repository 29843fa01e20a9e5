"""A game that can be audited: it says in its observation which step it is at, and keeps a record of its own.

Each env object that is played is a life, with a number and a file of its own: a header, through which it can be told to
misbehave, and one record for each step that it has completed. What was written outlives a process that is killed.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import multiprocessing
import os
import resource
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from benchmarks.laws import durations
from envs.spec import Array

WIDTH = 8
CHOICES = 4
TERMINATED, TRUNCATED, SPOILED = 1, 2, 4
"""Bits of a record's `flags`; `SPOILED`: the step returned what is no number."""
RECORD = np.dtype(
    [
        ("time", "f8"),  # monotonic, when the step was done; what it is said to last comes after
        ("duration", "f4"),  # drawn, seconds
        ("reward", "f4"),
        ("episode", "i4"),
        ("step", "i4"),  # steps of the episode before it
        ("action", "i4"),
        ("flags", "i4"),
    ]
)
NAN_OBSERVATION, NAN_REWARD, NAP = 1, 2, 3
"""What a life can be told to do in its next step; a nap lasts `Life.tell`'s seconds."""
_PID, _PARENT, _CLOSED, _COMMAND, _NAP_MICROSECONDS, _STEPS = range(6)
_HEADER_BYTES = 4096


def observation(life: Array, episode: Array, step: Array) -> Array:
    """(M, WIDTH) float32: who is at which step, and numbers that follow from it; each of the arguments (M,)."""
    numbers = (life * 7907 + episode * 31 + step * 17)[..., None] + np.arange(WIDTH) * 101
    mixed: Array = (numbers % 65536).astype(np.float32)
    mixed[..., 0], mixed[..., 1], mixed[..., 2] = life, episode, step
    return mixed


def length(life: int, episode: int) -> int:
    """Steps of an episode: 1 to 40."""
    return (life * 31 + episode * 7919) % 40 + 1


class Life:
    """One env object that is or was played, as the other side sees it: the file `life-<number>` in `folder`."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self._file = _file(folder, number)
        with self._file.open("r+b") as file:
            self._header = _header(file.fileno())

    @property
    def pid(self) -> int:
        """Of the process that plays it."""
        return int(self._header[_PID])

    @property
    def parent(self) -> int:
        """Of the process that started that process."""
        return int(self._header[_PARENT])

    @property
    def closed(self) -> bool:
        """Whether its env was closed."""
        return bool(self._header[_CLOSED])

    @property
    def steps(self) -> int:
        """How many steps it has completed."""
        return int(self._header[_STEPS])

    @property
    def reported(self) -> bool:
        """Whether it was told something that it has not done yet."""
        return bool(self._header[_COMMAND])

    def tell(self, command: int, seconds: float = 0.0) -> None:
        """Lets its next step be one of the above."""
        self._header[_NAP_MICROSECONDS] = int(1e6 * seconds)
        self._header[_COMMAND] = command

    def records(self) -> Array:
        """The steps that it has completed so far, (M,) of `RECORD`."""
        data = self._file.read_bytes()[_HEADER_BYTES:]
        whole: Array = np.frombuffer(data, RECORD, len(data) // RECORD.itemsize)
        return whole


def lives(folder: Path, known: dict[int, Life]) -> dict[int, Life]:
    """All lives so far, by number: those `known`, and what is new."""
    for path in folder.glob("life-*"):
        number = int(path.name.partition("-")[2])
        if number not in known:
            with contextlib.suppress(OSError, ValueError):  # it is just being made
                known[number] = Life(folder, number)
    return {number: life for number, life in known.items() if life.pid}


class Witness(gymnasium.Env[Array, Any]):
    """`WIDTH` numbers in, one of four choices out; steps last log-normal durations of 50 ms on average.

    Args:
        folder: where lives are kept.
        record: whether steps are recorded; else a life is its header.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form
    observation_space = gymnasium.spaces.Box(0.0, 2.0**24, (WIDTH,), np.float32)
    action_space = gymnasium.spaces.Discrete(CHOICES)

    def __init__(self, folder: str, record: bool = True) -> None:
        self._folder, self._record = Path(folder), record
        self._life = self._episode = self._step = 0
        self._header: Array = np.zeros(_HEADER_BYTES // 8, np.int64)
        self._records: int | None = None
        self._durations = durations("lognormal", 0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begins an episode; it takes no time."""
        super().reset(seed=seed)
        if not self._life and multiprocessing.current_process().name not in ("probe", "pictures"):
            self._begin_life()
        self._episode, self._step = self._episode + 1, 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Returns the duration that was drawn, and before that does what it was told."""
        step, duration = self._step, next(self._durations)
        self._step += 1
        over = self._step == length(self._life, self._episode)
        terminated = over and (self._life + self._episode) % 2 == 0
        truncated = over and not terminated
        seen, flags = self._observation(), TERMINATED * terminated | TRUNCATED * truncated
        reward = (self._life * 7 + self._episode * 13 + step * 29 + int(action)) % 64 / 8
        command = int(self._header[_COMMAND])
        if command and not (command == NAN_OBSERVATION and over):  # nobody need look at an episode's last observation
            self._header[_COMMAND] = 0
            if command == NAP:
                time.sleep(self._header[_NAP_MICROSECONDS] / 1e6)
            else:
                flags |= SPOILED
            if command == NAN_OBSERVATION:
                seen[-1] = np.nan
            if command == NAN_REWARD:
                reward = float("nan")
        if self._records is not None:
            row = (time.monotonic(), duration, reward, self._episode, step, int(action), flags)
            os.write(self._records, np.array(row, RECORD).tobytes())
        self._header[_STEPS] += 1
        return seen, reward, terminated, truncated, {"duration": duration}

    def close(self) -> None:
        """Ends the life."""
        self._header[_CLOSED] = 1
        if self._records is not None:
            os.close(self._records)
            self._records = None

    def _begin_life(self) -> None:
        # Whoever is started while the disk refuses inherits that; the game's own record is not to suffer from it.
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        for number in itertools.count(len(os.listdir(self._folder)) + 1):
            with contextlib.suppress(FileExistsError):
                file = os.open(_file(self._folder, number), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND)
                break
        os.truncate(file, _HEADER_BYTES)
        self._header = _header(file)
        self._header[_PARENT] = os.getppid()
        self._header[_PID] = os.getpid()
        self._life = number
        self._durations = durations("lognormal", number)
        if self._record:
            self._records = file
        else:
            os.close(file)

    def _observation(self) -> Array:
        return observation(*(np.array(value) for value in (self._life, self._episode, self._step)))


def _file(folder: Path, number: int) -> Path:
    return folder / f"life-{number}"


def _header(file: int) -> Array:
    header: Array = np.frombuffer(mmap.mmap(file, _HEADER_BYTES), np.int64)
    return header


gymnasium.register("Witness-v0", entry_point="tests.stress.witness:Witness")
