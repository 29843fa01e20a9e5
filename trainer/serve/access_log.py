"""A line for each request, in the Common Log Format with the seconds that it took at its end."""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from threading import Event, Thread

from starlette.types import Scope

from trainer.serve.arrays import cut

_MOST_LINES = 10_000
"""So many lines wait for whoever reads the log."""
_COLLECTING_SECONDS = 0.1
"""Lines that come within this time are written together."""
_CLOSING_SECONDS = 1.0


class AccessLog:
    """Writes lines from a thread of its own, so that no request waits for whoever reads them.

    Lines that are not read in time are left out, and counted.

    Args:
        out: the descriptor of a file. Not a stream: its lock, held by a thread that waits for a reader, would end the
            process by an error of Python's own.
    """

    def __init__(self, out: int) -> None:
        self._out = out
        self._lines: deque[str] = deque()
        self._left_out = self._told = 0
        self._filled, self._closing = Event(), Event()
        self._second, self._stamp = 0, ""
        self._thread = Thread(target=self._write_all, name="access_log", daemon=True)
        self._thread.start()

    def add(self, client: str, request: str, status: int, size: int, seconds: float) -> None:
        """Adds the line of a request: who sent it, its first line, and the status, bytes and seconds of the reply."""
        if len(self._lines) >= _MOST_LINES:
            self._left_out += 1
            return
        now = int(time.time())
        if now != self._second:
            self._second, self._stamp = now, time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(now))
        self._lines.append(f'{client} - - [{self._stamp}] "{request}" {status} {size} {seconds:.6f}\n')
        if not self._filled.is_set():
            self._filled.set()

    def close(self) -> None:
        """Writes what is left, unless nobody reads it."""
        self._closing.set()
        self._filled.set()
        self._thread.join(_CLOSING_SECONDS)

    def _write_all(self) -> None:
        while self._lines or not self._closing.is_set():
            self._filled.wait()
            self._closing.wait(_COLLECTING_SECONDS)
            self._filled.clear()
            text = "".join([self._lines.popleft() for _ in range(len(self._lines))])
            if more := self._left_out - self._told:
                text += f"{more} requests are not listed: the log is read too slowly\n"
                self._told += more
            left = memoryview(text.encode("ascii", "backslashreplace"))
            with suppress(OSError):  # its reader is gone
                while left:
                    left = left[os.write(self._out, left) :]


def first_line(scope: Scope) -> str:
    """Returns the first line of a request, cut short, in characters that can be printed and stand in quotes."""
    path = scope["raw_path"]
    if scope["query_string"]:
        path += b"?" + scope["query_string"]
    shown = cut(path[:_LONGEST].decode("latin-1")).replace("\\", r"\x5c").replace('"', r"\x22")
    return f"{scope['method']} {shown} HTTP/{scope['http_version']}"


_LONGEST = 1000
"""Bytes of a path that are looked at."""
