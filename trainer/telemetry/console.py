"""Shows how a run goes: a live display on a terminal, plain lines elsewhere, and `train.log` in any case."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainer.config.schema import StopConfig

log = logging.getLogger("outstep")
"""The logger of messages for users: they go to `train.log` and to the terminal."""


@dataclass(frozen=True)
class Status:
    """The state of a run at one time."""

    samples: int
    seconds: float
    samples_per_second: float
    """Over the last interval."""
    env_utilization: float | None = None
    reward: float | None = None
    """Mean of the last 100 episodes."""
    goal: tuple[str, float | None, float] | None = None
    """The goal's metric, its mean over the window, and the target."""
    lessons: Mapping[str, str] = field(default_factory=dict)
    """By environment parameter, the lesson of now in words."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Shares of time (0 to 1) by activity, such as `acting`, `waiting for games`, `updating`."""
    seconds_left: float | None = None
    diagnosis: str | None = None
    """What is wrong with the run, if anything is."""


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
        self._console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        live = self._console.is_terminal and not quiet
        self._live = Live(console=self._console, auto_refresh=False) if live else None
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
        if self._live:
            self._live.stop()
        for handler in self._handlers:
            log.removeHandler(handler)
            handler.close()
        level, log.propagate = self._before
        log.setLevel(level)

    def show(self, status: Status) -> None:
        """Refreshes the live display. Cheap enough for several times a second. Without a terminal, it does nothing."""
        if self._live:
            self._live.update(_display(self._title, status), refresh=True)

    def line(self, status: Status) -> None:
        """Logs the status in one line: to `train.log`, and to the stream where there is no live display."""
        line = "  ".join(f"{name} {value}" for name, value in _figures(status))
        log.info("%s", line, extra={"status": status, "shown": self._live is not None})


def seconds_left(stop: StopConfig, samples: int, seconds: float, samples_per_second: float) -> float | None:
    """Returns the seconds until `stop.samples` or `stop.seconds` ends the run; None if neither is known to."""
    estimates = []
    if stop.seconds is not None:
        estimates.append(stop.seconds - seconds)
    if stop.samples is not None and samples_per_second > 0:
        estimates.append((stop.samples - samples) / samples_per_second)
    return max(0.0, min(estimates)) if estimates else None


def clock(seconds: float) -> str:
    """Returns hours, minutes and seconds: `1:02:03`."""
    if not math.isfinite(seconds):  # from a file that somebody has changed
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


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
                self._console.print(Text(record.getMessage(), style=style))


def _figures(status: Status) -> list[tuple[str, str]]:
    """Returns names and values, the most important first."""
    figures = [
        ("samples", f"{status.samples:,}"),
        ("time", clock(status.seconds)),
        ("samples/s", f"{status.samples_per_second:,.1f}"),
    ]
    if status.env_utilization is not None:
        figures.append(("env utilization", f"{status.env_utilization:.3f}"))
    if status.reward is not None:
        figures.append(("reward", f"{status.reward:.3g}"))
    if status.goal is not None:
        metric, mean, target = status.goal
        figures.append((metric, f"{'-' if mean is None else f'{mean:.4g}'} (goal {target:.4g})"))
    figures += [(f"lesson of {name}", lesson) for name, lesson in status.lessons.items()]
    figures += [(name, f"{share:.0%}") for name, share in status.shares.items()]
    if status.seconds_left is not None:
        figures.append(("left", clock(status.seconds_left)))
    return figures


def _display(title: str, status: Status) -> Group:
    shares = len(status.shares) + (status.seconds_left is not None)
    figures = _figures(status)
    table = Table.grid(padding=(0, 3))
    for name, value in figures[: len(figures) - shares]:
        table.add_row(Text(name, style="dim", no_wrap=True), Text(value, style="bold", no_wrap=True))
    bars = Table.grid(padding=(0, 2))
    for name, share in status.shares.items():
        bars.add_row(Text(name, style="dim"), ProgressBar(total=1, completed=share, width=24), Text(f"{share:.0%}"))
    left = "" if status.seconds_left is None else f"   {clock(status.seconds_left)} left"
    sides = Table.grid(padding=(0, 6))
    sides.add_row(table, bars)
    heading = Text(title + left, style="bold cyan")
    return Group(heading, sides, *([] if status.diagnosis is None else [Text(status.diagnosis, style="yellow")]))
