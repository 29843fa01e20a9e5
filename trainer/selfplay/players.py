"""What plays a behavior's agents by a name: a run's policy, a model, or a bot of one's own."""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from envs.imports import imported
from envs.spec import Array, BehaviorSpec, Decisions, UserError
from trainer.checkpoint import Checkpoint, CheckpointStore
from trainer.config.schema import Which

Act = Callable[[Decisions, Array], tuple[Array, Array]]
"""Chooses actions (N, C) and (N, B) for decisions, some of which begin an episode (N,)."""

KINDS = (
    "name the folder of a run or of one of its checkpoints, an .onnx file, or a bot as package.module:Name or "
    "./file.py:Name"
)


def is_bot(path: str) -> bool:
    """Returns whether a name is the import path of a bot."""
    return bool(re.fullmatch(r"(\w+(\.\w+)*|.+\.py):\w+", path)) and not Path(path).exists()


def check_player(path: str, key: str, trust: bool) -> None:
    """Refuses a player that is missing or cannot be read, by a UserError; `key` says where it was given."""
    if is_bot(path):
        find_factory(path, key)
    elif path.endswith(".onnx"):
        if not Path(path).is_file():
            raise UserError(f"{key}={path}: there is no such file; {KINDS}")
    elif not Path(path).exists():
        raise UserError(f"{key}={path} is unknown; {KINDS}")
    else:
        from trainer.config.saved import load_config

        load_config(run_of(path), trust)
        _checkpoint(path, Which["best"])


def find_player(
    path: str,
    spec: BehaviorSpec,
    key: str,
    *,
    seed: int,
    trust: bool = False,
    deterministic: bool = False,
    which: Which = Which["best"],
) -> Act:
    """Returns what acts for agents of `spec`.

    Raises:
        UserError: it is missing, or of a behavior with another spec.
    """
    check_player(path, key, trust)
    if is_bot(path):
        factory, rng, about = find_factory(path, key), random.Random(seed), f"{key}={path}"
        return bot_act(lambda: make_bot(factory, spec, rng, about), spec, about)
    if path.endswith(".onnx"):
        from trainer.record.model_player import ModelPlayer

        return ModelPlayer(path, spec, deterministic, f"{key}={path}").act
    from trainer.config.saved import load_config
    from trainer.evaluate.play import PolicyAgent
    from trainer.saved_policy import trained_policy

    policy = trained_policy(load_config(run_of(path), trust), _checkpoint(path, which), spec)
    return PolicyAgent(policy, seed, deterministic).act


def run_of(path: str) -> str:
    """Returns the folder of the run that a folder is, or that it is a checkpoint of."""
    return str(Path(path).parents[1]) if (Path(path) / "manifest.json").is_file() else path


def _checkpoint(path: str, which: Which) -> Checkpoint:
    from trainer.saved_policy import load_checkpoint, saved_specs

    if run_of(path) == path:
        return load_checkpoint(path, which)
    found = CheckpointStore(Path(path).parent).load(Path(path))
    saved_specs(found)
    return found


def make_bot(factory: Callable[..., Any], made_of: Any, rng: random.Random, about: str) -> Callable[..., Any]:
    """Returns the bot that a factory makes of an environment or a behavior's spec; `about` begins messages."""
    try:
        inspect.signature(factory).bind(made_of, rng)
    except (TypeError, ValueError) as error:
        raise UserError(f"{about} cannot be called with (env, rng): {error}") from error
    bot: Callable[..., Any] = factory(made_of, rng)
    if not callable(bot):
        raise UserError(f"{about} made {type(bot).__name__}, not a function from an observation to an action")
    return bot


def bot_act(make: Callable[[], Callable[..., Any]], spec: BehaviorSpec, about: str) -> Act:
    """Returns how bots act, one made for each agent's number: functions of its observations and mask."""
    bots: dict[int, Callable[..., Any]] = {}

    def act(decisions: Decisions, begun: Array) -> tuple[Array, Array]:
        agents = len(decisions.agent)
        continuous = np.zeros((agents, spec.continuous_size), np.float32)
        discrete = np.zeros((agents, len(spec.branches)), np.int32)
        for i, agent in enumerate(decisions.agent.tolist()):
            if agent not in bots:
                bots[agent] = make()
            answer = bots[agent](tuple(each[i] for each in decisions.observations), decisions.mask[i])
            try:
                continuous[i], discrete[i] = answer
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"{about} returned {answer!r}, not {spec.continuous_size} continuous actions and "
                    f"{len(spec.branches)} discrete ones"
                ) from error
        return continuous, discrete

    return act


def find_factory(path: str, key: str) -> Callable[..., Any]:
    """Returns the function or class at an import path that makes a bot of (env, rng); UserError if it is none."""
    found: Callable[..., Any] = imported(path, key)
    if not callable(found):
        raise UserError(f"{key}={path} is {type(found).__name__}, not a function or class that makes a bot")
    return found
