"""Memory of a run, added up before the first step: one that cannot fit is refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil

from envs.spec import UserError


def reckon(wanted: Sequence[tuple[str, int]]) -> int:
    """Returns the bytes that a run wants in all, (name, bytes) each; UserError if so many are not available now."""
    total = sum(size for _, size in wanted)
    available = available_memory()
    if total > available:
        parts = ", ".join(f"{name} {_words(size)}" for name, size in wanted)
        raise UserError(
            f"the run wants {_words(total)} of memory ({parts}), but {_words(available)} are available: "
            "ask for smaller buffers, or free memory"
        )
    return total


def available_memory(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that processes can still claim: what the machine has left, or a container's limit where that is lower."""
    available = int(psutil.virtual_memory().available)
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            # `max`, no number, means unlimited. The file cache counts as used, but yields when memory is wanted.
            stat = (cgroups / limit).with_name("memory.stat").read_text().split()
            cache = int(stat[stat.index("inactive_file") + 1])
            left = int((cgroups / limit).read_text()) - int((cgroups / usage).read_text()) + cache
        except (OSError, ValueError):
            continue
        available = min(available, max(0, left))
    return available


def _words(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
