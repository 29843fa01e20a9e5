"""`outstep report run=runs/…`: writes one HTML page of a run, which needs nothing beside it.

Of several runs (`outstep report runs/a runs/b`, or `run=runs/a,runs/b`) it is the page of `outstep compare`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.config.command import run_command
from trainer.config.runs import named_folders
from trainer.config.saved import read_config
from trainer.config.schema import ReportConfig
from trainer.report.output import check_page, write_page


def main(argv: Sequence[str] | None = None) -> int:
    """Writes one HTML page that shows a run, or several with their curves over each other."""
    words = list(sys.argv[1:] if argv is None else argv)
    folders, rest = named_folders(words)
    given = [word for word in rest if word.startswith("run=")]
    runs = [run for word in given for run in _listed(word.removeprefix("run="))] + folders
    if len(runs) > 1 and not {"-m", "--multirun"} & set(words):  # with -m each has a page of its own
        from trainer.compare.__main__ import main as compare  # which is made of this package

        return compare([*runs, *(word for word in rest if word not in given)])
    return run_command([*rest, *(f"run={run}" for run in folders)], ReportConfig, "report", _check, _report)


def _listed(runs: str) -> list[str]:
    """Returns the folders in a list such as `runs/a,runs/b`; a single one may have commas itself."""
    return [runs] if Path(runs).exists() else runs.strip("[]").split(",")


def _check(config: ReportConfig) -> None:
    read_config(config.run, config.trust)
    check_page(_file(config))


def _report(config: ReportConfig) -> int:
    from trainer.report.page import page_of  # jinja2 is of an extra

    write_page(_file(config), page_of(Path(config.run), config.trust))
    return 0


def _file(config: ReportConfig) -> Path:
    return Path(config.to) if config.to is not None else Path(config.run) / "report.html"


if __name__ == "__main__":
    sys.exit(main())
