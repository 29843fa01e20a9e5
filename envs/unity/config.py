"""The settings of Unity players."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from envs import own_folders
from envs.config import EnvConfig, path_field, setting
from envs.imports import imported
from envs.spec import UserError

# Whatever serves Unity is imported where it is used: mlagents-envs takes a while to import.
if TYPE_CHECKING:
    from envs.api import Manager, Setup

_INT, _FLOAT = 2**31 - 1, 3e38
"""The largest numbers that players can be sent."""


@dataclass
class UnityConfig(EnvConfig):
    """Unity players. At most one of `executable`, `registry` and `player`; without any, the Editor is waited for."""

    instances: int = setting(1, above=0, at_most=2**16)
    """Running players. More: more samples a second, until cores run out. The Editor is one. Usual: 1 to 32."""
    executable: str | None = path_field()
    """Path of a build that is played; null = none."""
    registry: str | None = None
    """Name of a build in ML-Agents' registry, which is downloaded once; null = none."""
    manifest: str | None = path_field()
    """A registry file of one's own; null = that of ML-Agents."""
    player: str | None = path_field()
    """Words for our own player, which serves a Gymnasium env: `env=basic agents=2`; null = it is not used."""
    args: list[str] = field(default_factory=list)
    """Further arguments of the player's command line."""
    no_graphics: bool = False
    """Whether players draw nothing. Visual observations need graphics."""
    time_scale: float = setting(20.0, above=0, at_most=_FLOAT)
    """How much faster than real time games run: 1 is real time. Usual: 1 to 100."""
    port: int = setting(5004, at_least=1, at_most=65535)
    """Port at which the Editor is waited for. Unity asks for 5004."""
    num_areas: int = setting(1, above=0)
    """Copies of the training area that each player is asked for. Usual: 1 to 64."""
    connect_timeout: float = setting(60.0, above=0)
    """Seconds that a player has to connect and to send its first agents. Usual: 30 to 300."""
    width: int = setting(84, above=0, at_most=_INT)
    """Pixels of the player's window from left to right."""
    height: int = setting(84, above=0, at_most=_INT)
    """Pixels of the player's window from top to bottom."""
    quality_level: int = setting(5, at_least=0, at_most=_INT)
    """Unity's quality level: 0 is the fastest."""
    target_frame_rate: int = setting(-1, at_least=-1, at_most=_INT)
    """Frames a second that the player aims for; -1 = as many as it can."""
    capture_frame_rate: int = setting(60, at_least=0, at_most=_INT)
    """Frames a second of game time; 0 = as real time goes."""
    channels: list[str] = field(default_factory=list)
    """Side channels of one's own: import paths (`package.module:Class`)."""

    channels_last: ClassVar[bool] = True
    sends_statistics: ClassVar[bool] = True
    takes_parameters: ClassVar[bool] = True

    def make_manager(self, setup: Setup) -> Manager:  # noqa: D102
        manager: Manager = imported("envs.unity.manager:UnityManager", "env")(self, setup)
        return manager

    def make_surveyed(self, setup: Setup) -> tuple[Manager, Callable[[], list[str]]]:  # noqa: D102
        manager = imported("envs.unity.surveyed:SurveyedManager", "env")(self, setup)
        return manager, manager.about

    @property
    def label(self) -> str:  # noqa: D102
        return f"Unity: {self.executable or self.registry or self.player or 'the Editor'}"

    @property
    def engine(self) -> dict[str, Any]:
        """Settings of the player's engine."""
        names = ("width", "height", "quality_level", "time_scale", "target_frame_rate", "capture_frame_rate")
        return {name: getattr(self, name) for name in names}

    @property
    def editor(self) -> bool:
        """Whether a person starts the game in the Editor."""
        return self.executable is None and self.registry is None and self.player is None

    @property
    def rows_at_once(self) -> int:  # noqa: D102
        return self.instances * self.num_areas

    def check(self) -> None:  # noqa: D102
        from envs.unity.channels import check_channels
        from envs.unity.protocol.server import check_port
        from envs.unity.python_player.options import parse

        super().check()
        sources = {"executable": self.executable, "registry": self.registry, "player": self.player}
        given = [f"env.{key}={value}" for key, value in sources.items() if value is not None]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)}: a player comes from one of them, leave out the others")
        if self.manifest is not None and self.registry is None:
            raise UserError(f"env.manifest={self.manifest} needs env.registry: which of its builds to play")
        if self.editor and self.instances != 1:
            raise UserError(
                f"env.instances={self.instances}, but the Unity Editor plays one game: give env.executable=<your "
                "build> for more, or env.instances=1"
            )
        self.command(self.port, Path())
        for name in self.parameters:
            if not str(name) or not str(name).isascii():
                raise UserError(f"env.parameters.{name}: a parameter's name must be text of ASCII characters")
        check_channels(self.channels)
        if self.editor:
            check_port(self.port)
        elif self.player is not None:
            try:
                parse(shlex.split(self.player)).env.check()
            except UserError as error:
                raise UserError(f"env.player={self.player}: {error}") from error

    def filmed(self, folder: Path) -> UnityConfig:  # noqa: D102
        raise UserError("video=true: a Unity player draws in a window of its own, which cannot be filmed from here")

    def with_files(self, folders: Mapping[str, Path]) -> UnityConfig:
        """Returns the same with the executable of the only game in `folders`, which is made executable.

        Raises:
            UserError: there is none, or several; or it cannot be made executable.
        """
        if self.registry is not None or self.player is not None:
            return self
        game = _only_game(folders) if self.executable is None else Path(self.executable)
        try:
            if game.is_file() and not os.access(game, os.X_OK):  # storage has no permissions
                game.chmod(game.stat().st_mode | 0o111)
        except OSError as error:
            raise UserError(
                f"{game} cannot be made executable ({error.strerror}): let its channel come by File"
            ) from error
        return replace(self, executable=str(game))

    def command(self, port: int, log: Path) -> list[str] | None:
        """Returns the command line of a player that connects to `port` and logs to `log`; None for the Editor.

        Downloads a build of a registry that is not there yet.

        Raises:
            UserError: a build that is none, or not for this system; one that the registry does not hold, or that cannot
                be downloaded; words that cannot be read.
        """
        from envs.unity.launch import find_executable, registered_build

        executable, arguments = self.executable, self.args
        if self.registry is not None:
            executable, more = registered_build(self.registry, self.manifest)
            arguments = [*more, *self.args]
        if executable is not None:
            command = [find_executable(executable)]
        elif self.player is not None:
            try:
                words = shlex.split(self.player)
            except ValueError as error:
                raise UserError(f"env.player={self.player} cannot be read as words: {error}") from error
            command = own_folders.command("envs.unity.python_player.__main__", *words)
        else:
            return None
        if self.no_graphics:
            command += ["-nographics", "-batchmode"]
        command += ["--mlagents-port", str(port)]
        if "-logfile" not in (argument.lower() for argument in arguments):
            command += ["-logFile", str(log)]
        return [*command, *arguments]


def _only_game(folders: Mapping[str, Path]) -> Path:
    games = [game for folder in folders.values() for game in _games(folder)]
    if len(games) == 1:
        return games[0]
    if games:
        raise UserError(f"there are several games, choose one with env.executable=: {', '.join(map(str, games))}")
    looked = ", ".join(map(str, folders.values())) or "there is no channel"
    raise UserError(
        f"env=unity, but no channel holds a game for Linux ({looked}): put the build, Game.x86_64 with its folder "
        "Game_Data, into one"
    )


def _games(folder: Path) -> list[Path]:
    """Executables of Unity builds for Linux below `folder`: `Game.x86_64`, or `Game` beside a folder `Game_Data`."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and (file.suffix == ".x86_64" or (not file.suffix and file.with_name(f"{file.name}_Data").is_dir()))
    )
