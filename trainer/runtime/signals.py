"""Signals that ask a run to end: it saves and leaves, whatever is under way."""

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
"""What is under way when a signal comes may take so long; a spot machine gives notice of half a minute or more."""


class Interrupted(BaseException):
    """What was under way took too long after a signal, and is broken off."""


class Interrupt:
    """Ctrl+C, SIGTERM or a closed terminal: the run saves and leaves. Ctrl+C twice: it leaves at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """The first that came."""
        self._came = 0.0
        self._breakable = self._insists = False

    def __enter__(self) -> Interrupt:
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        # What is ignored stays so: nohup is meant to outlive the terminal.
        numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def late(self) -> bool:
        """Whether a signal came so long ago that nothing is waited for any more."""
        return self.signal is not None and time.monotonic() > self._came + PATIENCE_SECONDS

    @contextmanager
    def breakable(self) -> Iterator[None]:
        """Around what may be broken off at any place, by `Interrupted`, once a signal is `late`."""
        self._breakable = True
        try:
            yield
        finally:
            self._breakable = False

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._insists:
            self._insists = False
            if self._breakable:
                self._breakable = False
                raise Interrupted
        elif self.signal is None:
            self.signal, self._came = number, time.monotonic()
            timer = threading.Timer(PATIENCE_SECONDS, self._insist)
            timer.daemon = True
            timer.start()
        elif number == signal.SIGINT:
            os._exit(128 + number)  # the collector sees it, and ends with its workers

    def _insist(self) -> None:
        """Sends the signal once more, from another thread: only that ends a wait of the main one."""
        if self.signal is None or signal.getsignal(self.signal) != self._note:
            return  # the run has left meanwhile
        self._insists = True
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, self.signal)
        else:
            _thread.interrupt_main(signal.Signals(self.signal))
