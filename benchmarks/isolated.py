"""Functions that run in a process of their own, within a time limit: what one does harms no other.

An error of CUDA spoils its process for good, and a call that hangs cannot be broken off; another process can.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Timer
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]


class FailedError(Exception):
    """A function that raised, or did not end in time."""


def results(path: str, seconds: float) -> Iterator[Any]:
    """Calls the generator function at `path` (`package.module:function`) in another process, for `seconds` at most.

    Yields what it yields, which must be JSON, as it comes. What it prints goes to stderr. Raises FailedError after the
    results that came before, with what it raised in one line.
    """
    command = [sys.executable, "-m", "benchmarks.isolated", path]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:  # noqa: S603
        late = Timer(seconds, _kill, [process])
        late.start()
        error = None
        try:
            for line in process.stdout or ():
                if not line.endswith("\n"):
                    break  # it was killed as it wrote
                kind, value = json.loads(line)
                if kind == _RESULT:
                    yield value
                else:
                    error = value
            status = process.wait()
        finally:
            in_time = late.is_alive()
            late.cancel()
            _kill(process)  # and what it started
    if not in_time:
        raise FailedError(f"not done within {seconds:g} s")
    if error is not None:
        raise FailedError(error)
    if status:
        raise FailedError(f"its process ended with status {status}")


_RESULT, _ERROR = "result", "error"


def _kill(process: subprocess.Popen[str]) -> None:
    """Kills a process, and on POSIX all that it has started."""
    if sys.platform == "win32":
        process.kill()
        return
    with suppress(ProcessLookupError, PermissionError):  # the second on macOS, where all have ended
        os.killpg(process.pid, signal.SIGKILL)


def _call(path: str) -> int:
    """Calls the function, and writes a line for each result where stdout was; all else goes to stderr."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)

        def send(kind: str, value: Any) -> None:
            print(json.dumps([kind, value]), file=out, flush=True)

        try:
            module, _, name = path.partition(":")
            function: Callable[[], Iterator[Any]] = getattr(import_module(module), name)
            for value in function():
                send(_RESULT, value)
        except Exception as error:
            traceback.print_exc()
            send(_ERROR, " ".join(f"{type(error).__name__}: {error}".split()))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(_call(sys.argv[1]))
