"""`outstep player env=... [key=value ...] [flags of Unity's] [launcher=<path>]`: `options` lists the words.

`python -m envs.unity.python_player` does the same, where the folder has no `envs` of its own.

With `launcher=<path>` nothing is served: an executable file is written there that starts this player with the same
words. Status 0: the trainer ended it; 1: the trainer sent what cannot be used, or the env failed; 2: a wrong argument.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from envs.process.lifetime import wait_precisely
from envs.process.output import keep_output
from envs.spec import UserError
from envs.unity.python_player import options
from envs.unity.python_player.faults import claimed_fault, stop_before_connecting
from envs.unity.python_player.launcher import write_launcher
from envs.unity.python_player.options import At, Options, parse


def main(arguments: Sequence[str]) -> int:
    """Plays a Gymnasium environment as a Unity player, for any ML-Agents client.

    Runs the command line `arguments` (without the program's name) and returns the exit status.
    """
    keep_output()
    if "--help" in arguments or "-h" in arguments:
        print(options.__doc__)
        return 0
    words = [word for word in arguments if not word.startswith("launcher=")]
    launchers = [word.partition("=")[2] for word in arguments if word.startswith("launcher=")]
    try:
        chosen = parse(words)
        chosen.env.check()
        if launchers:
            print(write_launcher(launchers[-1], words))
            return 0
        if chosen.log:
            _print_to(chosen.log)
        fault = claimed_fault(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    time.sleep(chosen.delay)
    stop_before_connecting(fault)
    try:
        return _serve(chosen, fault)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _serve(options: Options, fault: At | None) -> int:
    # Not before, as they take longest to import.
    from envs.unity.python_player.connection import Closed, connected
    from envs.unity.python_player.serving import PlayerClient

    wait_precisely()
    print(f"Player of {options.env.id}: connects to port {options.port}.", flush=True)
    try:
        with connected(options.port) as exchange:
            PlayerClient(options, fault, exchange).run()
    except Closed as end:
        print(f"Player of {options.env.id}: ends, as {end}.", flush=True)
    return 0


def _print_to(file: str) -> None:
    """Sends what this process and its libraries print to `file`; `-`, as for Unity, leaves it where it goes."""
    if file == "-":
        return
    try:
        target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError as error:
        raise UserError(f"-logFile {file}: this file cannot be written ({error}).") from error
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(target, stream.fileno())
    os.close(target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
