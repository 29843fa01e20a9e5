"""Finds and kills what processes of a run have started, and what those have started in turn: games, above all.

Each process of a run is started with a mark in its environment, `OUTSTEP_PROCESS=<run>/<number>/...`, and whatever
descends from it inherits the mark, also what leaves its process group or loses its parent. On POSIX each leads a
process group, and those that the run's first process starts a session: so what was started with an environment of its
own is found too.

Run as a program, `keeper.py MARK`, it reads which sessions there are, `+<number>` and `-<number>`, until its standard
input closes, which it does however the process at the other end of the pipe ends. Then it kills what bears the mark, or
is of such a session. It imports nothing of ours, and little else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection, Iterator

NAME = "OUTSTEP_PROCESS"
_ROUNDS, _PAUSE_SECONDS = 20, 0.01
"""A process that starts others while it is being killed is looked for again, so many times at most."""


def kill_marked(mark: str, groups: Collection[int] = ()) -> None:
    """Kills all that bear `mark` or one that goes on from it, or belong to one of these POSIX groups or sessions.

    This process is spared. Those of other users, and of systems that tell nothing of a process, are not found.
    """
    for _ in range(_ROUNDS):
        found = False
        for pid in _marked(mark, groups):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
                found = True
        if not found:
            return
        time.sleep(_PAUSE_SECONDS)


def _marked(mark: str, groups: Collection[int]) -> Iterator[int]:
    own = os.getpid()
    if sys.platform == "linux":
        wanted = (f"{NAME}={mark}\0".encode(), f"{NAME}={mark}/".encode())
        for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
            if pid == own:
                continue
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/stat", "rb") as file:
                    state, _, group, session = file.read().rpartition(b") ")[2].split(maxsplit=4)[:4]
                if state == b"Z":  # has ended, and waits for its parent to take note
                    continue
                if int(group) in groups or int(session) in groups:
                    yield pid
                    continue
                with open(f"/proc/{pid}/environ", "rb") as file:
                    environment = b"\0" + file.read() + b"\0"
                if any(b"\0" + each in environment for each in wanted):
                    yield pid
        return
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == own or process.status() == psutil.STATUS_ZOMBIE:
                continue
            seen = process.environ().get(NAME, "")
            of = {os.getpgid(process.pid), os.getsid(process.pid)} if os.name == "posix" else set()
            if seen == mark or seen.startswith(f"{mark}/") or of & set(groups):
                yield process.pid


if __name__ == "__main__":
    for _number in ("SIGINT", "SIGTERM", "SIGHUP"):  # the run's, which ends as it likes
        if hasattr(signal, _number):
            signal.signal(getattr(signal, _number), signal.SIG_IGN)
    _sessions: set[int] = set()
    for _line in sys.stdin:
        (_sessions.add if _line[0] == "+" else _sessions.discard)(int(_line[1:]))
    kill_marked(sys.argv[1], _sessions)
