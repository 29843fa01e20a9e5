"""How a Unity player is started: a build, one of ML-Agents' registry, our own player, or the Editor by hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from envs import own_folders
from envs.spec import UserError
from envs.unity.channels import Engine, check_channels, check_parameters


@dataclass(frozen=True)
class UnityEnv:
    """How to start one Unity player. Without `executable` and `player`: the Editor, where a person presses Play."""

    executable: str | None = None
    """Path of a build, as the user wrote it: `Builds/Game`, `Builds/Game.x86_64`, `Game.app`, `Game.exe`."""
    player: tuple[str, ...] | None = None
    """Words for our own player: `("env=basic", "agents=2")`."""
    args: tuple[str, ...] = ()
    """Further arguments of the player's command line."""
    no_graphics: bool = False
    port: int = 5004
    """Where the Editor is waited for."""
    num_areas: int = 1
    """Copies of the training area that the player is asked for."""
    engine: Engine = field(default_factory=Engine)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Environment parameters, by name: numbers and samplers."""
    channels: tuple[str, ...] = ()
    """Import paths of the user's own side channels."""
    connect_timeout: float = 60.0
    """Seconds that a player has to connect and to send its first agents."""

    @property
    def editor(self) -> bool:
        """Whether a person starts the game in the Editor."""
        return self.executable is None and self.player is None

    def check(self, instances: int) -> None:
        """Refuses what could not run.

        Raises:
            UserError: a file that is none, or not for this system; several Editors; wrong parameters or channels.
        """
        if self.editor and instances != 1:
            raise UserError(
                f"env.instances={instances}, but the Unity Editor plays one game: give env.executable=<your build> for "
                "more, or env.instances=1"
            )
        if not 0 < self.port < 65536:
            raise UserError(f"env.port={self.port} must lie between 1 and 65535; the Editor uses 5004")
        if self.executable is not None:
            find_executable(self.executable)
        check_parameters(self.parameters)
        check_channels(self.channels)

    def command(self, port: int, log: Path) -> list[str] | None:
        """The command line that starts a player which connects to `port`; None for the Editor."""
        if self.executable is not None:
            command = [find_executable(self.executable)]
        elif self.player is not None:
            command = own_folders.command("envs.unity.python_player.__main__", *self.player)
        else:
            return None
        if self.no_graphics:
            command += ["-nographics", "-batchmode"]
        command += ["--mlagents-port", str(port)]
        if "-logfile" not in (argument.lower() for argument in self.args):
            command += ["-logFile", str(log)]
        return [*command, *self.args]

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that a player is given beside our own."""
        # Else gRPC would dial even this machine through a proxy.
        return {"no_proxy": ",".join(filter(None, (os.environ.get("no_proxy"), "localhost,127.0.0.1,::1")))}


def registered_build(name: str, manifest: str | None) -> tuple[str, tuple[str, ...]]:
    """Returns the executable that ML-Agents' registry, or the file `manifest`, has under `name`, and its arguments.

    It is downloaded once.

    Raises:
        UserError: no such entry, none for this system, or it cannot be downloaded.
    """
    from mlagents_envs.registry import UnityEnvRegistry, default_registry
    from mlagents_envs.registry.binary_utils import get_local_binary_path

    registry: Any = default_registry
    if manifest is not None:
        if not Path(manifest).is_file():
            raise UserError(f"env.manifest={manifest}: there is no such file")
        registry = UnityEnvRegistry()
    try:
        if manifest is not None:
            registry.register_from_yaml(str(Path(manifest).resolve()))
        known = sorted(registry)
    except Exception as error:  # the library lets pass whatever its parser or the network raises
        what = f"env.manifest={manifest}" if manifest else "ML-Agents' registry"
        raise UserError(f"{what} cannot be read: {' '.join(str(error).split())}") from error
    if name not in known:
        raise UserError(f"env.registry={name}: there is no such entry, but {', '.join(known) or 'none at all'}")
    entry = registry[name]
    system = {"linux": "linux", "darwin": "darwin", "win32": "win"}.get(sys.platform, sys.platform)
    url = getattr(entry, f"_{system}_url", None)
    if not url:
        raise UserError(f"env.registry={name}: the registry has no build of it for {sys.platform}")
    try:
        executable = get_local_binary_path(entry.identifier, url)
    except Exception as error:  # as above
        raise UserError(f"env.registry={name}: {url} cannot be downloaded: {error}") from error
    return executable, tuple(getattr(entry, "_add_args", None) or ())


@cache
def find_executable(path: str) -> str:
    """The file that starts the build at `path`, absolute.

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
_MAGIC = {
    b"\x7fELF": "Linux",
    b"MZ": "Windows",
    b"\xfe\xed\xfa\xce": "macOS",
    b"\xfe\xed\xfa\xcf": "macOS",
    b"\xce\xfa\xed\xfe": "macOS",
    b"\xcf\xfa\xed\xfe": "macOS",
    b"\xca\xfe\xba\xbe": "macOS",
}


def _system_of(file: Path) -> str | None:
    """The system that a program is for, by its first bytes; None if it is no program of a known one."""
    try:
        with file.open("rb") as opened:
            start = opened.read(4)
    except OSError:
        return None
    return next((system for magic, system in _MAGIC.items() if start.startswith(magic)), None)


def _may_run(file: Path) -> bool:
    """Whether a file that is no program may be started all the same: as a script."""
    if os.name != "posix":
        return file.suffix.lower() in (".bat", ".cmd")
    with file.open("rb") as opened:
        return opened.read(2) == b"#!"
