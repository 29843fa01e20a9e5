"""Shows how a run goes: a live display on a terminal, plain lines elsewhere, and `train.log` in any case."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from trainer.telemetry.display import GOING_ON, SAVING, Display, Starting
from trainer.telemetry.status import Status, figures

log = logging.getLogger("outstep")
"""The logger of messages for users: they go to `train.log` and to the terminal."""


class Progress:
    """Shows the status of a run. A context manager, which sets up logging, and restores it at its end."""

    def __init__(self, title: str, folder: Path, stream: TextIO | None = None, quiet: bool = False) -> None:
        """Sets up, but shows nothing yet.

        Args:
            title: heads the live display.
            folder: where `train.log` is written.
            stream: where the rest is shown; stderr by default.
            quiet: whether nothing is shown: only `train.log` is written.
        """
        self._title = title
        self._doing = ""
        self._status: Status | None = None
        """The last one."""
        self._console = make_console(stream)
        self._live = live_display(self._console) if self._console.is_terminal and not quiet else None
        file = _LogFile(folder / "train.log", encoding="utf-8", errors="backslashreplace")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._handlers: list[logging.Handler] = [file] if quiet else [file, _ConsoleHandler(self._console)]

    def __enter__(self) -> Progress:
        self._before = log.level, log.propagate
        log.setLevel(logging.INFO)
        log.propagate = False
        for handler in self._handlers:
            log.addHandler(handler)
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close_display()
        for handler in self._handlers:
            log.removeHandler(handler)
            handler.close()
        level, log.propagate = self._before
        log.setLevel(level)

    def start(self, doing: str) -> None:
        """Says what is being done before there is a status to show."""
        self._doing = doing
        log.info("%s", doing, extra={"shown": self._live is not None})
        self.wait()

    def wait(self, waiting_for: str = "") -> None:
        """Says beside it, on the live display, what that waits for."""
        if self._live:
            lines = [self._doing, *([waiting_for] if waiting_for else [])]
            self._live.update(Starting(self._title, lines), refresh=True)

    def show(self, status: Status, saving: bool = False) -> None:
        """Refreshes the live display. Cheap enough for several times a second. Without a terminal, it does nothing.

        `saving`: whether the run has ended, and is being saved.
        """
        self._status = status
        if self._live:
            self._live.update(Display(self._title, status, SAVING if saving else GOING_ON), refresh=True)

    def line(self, status: Status) -> None:
        """Logs the status in one line: to `train.log`, and to the stream where there is no live display."""
        line = "  ".join(f"{name} {value}" for name, value in figures(status))
        log.info("%s", line, extra={"status": status, "shown": self._live is not None})

    def end(self, status: Status) -> None:
        """Leaves the last status on the terminal; messages that follow stand below it."""
        self._status = status
        self._close_display()

    def _close_display(self) -> None:
        """Ends the live display. The last status stays, and what was said of the start does not."""
        if self._live:
            live, self._live = self._live, None
            if self._status is not None:
                live.transient = False
                live.update(Display(self._title, self._status))
            live.stop()


@contextmanager
def announced(doing: str) -> Iterator[None]:
    """Shows on a terminal what is being done, until it is done."""
    console = make_console()
    with live_display(console) if console.is_terminal else contextlib.nullcontext() as live:
        if live is not None:
            live.update(Text(doing, no_wrap=True, overflow="ellipsis"), refresh=True)
        yield


class _Terminal(Console):
    """A console whose cursor stays visible: a process that is killed could not show it again."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


def make_console(stream: TextIO | None = None) -> Console:
    """Returns the console on which commands show how they go: stderr by default."""
    return _Terminal(file=stream or sys.stderr, highlight=False)


def live_display(console: Console) -> Live:
    """Returns a display that leaves nothing behind, as long as that is not changed."""
    return Live(console=console, auto_refresh=False, transient=True)


class _LogFile(logging.FileHandler):
    """Writes lines once there is room if a full disk refuses them, or loses them: no reason to end the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class _ConsoleHandler(logging.Handler):
    """Prints messages above the live display. The display shows the status itself."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "shown", False):
            style = "yellow" if record.levelno >= logging.WARNING else ""
            with contextlib.suppress(OSError):  # it may be a file on a disk that is full: no reason to end the run
                self._console.print(Text(record.getMessage(), style=style), soft_wrap=True)
