"""How many cores a process may use."""

from __future__ import annotations

import os
import sys

SHARE = "OUTSTEP_CORES"
"""The environment variable by which what starts several runs at once gives each a share of the cores."""


def cores() -> int:
    """Returns the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def own_cores() -> int:
    """Returns those that its run may use: its share, if it was given one."""
    share = os.environ.get(SHARE, "")
    return min(cores(), max(1, int(share))) if share.isdecimal() else cores()
