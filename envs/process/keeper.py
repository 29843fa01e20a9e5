"""Finds and kills what processes of a run have started, and what those have started in turn: games, above all.

Each process of a run is started with a mark in its environment, `OUTSTEP_PROCESS=<run>/<number>/...`, and whatever
descends from it inherits the mark, also what leaves its process group or loses its parent. On POSIX each leads a
process group, and those that the run's first process starts a session: so what was started with an environment of its
own is found too.

Run as a program, `keeper.py MARK`, it reads which sessions there are, `+<number> <mark>` and `-<number>`, until its
standard input closes, which it does however the process at the other end of the pipe ends. Then it kills what bears the
mark, or is of such a session. On Linux it does the same meanwhile for a session whose first process has ended, as the
run's first process may be busy. It imports nothing of ours, and little else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator

NAME = "OUTSTEP_PROCESS"
_ROUNDS, _PAUSE_SECONDS = 20, 0.01
"""A process that starts others while it is being killed is looked for again, so many times at most."""
_LOOK_SECONDS = 0.5


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


def _has_ended(pid: int) -> bool:
    """Returns whether a process has ended; False where only its parent can tell."""
    if sys.platform != "linux":
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in b"ZX"
    except OSError:
        return True


def _keep(mark: str) -> None:
    sessions: dict[int, str] = {}
    closed = threading.Event()

    def read() -> None:
        for line in sys.stdin:
            pid, _, of_session = line[1:].strip().partition(" ")
            if line[0] == "+":
                sessions[int(pid)] = of_session
            else:
                sessions.pop(int(pid), None)
        closed.set()

    threading.Thread(target=read, daemon=True).start()
    while not closed.wait(_LOOK_SECONDS):
        for pid, of_session in list(sessions.items()):
            if _has_ended(pid) and sessions.pop(pid, "") != "":
                kill_marked(of_session, (pid,))
    kill_marked(mark, sessions)


if __name__ == "__main__":
    for _number in ("SIGINT", "SIGTERM", "SIGHUP"):  # the run's, which ends as it likes
        if hasattr(signal, _number):
            signal.signal(getattr(signal, _number), signal.SIG_IGN)
    _keep(sys.argv[1])
