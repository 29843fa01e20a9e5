"""What the learner and the collector share: memory, counters, and a link for messages, which are rare.

Every counter has one writer. A link is a pipe for messages and a socket whose bytes wake the other side, so that
neither polls. A counter says how many messages are under way, so that looking for one costs an integer comparison.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from envs.process.ram import check_shared
from envs.spec import Array, Lessons, UserError
from trainer.runtime.arenas import Arenas

SPAWN = multiprocessing.get_context("spawn")

TO_LEARNER, TO_COLLECTOR = 0, 1  # messages sent, by receiver
_RECEIVED = 2  # added to these: messages received
LEARNER_WAITS, THROTTLED = 4, 5  # flags: this side wants to be woken
TURNS = 6  # of the collector: shows that it is alive
_COMMON = 7
SAMPLES, OPEN, UPDATES, DROPPED, BEFORE, CAPACITY = range(6)  # of each behavior
COUNTERS = 6
_ARRIVAL_SECONDS = 0.05


class Message(NamedTuple):
    """One message of a link."""

    kind: str
    behavior: str
    content: Any


class Shared:
    """Memory of a run: counters and an arena for each behavior. A new collector finds all as the one before left it."""

    def __init__(
        self, behaviors: Sequence[str], spares: int = 0, instances: int = 0, lessons: int = 0, fragment_rows: int = 0
    ) -> None:
        """`behaviors` are known, and `spares` others may come; so many environment parameters have `lessons`.

        `fragment_rows`: how many rows are passed on together where they are another host's to learn from; else 0.
        """
        self.fragment_rows = fragment_rows
        self._places = {name: place for place, name in enumerate(behaviors)}
        self._arenas = Arenas(len(behaviors) + spares)
        self._instances = instances
        size = _COMMON + COUNTERS * len(self._arenas) + instances + 1 + lessons
        check_shared(8 * size, "the run's counters")
        self._counters = SPAWN.RawArray("q", size)

    def claim(self, behavior: str) -> int:
        """Returns the place of the behavior's counters and arena, for `assign`; UserError if none is left."""
        if behavior not in self._places:
            place = len(self._places)
            if place == len(self._arenas):
                raise UserError(
                    f"behavior {behavior!r} is one too many: with {', '.join(map(repr, self._places))} there are "
                    f"{place} already. Name those that the game has in `behaviors`, each gets memory of its own then"
                )
            self._places[behavior] = place
        return self._places[behavior]

    def assign(self, behavior: str, place: int) -> None:
        """Records a place that the other process has claimed."""
        self._places[behavior] = place

    def arena(self, behavior: str, size: int) -> memoryview:
        """Returns the behavior's `size` bytes, zeros at first; UserError if they do not fit into memory."""
        return self._arenas.open(self._places[behavior], size, f"the buffer of behavior {behavior!r}")

    @property
    def free(self) -> int:
        """Bytes that one more arena may have."""
        return self._arenas.free

    @property
    def flags(self) -> Array:
        """The common counters, indexed by the constants above."""
        return np.frombuffer(self._counters, np.int64, _COMMON)

    @property
    def samples(self) -> int:
        """The samples of all behaviors."""
        return int(self._each[:, SAMPLES].sum())

    @property
    def open_rows(self) -> int:
        """How many steps of agents, of all behaviors, are not finished."""
        return int(self._each[:, OPEN].sum())

    def counters(self, behavior: str) -> Array:
        """Returns the behavior's counters.

        The collector writes `SAMPLES`, earlier parts of a resumed run included, and `OPEN`: unfinished steps. The
        learner writes `UPDATES`, `DROPPED`, and `BEFORE`: samples that were not restored, which the rows lack. Whoever
        opens the arena first writes `CAPACITY`.
        """
        counters: Array = self._each[self._places[behavior]]
        return counters

    @property
    def begun(self) -> Array:
        """(I,) by instance: episodes, or starts of a Unity player, that the collector has begun; seeds follow them."""
        start = _COMMON + COUNTERS * len(self._arenas)
        return np.frombuffer(self._counters, np.int64)[start : start + self._instances]

    @property
    def lessons(self) -> Lessons:
        """The lessons in which episodes begin; the learner decides on them, and tells the collector of a change."""
        start = _COMMON + COUNTERS * len(self._arenas) + self._instances
        return Lessons.of(np.frombuffer(self._counters, np.int64)[start:])

    @lessons.setter
    def lessons(self, lessons: Lessons) -> None:
        start = _COMMON + COUNTERS * len(self._arenas) + self._instances
        np.frombuffer(self._counters, np.int64)[start:] = (lessons.change, *lessons.at)

    @property
    def _each(self) -> Array:
        """(behaviors, counters)."""
        return np.frombuffer(self._counters, np.int64)[_COMMON : _COMMON + COUNTERS * len(self._arenas)].reshape(
            -1, COUNTERS
        )


class Link:
    """One end of the connection between learner and collector."""

    def __init__(self, pipe: Connection, wake: socket.socket, shared: Shared, receives: int) -> None:
        self._pipe = pipe
        self.socket = wake
        """To wait on, for a selector."""
        self._flags = shared.flags
        self._receives, self._sends = receives, 1 - receives
        self._seen = 0
        wake.setblocking(False)

    def send(self, kind: str, behavior: str = "", content: Any = None) -> None:
        """Sends a message and wakes the other side."""
        # Counted first: a message larger than the pipe is only sent while the other side receives it.
        self._flags[self._sends] += 1
        self.wake()
        self._pipe.send(Message(kind, behavior, content))

    @property
    def pending(self) -> bool:
        """Whether messages have arrived or are on their way."""
        return bool(self._seen != self._flags[self._receives])

    def receive(self) -> list[Message]:
        """Returns the messages that have arrived; raises EOFError or OSError when the other side is gone.

        A message that is counted follows at once, unless the other side was stopped in between.
        """
        messages = []
        while self.pending and self._pipe.poll(_ARRIVAL_SECONDS):
            try:
                messages.append(self._pipe.recv())
            except (EOFError, OSError):
                if not messages:
                    raise
                break  # the next call will raise
            self._seen += 1
            self._flags[self._receives + _RECEIVED] = self._seen
        return messages

    @property
    def unread(self) -> bool:
        """Whether the other side has not received all messages yet; sending more might wait for room in the pipe."""
        return bool(self._flags[self._sends] != self._flags[self._sends + _RECEIVED])

    def wake(self) -> None:
        """Ends the other side's wait."""
        with contextlib.suppress(BlockingIOError):  # full: it holds enough bytes to wake the other side
            self.socket.send(b"\0")

    def wait(self, seconds: float, *others: socket.socket) -> None:
        """Waits until the other side wakes this one, one of `others` is readable, or `seconds` have passed.

        Raises EOFError when the other side is gone.
        """
        readable, _, _ = select.select([self.socket, *others], [], [], seconds)
        if self.socket in readable and not self.socket.recv(65536):
            raise EOFError

    def close(self) -> None:
        """Closes this end."""
        self._pipe.close()
        self.socket.close()


def link_pair(shared: Shared) -> tuple[Link, tuple[Connection, socket.socket]]:
    """Returns the learner's link, and the ends for the collector's: `Link(*ends, shared, TO_COLLECTOR)`.

    An earlier link must not be used any more, at either end.
    """
    shared.flags[:] = 0
    ours, theirs = SPAWN.Pipe()
    wake_ours, wake_theirs = socket.socketpair()
    return Link(ours, wake_ours, shared, TO_LEARNER), (theirs, wake_theirs)
