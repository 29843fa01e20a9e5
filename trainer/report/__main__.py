"""`outstep report run=runs/…`: writes one HTML page of a run, which needs nothing beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.config.command import run_command
from trainer.config.saved import read_config
from trainer.config.schema import ReportConfig
from trainer.report.output import check_page, write_page


def main(argv: Sequence[str] | None = None) -> int:
    """Writes one HTML page that shows a run."""
    return run_command(argv, ReportConfig, "report", _check, _report)


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
