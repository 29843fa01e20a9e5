"""`outstep report run=runs/…`: writes one HTML page of a run, which needs nothing beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from envs.process.whole_files import write_whole
from envs.spec import UserError
from trainer.config.command import run_command
from trainer.config.saved import read_config
from trainer.config.schema import ReportConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Writes one HTML page that shows a run."""
    return run_command(argv, ReportConfig, "report", _check, _report)


def _check(config: ReportConfig) -> None:
    read_config(config.run, config.trust)
    to = _file(config)
    if to.is_dir():
        raise UserError(f"to={to} is a folder: name a file that ends in .html")
    for library in ("matplotlib", "jinja2"):
        if find_spec(library) is None:
            raise UserError(f"{library} is missing: pip install 'outstep[report]'")


def _report(config: ReportConfig) -> int:
    from trainer.report.page import page_of  # jinja2 is of an extra

    to, page = _file(config), page_of(Path(config.run), config.trust)
    try:
        write_whole(to, page.encode(errors="backslashreplace"))
    except OSError as error:
        raise UserError(f"{to} cannot be written ({error.strerror}): name another file, to=") from error
    print(f"{to}: {len(page) / 2**20:.1f} MiB")
    return 0


def _file(config: ReportConfig) -> Path:
    return Path(config.to) if config.to is not None else Path(config.run) / "report.html"


if __name__ == "__main__":
    sys.exit(main())
