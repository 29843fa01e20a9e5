"""`outstep compare runs/a runs/b …`: prints a table of several runs, and draws their curves over each other."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from envs.spec import UserError
from trainer.config.command import run_command
from trainer.config.runs import LATEST, found_run, named_folders
from trainer.config.saved import read_config
from trainer.config.schema import CompareConfig
from trainer.report.output import check_page, write_page
from trainer.telemetry.tables import print_table

_PLAIN_WIDTH = 160
"""Columns of the table where it does not go to a terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Compares runs: a table, and a page with their curves over each other."""
    runs, rest = named_folders(sys.argv[1:] if argv is None else argv)
    quoted = ",".join("'{}'".format(run.replace("\\", "\\\\").replace("'", "\\'")) for run in runs)
    return run_command([*rest, *([f"runs=[{quoted}]"] if runs else [])], CompareConfig, "compare", _check, _compare)


def _check(config: CompareConfig) -> None:
    folders = _folders(config)
    if len(folders) < 2:
        raise UserError(f"compare takes two or more folders of runs, such as runs/a runs/b; given: {len(folders)}")
    if twice := [folder for folder in folders if folders.count(folder) > 1]:
        raise UserError(f"{twice[0]} is named twice: name each run once")
    for folder in folders:
        read_config(folder, config.trust)
    check_page(Path(config.to))


def _compare(config: CompareConfig) -> int:
    from trainer.compare.groups import common_metrics, grouped_runs
    from trainer.compare.page import comparison_page, table  # jinja2 is of an extra

    groups = grouped_runs(_folders(config), config.trust)
    if not common_metrics(groups):
        raise UserError("these runs have no metric in common: compare runs that have logged at least once")
    headings, rows = table(groups)
    print_table(headings, rows, headings[:1], _PLAIN_WIDTH)
    write_page(Path(config.to), comparison_page(groups))
    return 0


def _folders(config: CompareConfig) -> list[Path]:
    return [Path(found_run(run) if run == LATEST else run).expanduser() for run in config.runs]


if __name__ == "__main__":
    sys.exit(main())
