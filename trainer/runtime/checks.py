"""Checks of a training run's configuration as a whole, which leave no process and no file behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from algorithms.registry import ALGORITHMS, algorithm_settings
from algorithms.rewards.registry import REWARDS, RewardSettings, validate_rewards
from algorithms.settings import AlgorithmSettings
from buffers.rows import Layout, Rows
from envs.process.ram import available_shared, reckon
from envs.spec import BehaviorSpec, UserError
from trainer.checkpoint import Checkpoint, CheckpointStore
from trainer.cluster.checks import check_cluster
from trainer.config.schema import (
    DEFAULT_BEHAVIOR,
    Cluster,
    Device,
    GoalConfig,
    Mode,
    RunConfig,
    TrainConfig,
    Which,
    settings_of,
)
from trainer.curriculum import check_curriculum
from trainer.demos.load import demos_of, load_demonstrations, load_demos, read_demos
from trainer.runtime.behaviors import choose_capacity, known_behaviors
from trainer.runtime.device import gpu_trouble
from trainer.runtime.policy_store import weights_bytes
from trainer.runtime.run_lock import is_occupied
from trainer.saved_policy import check_spec, load_checkpoint
from trainer.selfplay.players import check_player
from trainer.selfplay.settings import SelfPlayConfig
from trainer.telemetry.writers import find_writers
from trainer.warm_start.load import check_fits, check_init


def check_train(config: TrainConfig) -> None:
    """Refuses what could not run.

    Raises:
        UserError: the first thing that is wrong: an unknown environment or one that fails, a number out of range, a
            missing library or device, a run folder that is not one, a buffer larger than memory.
    """
    _check_goal(config.goal, "")
    if not config.behaviors:
        _check_self_play(config, config.self_play, "")
    _check_learning(config.algorithm, config.reward, "")
    for name, behavior in config.behaviors.items():
        _check_learning(behavior.algorithm, behavior.reward, f"behaviors.{name}.")
        _check_goal(behavior.goal, f"behaviors.{name}.")
        _check_self_play(config, behavior.self_play, f"behaviors.{name}.")
        if config.env.sends_statistics and behavior.goal.metric not in (None, "reward", "length"):
            raise UserError(
                f"behaviors.{name}.goal.metric={behavior.goal.metric} is a number that the game reports, and belongs "
                "to no behavior: take reward or length, or goal.metric for the whole run"
            )
    if config.run.mode is Mode["inline"] and not config.env.reproducible:
        raise UserError(
            f"run.mode=inline is for reproducing a run exactly, which this environment ({config.env.label}) cannot: "
            "use run.mode=async"
        )
    config.env.check()
    if config.env.min_instances > config.env.instances:
        raise UserError(
            f"env.min_instances={config.env.min_instances} is more than env.instances={config.env.instances}"
        )
    if config.cluster.name is not Cluster.none:
        check_cluster(config)
    if config.learners > 1:
        _check_learners(config)
    find_writers(config.run.loggers)
    _check_device(config.device)
    _check_folders(config)
    saved = _saved(config.resume).state.get("curriculum") if config.resume is not None else None
    check_curriculum(config, saved)
    reckon(_buffers(config))
    for name in config.env.behavior_names or config.behaviors or [DEFAULT_BEHAVIOR]:
        for path, key in demos_of(config, name).items():
            read_demos(path, key)
    for spec in config.env.probe_specs(config.seed):  # none where behaviors are only known once players run
        _check_behavior(config, spec)


def _buffers(config: TrainConfig) -> list[tuple[str, int]]:
    """Returns the memory that settings ask for at the start, or with the first behavior, by what messages call it."""
    names, _ = known_behaviors(config)
    alone = not names or not config.behaviors
    asked = []
    for name in names or [DEFAULT_BEHAVIOR]:
        if (size := settings_of(config, name)[0].buffer_memory_mib) is not None:
            key = "algorithm.buffer_memory_mib"
            asked.append((f"the buffer ({key})" if alone else f"behaviors.{name}.{key}", size * 2**20))
    return asked


def _check_self_play(config: TrainConfig, settings: SelfPlayConfig, prefix: str) -> None:
    key = f"{prefix}self_play"
    if not settings.enabled:
        return
    if config.env.gym_env() is not None:
        raise UserError(f"{key}: {config.env.label} has one agent, and self-play needs two teams: leave self_play out")
    if config.env.sends_statistics and settings.result not in ("reward", "return"):
        raise UserError(
            f"{key}.result={settings.result}: the numbers that this game reports belong to no episode: take reward or "
            "return"
        )
    for path in settings.fixed:
        check_player(path, f"{key}.fixed", config.trust)
        if path.endswith(".onnx") and config.run.mode is Mode["inline"]:
            raise UserError(
                f"{key}.fixed={path}: a model draws its actions by itself, which run.mode=inline could not repeat: "
                "name the run that it was exported from"
            )


def _check_goal(goal: GoalConfig, prefix: str) -> None:
    key = f"{prefix}goal"
    bounds = {f"{key}.at_most": goal.at_most, f"{key}.at_least": goal.at_least}
    given = [f"{each}={value}" for each, value in bounds.items() if value is not None]
    if goal.metric is None and given:
        raise UserError(f"{given[0]} needs {key}.metric: what is to be reached")
    if goal.metric is not None and len(given) != 1:
        seen = " and ".join(given) if given else "neither"
        raise UserError(f"{key}.metric={goal.metric} needs one of {key}.at_most and {key}.at_least; there is {seen}")


def _check_learning(algorithm: AlgorithmSettings, rewards: RewardSettings, prefix: str) -> None:
    if type(algorithm) is not algorithm_settings(algorithm.name, f"{prefix}algorithm.name"):
        choices = ", ".join(ALGORITHMS.names())
        raise UserError(f"{prefix}algorithm.name={algorithm.name} does not fit: choose with algorithm={choices}")
    algorithm.validate(f"{prefix}algorithm")
    validate_rewards(rewards, algorithm.discount, prefix)


def _check_behavior(config: TrainConfig, spec: BehaviorSpec) -> None:
    """Refuses checkpoints, demonstrations and networks that do not fit a behavior."""
    settings, rewards = settings_of(config, spec.name)
    if settings.buffer_memory_mib is None:
        layout = Layout(spec, settings.network.memory.numbers, settings.own().mates)
        choose_capacity(layout, 0, settings, available_shared())
    if config.resume is not None:
        check_spec(spec, _saved(config.resume))
    else:
        check_fits(config, spec)
    for path, key in demos_of(config, spec.name).items():
        load_demonstrations(path, key, spec)
    if settings.user_code or any(rewards[name].pays for name in rewards if name not in REWARDS.built_in()):
        _check_own_code(config, spec, settings)
    elif not settings.network.is_plain:
        from algorithms.policy import make_policy  # torch takes seconds, and only these networks need it here

        make_policy(spec, settings)


def _check_own_code(config: TrainConfig, spec: BehaviorSpec, settings: AlgorithmSettings) -> None:
    """Makes an algorithm once, where it or its reward signals are the user's own."""
    import torch  # takes seconds, and only such algorithms need it here

    from algorithms.base import make_algorithm
    from algorithms.policy import make_policy

    policy = make_policy(spec, settings)
    layout = Layout(spec, policy.state_size, settings.own().mates)
    capacity = choose_capacity(layout, weights_bytes(policy.flat.numel()), settings, available_shared())
    memory = np.zeros(layout.memory_bytes(capacity), np.uint8)  # takes none until it is written
    rows = Rows(layout, memory.data, capacity)
    demos, _ = load_demos(config, spec)
    make_algorithm(spec, settings, rows, torch.device("cpu"), config.seed, settings_of(config, spec.name)[1], demos)


def _check_learners(config: TrainConfig) -> None:
    """Refuses what several learners cannot share."""
    learners = f"learners={config.learners}"
    if config.run.mode is Mode["inline"]:
        raise UserError(
            f"run.mode=inline takes turns in one process, to reproduce a run exactly, and {learners} compute in "
            "several: leave one of them out"
        )
    if config.device is Device["cuda"]:
        raise UserError(f"{learners} compute on this machine's cores: use device=cpu, or one learner on the GPU")
    for name in config.env.behavior_names or config.behaviors or [DEFAULT_BEHAVIOR]:
        settings, _ = settings_of(config, name)
        if settings.user_code:
            raise UserError(
                f"{learners} can share the gradient steps of ppo, sac and poca, and not those of algorithm="
                f"{settings.name} ({settings.algorithm}): leave learners out"
            )
    import torch  # takes seconds, and only several learners need it here

    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise UserError(f"{learners} need torch with gloo, and torch {torch.__version__} has none: use one learner")


def _check_device(device: Device) -> None:
    if device is not Device["cuda"]:
        return
    import torch  # takes seconds, and only this device needs it here

    if trouble := gpu_trouble():
        raise UserError(
            f"device=cuda, but torch {torch.__version__} {trouble}: use device=cpu or device=auto, "
            "or install a torch that is built for CUDA and this GPU, with its driver"
        )


def _check_folders(config: TrainConfig) -> None:
    if config.resume is not None:
        _saved(config.resume)
        return
    check_init(config)
    if config.run.dir is not None:
        _check_new(config.run)


def _saved(folder: str) -> Checkpoint:
    """Returns what a run resumes with."""
    if CheckpointStore(Path(folder) / "checkpoints").latest() is None:
        raise UserError(f"resume={folder}: the run has no checkpoint yet; start it again, or name another")
    return load_checkpoint(folder, Which["last"])


def _check_new(run: RunConfig) -> None:
    if not run.dir:
        raise UserError("run.dir is empty: name a folder, or leave it out for runs/<name>/<time>")
    folder = Path(run.dir)
    if is_occupied(folder):
        raise UserError(f"run.dir={folder} holds a run that is still going on, in another process: name another folder")
    # A run that was killed before its first checkpoint may begin again.
    if (folder / "config.yaml").exists() and CheckpointStore(folder / "checkpoints").latest() is not None:
        raise UserError(f"run.dir={folder} holds a run already: go on with resume={folder}, or name another folder")
    if next((p for p in (folder, *folder.parents) if p.exists() and not p.is_dir()), None):
        raise UserError(f"run.dir={folder} is no folder and cannot become one: a file is in its place")
