"""Time-outs without waiting: managers read a clock that a test can move on."""

from __future__ import annotations

import sys
import time

import pytest


class Clock:
    """The module `time`, `ahead` seconds ahead of it."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What all modules of `envs` in this process take for `time`. Workers and players have a clock of their own."""
    clock = Clock()
    for name, module in list(sys.modules.items()):
        if name.startswith("envs.") and getattr(module, "time", None) is time:
            monkeypatch.setattr(module, "time", clock)
    return clock
