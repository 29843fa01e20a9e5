"""Where pages go: what is checked before one is made, and how it is written."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from envs.process.whole_files import write_whole
from envs.spec import UserError


def check_page(to: Path) -> None:
    """Raises UserError if a page cannot be written to the file `to`, or a library is missing that makes it."""
    if to.is_dir():
        raise UserError(f"to={to} is a folder: name a file that ends in .html")
    for library in ("matplotlib", "jinja2"):
        if find_spec(library) is None:
            raise UserError(f"{library} is missing: pip install 'outstep[report]'")


def write_page(to: Path, page: str) -> None:
    """Writes a page and prints its name and size; UserError if the file cannot be written."""
    try:
        write_whole(to, page.encode(errors="backslashreplace"))
    except OSError as error:
        raise UserError(f"{to} cannot be written ({error.strerror}): name another file, to=") from error
    print(f"{to}: {len(page) / 2**20:.1f} MiB")
