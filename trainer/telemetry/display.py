"""How the live display looks: a run's status, drawn for the width of the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainer.telemetry.metrics import EPISODES
from trainer.telemetry.status import PROCESSES, Status, clock

GOING_ON = "Ctrl+C saves and ends the run."
SAVING = "What was learned is being saved. Ctrl+C again leaves at once."
_ENDLESS = "Nothing ends this run (stop.* or goal.*): it goes on for ever, until Ctrl+C."
_WIDE = 120
"""Columns from which on shares have bars."""
_BAR = 16
_CELLS = 60
"""Columns of the longest sparkline."""


@dataclass(frozen=True)
class Display:
    """A run's status on a terminal. Its last line is empty: whatever ends the process, the next one begins there."""

    title: str
    status: Status
    hint: str = ""
    """The last words; none once the run has ended."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the lines, from what matters most to what matters least."""
        status, wide = self.status, options.max_width >= _WIDE
        yield _heading(self.title, status, ended=not self.hint)
        if status.aims:
            yield _aims(status)
        elif status.endless and self.hint:
            yield Text(_ENDLESS, style="dim")
        if status.reward is not None:
            yield _reward(status)
        yield Text()
        groups = [_games(status), *(_process(name, status, wide) for name in PROCESSES)]
        yield Columns(groups, padding=(0, 4 if wide else 3))
        if status.bottleneck is not None:
            yield Text()
            yield Text(status.bottleneck)
        if status.diagnosis is not None:
            yield Text(status.diagnosis, style="yellow")
        if self.hint:
            yield Text(self.hint, style="dim")
            yield Text()


@dataclass(frozen=True)
class Starting:
    """What a run shows before it has its first sample."""

    title: str
    lines: Sequence[str]
    """What is being done, and what it waits for."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the lines, and an empty one as `Display` does."""
        yield _one_line(self.title, "bold cyan")
        yield from (Text(line, style="dim" if place else "") for place, line in enumerate(self.lines))
        yield Text()


@dataclass(frozen=True)
class Sparkline:
    """A curve in one line: a mean of its values in each column."""

    values: Sequence[float]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the line."""
        blocks = "_.-=*#" if options.ascii_only or options.legacy_windows else "▁▂▃▄▅▆▇█"
        yield Text(sparkline(self.values, min(options.max_width, _CELLS), blocks), style="cyan", no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Returns the fewest and the most columns."""
        return Measurement(1, min(options.max_width, _CELLS, len(self.values)))


def sparkline(values: Sequence[float], width: int, blocks: str) -> str:
    """Returns up to `width` characters of `blocks`, from the lowest to the highest; values that are all alike are flat.

    Each character is the mean of as many values, in their order.
    """
    count = min(width, len(values))
    edges = [place * len(values) // count for place in range(count + 1)] if count else [0]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return blocks[len(blocks) // 2] * count
    return "".join(blocks[round((mean - low) / (high - low) * (len(blocks) - 1))] for mean in means)


def _heading(title: str, status: Status, ended: bool) -> RenderableType:
    words = clock(status.seconds)
    if ended:
        words = f"ended after {words}"
    elif status.seconds_left is not None:
        most = "at most " if len(status.aims) > 1 else ""
        words += f", {most}{clock(status.seconds_left)} left"
    line = Table.grid(expand=True, padding=(0, 2))
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(_one_line(title, "bold cyan"), Text(words, style="bold"))
    return line


def _aims(status: Status) -> RenderableType:
    """Returns a line for each that may end the run: how far it has come."""
    lines = Table.grid(expand=True, padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(ratio=1)
    lines.add_column(justify="right", no_wrap=True)
    for aim in status.aims:
        lines.add_row(aim.name, aim.state, ProgressBar(total=1, completed=aim.share), f"{aim.share:.0%}")
    return lines


def _reward(status: Status) -> RenderableType:
    line = Table.grid(padding=(0, 2))
    line.add_row(
        Text("reward", style="dim"),
        Text(f"{status.reward:.4g}", style="bold", no_wrap=True),
        Sparkline([*status.rewards, status.reward or 0.0]),
        Text(_averaged(status.episodes), style="dim", no_wrap=True),
    )
    return line


def _averaged(episodes: int) -> str:
    return "one episode" if episodes == 1 else f"mean of the last {min(EPISODES, episodes)} episodes"


def _games(status: Status) -> RenderableType:
    known = status.env_utilization is not None
    rows = [
        ("running", f"{status.games:,}"),
        ("samples", f"{status.samples:,}"),
        ("samples/s", f"{status.samples_per_second:,.1f}"),
        *([("env utilization", f"{status.env_utilization:.1%}")] if known else []),
        ("episodes", f"{status.episodes:,}"),
        *((f"lesson of {name}", lesson) for name, lesson in status.lessons.items()),
    ]
    return _group("games", [(name, value, None) for name, value in rows], False)


def _process(name: str, status: Status, wide: bool) -> RenderableType:
    shares = [(word, status.shares[word]) for word in PROCESSES[name] if word in status.shares]
    rows: list[tuple[str, str, float | None]] = [(word, f"{share:.0%}", share) for word, share in shares]
    if name == "learner":
        rows.append(("updates", f"{status.updates:,}", None))
    return _group(name, rows, wide)


def _group(heading: str, rows: Sequence[tuple[str, str, float | None]], bars: bool) -> RenderableType:
    """Returns names and values under a heading; with `bars`, those that are shares have one."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    if bars:
        table.add_column(width=_BAR)
    table.add_column(style="bold", justify="right", no_wrap=True, min_width=6)
    table.add_row(Text(heading, style="bold underline"), *([""] if bars else []), "")
    for name, value, share in rows:
        bar = "" if share is None else ProgressBar(total=1, completed=share, width=_BAR)
        table.add_row(name, *([bar] if bars else []), value)
    return table


def _one_line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
