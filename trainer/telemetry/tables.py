"""Tables on the terminal, which commands end with."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table


def table_of(headings: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[str]) -> Table:
    """Returns a table without lines. Columns with headings in `texts` stand left, figures right; all lines fold."""
    shown = Table(box=None, pad_edge=False)
    for heading in headings:
        shown.add_column(heading, justify="left" if heading in texts else "right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    return shown


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[str], plain_width: int
) -> None:
    """Prints it; `plain_width` are its columns where it does not go to a terminal."""
    width = None if sys.stdout.isatty() else plain_width
    Console(highlight=False, width=width).print(table_of(headings, rows, texts))
