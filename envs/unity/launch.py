"""Finds the builds of Unity games: files, and those of ML-Agents' registry."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

from envs.spec import UserError
from envs.unity.build_cache import fetch_build, find_entry


@cache
def registered_build(name: str, manifest: str | None) -> tuple[str, tuple[str, ...]]:
    """Returns the executable that ML-Agents' registry, or the file `manifest`, has under `name`, and its arguments.

    It is downloaded once.

    Raises:
        UserError: no such entry, none for this system, or it cannot be downloaded.
    """
    entry = find_entry(name, manifest)
    folder = fetch_build(name, entry)
    ending = {"linux": ".x86_64", "darwin": ".app", "win32": ".exe"}.get(sys.platform, "")
    found = sorted(path for path in folder.rglob(f"*{ending}") if not path.name.startswith("UnityCrashHandler"))
    if not found:
        raise UserError(f"env.registry={name}: {entry.url} holds no build for {_HERE} (*{ending})")
    return str(found[0]), entry.arguments


@cache
def find_executable(path: str) -> str:
    """Returns the file that starts the build at `path`, absolute.

    Raises:
        UserError: there is none, it may not be executed, or it is for another system.
    """
    from mlagents_envs.env_utils import validate_environment_path

    given = Path(path)
    bundle = given.suffix == ".app" and given.is_dir()
    if given.is_dir() and not bundle:
        inside = sorted(p.name for p in given.iterdir() if _system_of(p))
        hint = f"it holds {', '.join(inside[:5])}" if inside else "no build for this or another system is in it"
        raise UserError(f"env.executable={path} is a folder: name the build's executable in it ({hint})")
    if bundle and sys.platform != "darwin":
        raise UserError(f"env.executable={path} is a build for macOS, and this is {_HERE}: build for {_HERE}")
    found = str(given) if given.is_file() else validate_environment_path(path)
    if not found or not Path(found).is_file():
        raise UserError(f"env.executable={path} does not exist (seen from {Path.cwd()}): give the path of your build")
    system = _system_of(Path(found))
    if system is not None and system != _HERE:
        raise UserError(f"env.executable={path} is a build for {system}, and this is {_HERE}: build for {_HERE}")
    if os.name == "posix" and not os.access(found, os.X_OK):
        raise UserError(f"env.executable={found} may not be executed: chmod +x {found}")
    if system is None and not _may_run(Path(found)):
        raise UserError(f"env.executable={path} is no program: give the path of your build")
    return str(Path(found).resolve())


_HERE = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}.get(sys.platform, sys.platform)
_MACOS = (b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_MAGIC = {b"\x7fELF": "Linux", b"MZ": "Windows", **dict.fromkeys(_MACOS, "macOS")}


def _system_of(file: Path) -> str | None:
    """Returns the system that a program is for, by its first bytes; None if it is no program of a known one."""
    try:
        with file.open("rb") as opened:
            start = opened.read(4)
    except OSError:
        return None
    return next((system for magic, system in _MAGIC.items() if start.startswith(magic)), None)


def _may_run(file: Path) -> bool:
    """Returns whether a file that is no program may be started all the same: as a script."""
    if os.name != "posix":
        return file.suffix.lower() in (".bat", ".cmd")
    with file.open("rb") as opened:
        return opened.read(2) == b"#!"
