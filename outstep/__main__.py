"""`outstep COMMAND …`: all commands under one name; `outstep --help` lists them, `outstep COMMAND --help` says more.

`outstep train …` does what `python -m trainer …` does, also in a folder that holds a `trainer.py` or `trainer/`, which
Python would run in its place; `outstep evaluate …` does what `python -m trainer.evaluate …` does; and so on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from envs.imports import Registry
from envs.own_folders import ours_first
from envs.spec import UserError
from outstep import __version__

COMMANDS: Registry[Callable[[Sequence[str]], int]] = Registry(
    "command",
    "outstep.commands",
    {
        "train": "trainer.__main__:main",
        "evaluate": "trainer.evaluate.__main__:main",
        "report": "trainer.report.__main__:main",
        "export": "trainer.export.__main__:main",
        "serve": "trainer.serve.__main__:main",
        "record": "trainer.record.__main__:main",
        "demos": "trainer.demos.__main__:main",
        "convert": "trainer.convert.__main__:main",
        "sagemaker": "trainer.sagemaker.__main__:main",
        "container": "trainer.container.__main__:main",
        "player": "envs.unity.python_player.__main__:main",
    },
)
"""Functions that take the words behind the command's name and return the exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (without the program's name) and returns the exit status: 2 for bad input."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if words[0] == "--version":
        print(f"outstep {__version__}")
        return 0
    ours_first(os.getcwd())  # there, as for `python -m`, a user's own modules are found
    try:
        if "=" in words[0]:
            raise UserError(f"{words[0]} is not a command: write outstep train {words[0]}")
        command = COMMANDS.find(words[0], "")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return command(words[1:])


def _usage() -> str:
    about = {name: COMMANDS.summary(name) for name in COMMANDS.names()}
    width = max(map(len, about))
    lines = [f"  {name:<{width}}  {text}".rstrip() for name, text in about.items()]
    return "\n".join(["usage: outstep COMMAND …, outstep COMMAND --help, outstep --version", "", "commands:", *lines])


if __name__ == "__main__":
    sys.exit(main())
