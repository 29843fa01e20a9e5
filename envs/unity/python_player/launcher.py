"""A small file that starts our player as an executable, so that any ML-Agents client can launch it like a build."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from envs.imports import absolute
from envs.own_folders import command


def write_launcher(path: str | Path, words: Sequence[str]) -> Path:
    """Writes an executable that starts a player with `words` and its own arguments, from any folder.

    Modules are found as they are here and now. On Linux ML-Agents likes a name that ends in `.x86_64`; a name that ends
    in `.app` becomes a macOS bundle; on Windows `.bat` is added. Returns the absolute path to start: file or bundle.
    """
    path = Path(path).absolute()
    words = [f"env={absolute(word[4:])}" if word.startswith("env=") else word for word in words]
    starts = command("envs.unity.python_player.__main__", *words)
    if sys.platform == "win32":
        file = path = path if path.suffix == ".bat" else path.with_name(f"{path.name}.bat")
        line = subprocess.list2cmdline(starts).replace("%", "%%")
        text = f"@echo off\n{line} %*\n"
    else:
        file = path / "Contents" / "MacOS" / path.stem if path.suffix == ".app" else path
        # exec: the process that a client started, and may kill, is the player itself.
        text = f'#!/bin/sh\nexec {shlex.join(starts)} "$@"\n'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)
    return path
