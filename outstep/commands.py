"""The commands of `outstep`, and how one is run. A new built-in one is a line here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from envs.imports import Registry
from envs.spec import UserError

COMMANDS: Registry[Callable[[Sequence[str]], int]] = Registry(
    "command",
    "outstep.commands",
    {
        "train": "trainer.__main__:main",
        "sweep": "trainer.sweep.__main__:main",
        "check": "trainer.check.__main__:main",
        "evaluate": "trainer.evaluate.__main__:main",
        "report": "trainer.report.__main__:main",
        "compare": "trainer.compare.__main__:main",
        "export": "trainer.export.__main__:main",
        "push": "trainer.push.__main__:main",
        "serve": "trainer.serve.__main__:main",
        "record": "trainer.record.__main__:main",
        "demos": "trainer.demos.__main__:main",
        "convert": "trainer.convert.__main__:main",
        "sagemaker": "trainer.sagemaker.__main__:main",
        "container": "trainer.container.__main__:main",
        "completion": "outstep.completion:main",
        "player": "envs.unity.python_player.__main__:main",
    },
)
"""Functions that take the words behind the command's name and return the exit status."""


_OTHERS = {
    **dict.fromkeys(("resume", "continue"), "train resume=runs/..."),
    **dict.fromkeys(("eval", "enjoy", "test", "play"), "evaluate run=runs/..."),
    **dict.fromkeys(("learn", "run", "start"), "train"),
}
"""What is meant by names that other programs give to our commands."""


def run(words: Sequence[str]) -> int:
    """Runs the command that the first of `words` names on the others.

    Returns:
        Its exit status; 2 for an unknown command, with one message on stderr.
    """
    try:
        if "=" in words[0] or words[0].startswith("-"):
            setting = words[0].lstrip("-")
            setting = setting if "=" in setting else f"{setting}=..."
            raise UserError(f"{words[0]} is not a command: write outstep train {setting}; see --help")
        if words[0] in _OTHERS and words[0] not in COMMANDS.names():
            raise UserError(f"{words[0]} is not a command: write outstep {_OTHERS[words[0]]}; see --help")
        command = COMMANDS.find(words[0], "")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return command(words[1:])


def usage() -> str:
    """Returns the help: every command with one line."""
    about = {name: COMMANDS.summary(name) for name in COMMANDS.names()}
    width = max(map(len, about))
    lines = [f"  {name:<{width}}  {text}".rstrip() for name, text in about.items()]
    return "\n".join(["usage: outstep COMMAND …, outstep COMMAND --help, outstep --version", "", "commands:", *lines])
