"""`outstep COMMAND …`: all commands under one name; `outstep --help` lists them, `outstep COMMAND --help` says more.

`outstep train …` does what `python -m trainer …` does, also in a folder that holds a `trainer.py` or `trainer/`, which
Python would run in its place; `outstep evaluate …` does what `python -m trainer.evaluate …` does; and so on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from envs.own_folders import ours_first
from envs.process.output import keep_output
from outstep import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (without the program's name) and returns the exit status: 2 for bad input."""
    keep_output()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["-V"], ["version"]) or words[:2][-1:] == ["--version"]:
        print(f"outstep {__version__}")
        return 0
    if words[:1] == ["completion"]:  # a shell waits for it
        from outstep.completion import main as complete

        return complete(words[1:])
    ours_first(os.getcwd())  # there, as for `python -m`, a user's own modules are found
    # Not before, so that `--version` answers at once.
    from outstep.commands import run, usage

    if words[:1] in (["-h"], ["--help"], ["help"]):
        words = [*words[1:], "--help"] if words[1:] else []
    if not words:
        print(usage())
        return 0
    return run(words)


if __name__ == "__main__":
    sys.exit(main())
