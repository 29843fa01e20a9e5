"""The settings of Unity players."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from envs.config import EnvConfig, path_field, setting
from envs.spec import UserError

# Whatever serves Unity is imported where it is used: mlagents-envs takes a while to import.
if TYPE_CHECKING:
    from envs.api import Manager, Setup
    from envs.unity.launch import UnityEnv


@dataclass
class UnityConfig(EnvConfig):
    """Unity players. At most one of `executable`, `registry` and `player`; without any, the Editor is waited for."""

    instances: int = setting(1, above=0, at_most=2**16)
    """Running players. More: more samples a second, until cores run out. The Editor is one."""
    executable: str | None = path_field()
    """Path of a build."""
    registry: str | None = None
    """Name of a build in ML-Agents' registry, which is downloaded once."""
    manifest: str | None = path_field()
    """A registry file of one's own, in place of ML-Agents'."""
    player: str | None = path_field()
    """Words for our own player, which serves a Gymnasium env: `env=basic agents=2`."""
    args: list[str] = field(default_factory=list)
    """Further arguments of the player's command line."""
    no_graphics: bool = False
    """Whether players draw nothing. Visual observations need graphics."""
    port: int = 5004
    """Where the Editor is waited for."""
    num_areas: int = setting(1, above=0)
    """Copies of the training area that each player is asked for."""
    connect_timeout: float = setting(60.0, above=0)
    """Seconds that a player has to connect and to send its first agents."""
    width: int = setting(84, above=0)
    """Pixels of the player's window."""
    height: int = setting(84, above=0)
    """Pixels of the player's window."""
    quality_level: int = 5
    """Unity's quality level: 0 is the fastest."""
    target_frame_rate: int = -1
    """Frames a second that the player aims for; -1 = as many as it can."""
    capture_frame_rate: int = 60
    """Frames a second of game time; 0 = as real time goes."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Environment parameters by name: a number, or `{sampler: uniform, min: 0, max: 1}`, gaussian or multi_range."""
    channels: list[str] = field(default_factory=list)
    """Side channels of one's own: import paths (`package.module:Class`)."""

    channels_last: ClassVar[bool] = True
    sends_statistics: ClassVar[bool] = True

    def make_manager(self, setup: Setup) -> Manager:  # noqa: D102
        from envs.unity.manager import UnityManager

        return UnityManager(
            self.unity_env(),
            self.instances,
            setup.seed,
            logs=setup.logs,
            step_timeout=self.step_timeout,
            restarts=self.restarts,
            min_instances=setup.min_instances,
            begun=setup.begun,
            resume=setup.resume,
        )

    @property
    def label(self) -> str:  # noqa: D102
        return f"Unity: {self.executable or self.registry or self.player or 'the Editor'}"

    @property
    def rows_at_once(self) -> int:  # noqa: D102
        return self.instances * self.num_areas

    def check(self) -> None:  # noqa: D102
        super().check()
        sources = {"executable": self.executable, "registry": self.registry, "player": self.player}
        given = [f"env.{key}={value}" for key, value in sources.items() if value is not None]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)}: a player comes from one of them, leave out the others")
        if self.manifest is not None and self.registry is None:
            raise UserError(f"env.manifest={self.manifest} needs env.registry: which of its builds to play")
        if not self.time_scale > 0:
            raise UserError(f"env.time_scale={self.time_scale} must be above 0 for Unity: 1 is real time, 20 is usual")
        env = self.unity_env()
        env.check(self.instances)
        if env.player is not None:
            from envs.unity.python_player.options import parse

            try:
                parse(env.player).env.check()
            except UserError as error:
                raise UserError(f"env.player={self.player}: {error}") from error
        elif env.editor:
            from envs.unity.protocol.server import check_port

            check_port(env.port)

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

    def unity_env(self) -> UnityEnv:
        """How the players are started; downloads a build of a registry that is not there yet.

        Raises:
            UserError: the registry does not hold it, or it cannot be downloaded.
        """
        from envs.unity.channels import Engine
        from envs.unity.launch import UnityEnv, registered_build

        arguments: tuple[str, ...] = ()
        executable = self.executable
        if self.registry is not None:
            executable, arguments = registered_build(self.registry, self.manifest)
        try:
            player = None if self.player is None else tuple(shlex.split(self.player))
        except ValueError as error:
            raise UserError(f"env.player={self.player} cannot be read as words: {error}") from error
        return UnityEnv(
            executable=executable,
            player=player,
            args=(*arguments, *self.args),
            no_graphics=self.no_graphics,
            port=self.port,
            num_areas=self.num_areas,
            engine=Engine(
                time_scale=self.time_scale,
                width=self.width,
                height=self.height,
                quality_level=self.quality_level,
                target_frame_rate=self.target_frame_rate,
                capture_frame_rate=self.capture_frame_rate,
            ),
            parameters=self.parameters,
            channels=tuple(self.channels),
            connect_timeout=self.connect_timeout,
        )


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
