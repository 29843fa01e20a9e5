"""Makes the instances that a configuration asks for: Gymnasium environments or Unity players."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from envs.gym.adapter import GymEnv
from envs.gym.manager import EnvManager
from envs.spec import Array, UserError
from trainer.config.schema import EnvConfig, GymConfig, UnityConfig

# Whatever serves Unity is imported where it is used: mlagents-envs takes a while to import.
if TYPE_CHECKING:
    from envs.unity.launch import UnityEnv
    from envs.unity.manager import UnityManager

Instances: TypeAlias = "EnvManager | UnityManager"
"""A manager, of any kind."""


def make_manager(
    env: EnvConfig,
    seed: int,
    logs: Path,
    *,
    min_instances: int | None = None,
    begun: Array | None = None,
    record_actions: bool = False,
    resume: Any = None,
) -> Instances:
    """The manager of the instances that `env` describes, not started.

    Args:
        env: composed and checked.
        seed: of the episodes.
        logs: folder for what Unity players log.
        min_instances: one that fails for good is left out while so many others live; None = all have to.
        begun: (I,) int64, episodes or starts of each instance so far, counted on in this very array; None = zeros.
        record_actions: for inline mode, of Gymnasium environments.
        resume: what the manager's `state` returned.

    Raises:
        UserError: a file or a library is missing.
    """
    if isinstance(env, GymConfig):
        return EnvManager(
            gym_env(env),
            env.instances,
            seed,
            workers=env.workers,
            step_timeout=env.step_timeout,
            restarts=env.restarts,
            min_instances=min_instances,
            begun=begun,
            record_actions=record_actions,
            resume=resume,
        )
    from envs.unity.manager import UnityManager

    return UnityManager(
        unity_env(cast(UnityConfig, env)),
        env.instances,
        seed,
        logs=logs,
        step_timeout=env.step_timeout,
        restarts=env.restarts,
        min_instances=min_instances,
        begun=begun,
        resume=resume,
    )


def saved_state(env: EnvConfig, begun: Array) -> dict[str, Any]:
    """What `make_manager` resumes from if it is to begin new episodes; `begun` as there."""
    if isinstance(env, GymConfig):
        return {"episodes": np.maximum(begun - 1, 0).tolist(), "actions": None}
    return {"launches": begun.tolist()}


def begun_before(state: Mapping[str, Any]) -> list[int]:
    """What `saved_state`, or a manager's `state`, was told of: episodes or starts of each instance."""
    return state["launches"] if "launches" in state else [number + 1 for number in state["episodes"]]


def check_env(env: EnvConfig) -> None:
    """Refuses an env that could not be made: an unknown id, several sources of a player, a file that is none, ...

    Raises:
        UserError: the first thing that is wrong.
    """
    if isinstance(env, GymConfig):
        gym_env(env).check()
        return
    env = cast(UnityConfig, env)
    sources = {"executable": env.executable, "registry": env.registry, "player": env.player}
    given = [f"env.{key}={value}" for key, value in sources.items() if value is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: a player comes from one of them, leave out the others")
    if env.manifest is not None and env.registry is None:
        raise UserError(f"env.manifest={env.manifest} needs env.registry: which of its builds to play")
    if not env.time_scale > 0:
        raise UserError(f"env.time_scale={env.time_scale} must be above 0 for Unity: 1 is real time, 20 is usual")
    recipe = unity_env(env)
    recipe.check(env.instances)
    if recipe.player is not None:
        from envs.unity.python_player.options import parse

        try:
            parse(recipe.player).env.check()
        except UserError as error:
            raise UserError(f"env.player={env.player}: {error}") from error
    elif recipe.editor:
        from envs.unity.protocol.server import check_port

        check_port(recipe.port)


def gym_env(env: GymConfig) -> GymEnv:
    """The Gymnasium environment that `env` describes."""
    return GymEnv(env.id, env.kwargs, tuple(env.wrappers), env.time_scale)


def unity_env(env: UnityConfig) -> UnityEnv:
    """How the players that `env` describes are started; downloads a build of a registry that is not there yet.

    Raises:
        UserError: the registry does not hold it, or it cannot be downloaded.
    """
    from envs.unity.channels import Engine
    from envs.unity.launch import UnityEnv

    engine = Engine(
        time_scale=env.time_scale,
        width=env.width,
        height=env.height,
        quality_level=env.quality_level,
        target_frame_rate=env.target_frame_rate,
        capture_frame_rate=env.capture_frame_rate,
    )
    settings: dict[str, Any] = {
        "args": tuple(env.args),
        "no_graphics": env.no_graphics,
        "port": env.port,
        "num_areas": env.num_areas,
        "engine": engine,
        "parameters": env.parameters,
        "channels": tuple(env.channels),
        "connect_timeout": env.connect_timeout,
    }
    if env.registry is not None:
        return UnityEnv.from_registry(env.registry, env.manifest, **settings)
    try:
        player = None if env.player is None else tuple(shlex.split(env.player))
    except ValueError as error:
        raise UserError(f"env.player={env.player} cannot be read as words: {error}") from error
    return UnityEnv(executable=env.executable, player=player, **settings)
