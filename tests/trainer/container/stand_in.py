"""Stands in for `ray start`: the head listens at its port, and nodes stay as long as it does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path


def main(words: list[str]) -> int:
    """Writes one line about each start into the file in `STAND_IN_LOG`."""
    options = dict(word.lstrip("-").split("=", 1) for word in words if "=" in word)
    own = options["node-ip-address"]
    if "--stay" not in words:
        with Path(os.environ["STAND_IN_LOG"]).open("a") as log:
            log.write(f"{'head' if '--head' in words else 'node'} {own}\n")
    if "--head" in words and "--stay" not in words:
        subprocess.Popen([sys.executable, __file__, *words, "--stay"], start_new_session=True)
        return 0
    if "--head" in words:
        with socket.create_server((own, int(options["port"]))):
            signal.pause()
    host, _, port = options["address"].rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        return len(connection.recv(1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
