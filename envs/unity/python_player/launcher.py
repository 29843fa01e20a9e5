"""A small file that starts our player as an executable, so that any ML-Agents client can launch it like a build."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]
"""The folder that holds `envs`."""


def write_launcher(path: str | Path, words: Sequence[str]) -> Path:
    """Writes an executable that starts a player with `words` and what it is itself called with, from any folder.

    Modules are found as they are here and now. On Linux ML-Agents likes a name that ends in `.x86_64`; a name that ends
    in `.app` becomes a macOS bundle; on Windows `.bat` is added.

    Returns:
        The absolute path to start: the file, or the bundle.
    """
    path = Path(path).absolute()
    folders = list(dict.fromkeys([str(_ROOT), os.getcwd()]))
    command = [sys.executable, "-m", "envs.unity.python_player", *words]
    if sys.platform == "win32":
        file = path = path if path.suffix == ".bat" else path.with_name(f"{path.name}.bat")
        text = _batch(folders, command)
    else:
        file = path / "Contents" / "MacOS" / path.stem if path.suffix == ".app" else path
        text = _shell(folders, command)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)
    return path


def _shell(folders: Sequence[str], command: Sequence[str]) -> str:
    found = shlex.quote(os.pathsep.join(folders))
    # exec: the process that a client started, and may kill, is the player itself.
    return (
        f'#!/bin/sh\nPYTHONPATH={found}"${{PYTHONPATH:+:$PYTHONPATH}}"\nexport PYTHONPATH\n'
        f'exec {shlex.join(command)} "$@"\n'
    )


def _batch(folders: Sequence[str], command: Sequence[str]) -> str:
    line = subprocess.list2cmdline(command).replace("%", "%%")
    return f'@echo off\nset "PYTHONPATH={os.pathsep.join(folders)};%PYTHONPATH%"\n{line} %*\n'
