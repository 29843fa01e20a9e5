"""Handles the system's signals that ask a run to end: it saves and exits, whatever is under way."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE_SECONDS = 4.0
"""How long what is under way may take after a signal; a spot machine gives notice of half a minute or more."""


class Interrupted(BaseException):
    """Breaks off what took too long after a signal."""


class Interrupt:
    """Catches Ctrl+C, SIGTERM or a closed terminal: the run saves and ends.

    A second Ctrl+C ends the process at once, or, without `exits`, is a KeyboardInterrupt. Signals reach the main thread
    only: in another, nothing is caught.
    """

    def __init__(self, exits: bool = True) -> None:
        self._exits = exits
        self.signal: int | None = None
        """The first signal that came."""
        self._came = 0.0
        self._breakable = self._resent = False

    def __enter__(self) -> Interrupt:
        # SIGBREAK is what a process on Windows can send to another.
        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        # Ignored signals stay ignored: with nohup a run outlives its terminal.
        numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        if threading.current_thread() is not threading.main_thread():
            numbers = []
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def late(self) -> bool:
        """Whether a signal came so long ago that the run waits for nothing any more."""
        return self.signal is not None and time.monotonic() > self._came + PATIENCE_SECONDS

    @contextmanager
    def breakable(self) -> Iterator[None]:
        """Lets the code within be broken off at any place, by `Interrupted`, once a signal is `late`."""
        self._breakable = True
        try:
            yield
        finally:
            self._breakable = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._resent:
            self._resent = False
            if self._breakable:
                self._breakable = False
                raise Interrupted
        elif self.signal is None:
            self.signal, self._came = number, time.monotonic()
            timer = threading.Timer(PATIENCE_SECONDS, self._resend)
            timer.daemon = True
            timer.start()
        elif number == signal.SIGINT:
            if not self._exits:
                raise KeyboardInterrupt
            os._exit(128 + number)  # the collector notices, and ends with its workers

    def _resend(self) -> None:
        """Sends the signal again, from another thread: only that ends a wait of the main thread."""
        if self.signal is None or signal.getsignal(self.signal) != self._handle:
            return  # the run has ended meanwhile
        self._resent = True
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, self.signal)
        else:
            _thread.interrupt_main(signal.Signals(self.signal))
