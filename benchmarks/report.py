"""Tables, and what a figure was measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("numpy", "gymnasium", "torch", "stable-baselines3")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns of text, the first aligned left; numbers with a comma for thousands, None as a dash."""
    lines = [list(header), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            word.ljust(width) if i == 0 else word.rjust(width) for i, (word, width) in enumerate(zip(line, widths))
        )
        for line in lines
    )


def machine() -> dict[str, object]:
    """Cores, platform and versions."""
    return {
        "cores": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
    }


def machine_line(of: Mapping[str, object] | None = None) -> str:
    """`machine()`, or what it was elsewhere, in one line."""
    known = {key: value for key, value in (of or machine()).items() if value is not None}
    return f"{known.pop('cores')} cores, {known.pop('platform')}, " + ", ".join(f"{k} {v}" for k, v in known.items())


def cell(value: object) -> str:
    """Returns a value as a table shows it: numbers with a comma for thousands, None as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
