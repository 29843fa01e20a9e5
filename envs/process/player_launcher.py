"""The launcher: a small process that starts players, reports their ends, and kills them when the run is gone.

Players would outlive a trainer that is killed outright. The launcher outlives it by a moment: its socket closes, and
it kills what is left.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from envs.process import keeper
from envs.process.lifetime import (
    SIGNALS,
    bearing,
    described_end,
    end_with_launcher,
    ignore_signals,
    new_mark,
    start_without_main,
)
from envs.process.messages import Inbox, send_object, socket_pair
from envs.process.output import keep_output

_CLOSE_SECONDS, _EXIT_SECONDS = 5.0, 0.1
MOST_LOG_BYTES = 16 * 2**20
"""A file that a player logs or prints to is cut once it takes more of the disk; it is looked at every `_LOOK_SECONDS`,
and the player knows nothing of it. On Windows, where a file cannot be cut while it is written, none is."""
_LOOK_SECONDS = 0.1
_KEPT_BYTES = 2**18
"""The end of what is cut off is kept: see `earlier_log`."""


class Launched(NamedTuple):
    """A player's process has been started."""

    key: int
    pid: int


class Ended(NamedTuple):
    """A player's process has ended, or could not be started."""

    key: int
    status: int | None
    """Exit status, negative for a signal; None where `error` says why there is no process."""
    error: str = ""


class Launcher:
    """The launcher's process, and this side of its socket."""

    def __init__(self) -> None:
        ours, theirs = socket_pair()
        self.inbox = Inbox(ours)
        """Says what has happened: `Launched` and `Ended`."""
        self._process = get_context("spawn").Process(target=run_launcher, args=(theirs,), name="launcher", daemon=True)
        self._mark = new_mark()
        with bearing(self._mark):
            start_without_main(self._process)
        theirs.close()

    def launch(
        self, key: int, command: list[str], output: str, environment: dict[str, str], log: str | None = None
    ) -> None:
        """Starts a player, known as `key` from now on; its stdout and stderr go to the file `output`.

        That file and `log`, to which it writes by itself, are kept from growing without end.
        """
        self._send(("launch", key, command, output, environment, log))

    def kill(self, key: int) -> None:
        """Kills a player and all that it has started."""
        self._send(("kill", key))

    def ended(self) -> str:
        """Returns how the launcher's process ended, once its inbox is closed."""
        self._process.join(_EXIT_SECONDS)  # its socket closes a moment before its exit status is there
        return described_end(self._process.exitcode)

    def close(self) -> None:
        """Ends the launcher, which kills the players that are left."""
        with contextlib.suppress(OSError):
            self.inbox.socket.shutdown(socket.SHUT_RDWR)
        self.inbox.socket.close()
        self._process.join(_CLOSE_SECONDS)
        self._process.kill()
        self._process.join()
        keeper.kill_marked(self._mark)  # what it has left, should it have been killed

    def _send(self, command: tuple[Any, ...]) -> None:
        sock = self.inbox.socket
        with contextlib.suppress(OSError):  # it has ended, which its inbox shows
            sock.setblocking(True)
            try:
                send_object(sock, command)
            finally:
                sock.setblocking(False)


def earlier_log(file: Path) -> Path:
    """Returns where the end of what was cut off a file lies, if any was."""
    return file.with_suffix(f".earlier{file.suffix}")


def run_launcher(sock: socket.socket) -> None:
    """Main function of the launcher's process."""
    keep_output()
    ignore_signals()
    mark = os.environ[keeper.NAME]
    players: dict[int, _Player] = {}
    numbers = itertools.count(1)
    logs: dict[int, list[Path]] = {}
    events: SimpleQueue[Launched | Ended] = SimpleQueue()

    def write() -> None:
        # Apart, so that commands are read also while the manager, which sends more of them, does not read.
        with contextlib.suppress(OSError):
            while True:
                send_object(sock, events.get())

    def watch(key: int, player: _Player) -> None:
        status = player.process.wait()
        _kill(player)  # what it has left behind
        players.pop(key, None)
        for file in logs.pop(key, ()):
            _cut(file)
        events.put(Ended(key, status))

    def cut() -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            for files in list(logs.values()):
                for file in files:
                    _cut(file)

    inbox = Inbox(sock)
    sock.setblocking(True)
    threading.Thread(target=write, daemon=True).start()
    threading.Thread(target=cut, daemon=True).start()
    while not inbox.closed:
        for kind, key, *what in inbox.take():
            if kind == "kill":
                if key in players:
                    _kill(players[key])
                continue
            command, output, environment, log = what
            try:
                player = _launch(command, output, environment, f"{mark}/{next(numbers)}")
            except Exception as error:  # of whatever kind, it is this player's alone
                events.put(Ended(key, None, getattr(error, "strerror", None) or str(error)))
                continue
            players[key] = player
            logs[key] = [Path(file) for file in (output, log) if file is not None]
            events.put(Launched(key, player.process.pid))
            threading.Thread(target=watch, args=(key, player), daemon=True).start()
    left = list(players.values())
    if os.name == "posix":
        keeper.kill_marked(mark, {player.process.pid for player in left})
    else:
        for player in left:
            _kill(player)


class _Player(NamedTuple):
    process: subprocess.Popen[bytes]
    mark: str
    """That it bears, and all that it starts."""


def _launch(command: list[str], output: str, environment: dict[str, str], mark: str) -> _Player:
    # A session or group of its own: the terminal's signals are the trainer's alone, and all of it can be killed.
    options: dict[str, Any] = {"start_new_session": True, "preexec_fn": _become_player}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    Path(output).unlink(missing_ok=True)
    with open(output, "ab") as file:  # so that what comes after a cut stands at its beginning
        process = subprocess.Popen(  # noqa: S603 - the user's own build
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, keeper.NAME: mark},
            **options,
        )
    return _Player(process, mark)


def _cut(file: Path) -> None:
    """Empties a file that takes too much of the disk, and keeps its end in another."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        found = file.stat()
        # What is written behind a cut may leave a gap, which takes nothing.
        if min(found.st_size, 512 * found.st_blocks) <= MOST_LOG_BYTES:
            return
        with file.open("rb") as opened:
            opened.seek(found.st_size - _KEPT_BYTES)
            earlier_log(file).write_bytes(opened.read(_KEPT_BYTES))
        os.truncate(file, 0)


def _become_player() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    end_with_launcher()  # if the launcher itself is killed


def _kill(player: _Player) -> None:
    """Kills a player and what it has started, also what has left its session or lost its parent."""
    if sys.platform == "win32":  # where what has an environment of its own is known by its parent alone
        import psutil

        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(player.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
        player.process.kill()
    keeper.kill_marked(player.mark, (player.process.pid,))
