"""Traces a short time of each of a run's processes, by torch's profiler (`run.profile=true`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from trainer.config.schema import RunConfig

_WARM_UP_SECONDS = 5.0
_SECONDS = 1.0
_TURNS = 100
"""100 updates of SAC on the CPU are some 50 MB of JSON, or 2 MB compressed. A PPO update is never cut."""


def tracer(config: RunConfig, folder: Path, process: str) -> Callable[[], None]:
    """Returns the function that a process calls after each turn; it does nothing unless the run asks for traces.

    The trace begins with the first turn that ends 5 s after the first of all, and ends after 100 turns or after 1 s,
    whichever comes first. It is written to `<folder>/profile/<process>.pt.trace.json.gz`, and nothing is traced after.
    """
    return _Tracer(folder / "profile" / f"{process}.pt.trace.json.gz").turned if config.profile else lambda: None


class _Tracer:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._began: float | None = None
        self._turns = -1  # before the trace
        self._done = False

    def turned(self) -> None:
        if self._done:
            return
        now = time.perf_counter()
        self._began = now if self._began is None else self._began
        if self._turns >= 0:
            self._turns += 1
            if self._turns >= _TURNS or now >= self._began + _SECONDS:
                self._write()
        elif now >= self._began + _WARM_UP_SECONDS:
            from torch.profiler import profile  # not above: processes start faster without

            self._profile = profile(with_stack=True)  # no activities named: those of the GPU too, where there is one
            self._profile.start()
            self._began, self._turns = time.perf_counter(), 0

    def _write(self) -> None:
        self._done = True
        self._profile.stop()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._profile.export_chrome_trace(str(self._file))
        del self._profile
