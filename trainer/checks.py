"""What makes sense: checks of a training run's configuration that need no process and leave nothing behind."""

from __future__ import annotations

import math
from pathlib import Path

from algorithms.settings import PPOSettings, SACSettings, validate_ppo, validate_rewards, validate_sac
from buffers.memory import reckon
from envs.gymnasium import GymEnv, behavior_spec
from envs.probe import INSTANCES_PER_WORKER
from envs.spec import UserError
from trainer.checkpoint import CheckpointStore
from trainer.compose import load_config
from trainer.config import Device, GoalConfig, RunConfig, TrainConfig, Which
from trainer.evaluate import check_spec, load_checkpoint

_MIB = 2**20


def check_train(config: TrainConfig) -> None:
    """Refuses what could not run.

    Raises:
        UserError: the first thing that is wrong: an unknown environment, a number out of range, a missing library or
            device, a run folder that is not one, a buffer larger than memory.
    """
    _check_numbers(config)
    _check_goal(config.goal)
    _check_algorithm(config.algorithm)
    validate_rewards(config.reward)
    env = config.env
    GymEnv(env.id, env.kwargs, tuple(env.wrappers), env.time_scale).check()
    _check_device(config.device)
    _check_folders(config)
    reckon([("the buffer (algorithm.buffer_memory_mib)", config.algorithm.buffer_memory_mib * _MIB)])


def _check_numbers(config: TrainConfig) -> None:
    env, run, stop, checkpoint = config.env, config.run, config.stop, config.checkpoint
    positive = {
        "env.instances": env.instances,
        "env.workers": env.workers,
        "env.step_timeout": env.step_timeout,
        "run.log_seconds": run.log_seconds,
        "stop.samples": stop.samples,
        "stop.seconds": stop.seconds,
        "checkpoint.every_seconds": checkpoint.every_seconds,
        "checkpoint.keep": checkpoint.keep,
        "goal.window_samples": config.goal.window_samples,
    }
    positive |= {f"goal.also_window_samples[{i}]": n for i, n in enumerate(config.goal.also_window_samples)}
    not_negative = {
        "env.time_scale": env.time_scale,
        "env.restarts": env.restarts,
        "run.picture_minutes": run.picture_minutes,
        "seed": config.seed,
    }
    for key, value in positive.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UserError(f"{key}={value} must be above 0")
    for key, value in not_negative.items():
        if not (value >= 0 and math.isfinite(value)):
            raise UserError(f"{key}={value} must be 0 or more")
    if env.workers is not None and env.workers > env.instances:
        raise UserError(f"env.workers={env.workers} is more than env.instances={env.instances}: a worker needs one")
    if env.workers is not None and env.workers * INSTANCES_PER_WORKER < env.instances:
        raise UserError(
            f"env.workers={env.workers} are too few for env.instances={env.instances}: "
            f"a worker drives at most {INSTANCES_PER_WORKER}"
        )


def _check_goal(goal: GoalConfig) -> None:
    bounds = {"goal.at_most": goal.at_most, "goal.at_least": goal.at_least}
    given = [f"{key}={value}" for key, value in bounds.items() if value is not None]
    if goal.metric is None and given:
        raise UserError(f"{given[0]} needs goal.metric: what is to be reached")
    if goal.metric is not None and len(given) != 1:
        seen = " and ".join(given) if given else "neither"
        raise UserError(f"goal.metric={goal.metric} needs one of goal.at_most and goal.at_least; there is {seen}")


def _check_algorithm(settings: object) -> None:
    if isinstance(settings, PPOSettings) and settings.name == "ppo":
        validate_ppo(settings)
    elif isinstance(settings, SACSettings) and settings.name == "sac":
        validate_sac(settings)
    else:
        name = getattr(settings, "name", settings)
        raise UserError(f"algorithm.name={name} does not fit: choose with algorithm=ppo or algorithm=sac")


def _check_device(device: Device) -> None:
    if device is not Device["cuda"]:
        return
    import torch  # takes seconds, and only this device needs it here

    if not torch.cuda.is_available():
        raise UserError(
            f"device=cuda, but torch {torch.__version__} finds no GPU: use device=cpu or device=auto, "
            "or install a torch that is built for CUDA, with its driver"
        )


def _check_folders(config: TrainConfig) -> None:
    if config.resume is not None:
        _check_saved(config.resume, "resume", config)
        return
    if config.init is not None:
        load_config(config.init)
        _check_saved(config.init, "init", config)
    if config.run.dir is not None:
        _check_new(config.run)


def _check_saved(folder: str, key: str, config: TrainConfig) -> None:
    store = CheckpointStore(Path(folder) / "checkpoints")
    if store.latest() is None and (key == "resume" or store.best() is None):
        raise UserError(f"{key}={folder}: the run has no checkpoint yet; start it anew, or name another")
    saved = load_checkpoint(folder, Which["last" if key == "resume" else "best"])
    recipe = GymEnv(config.env.id, config.env.kwargs, tuple(config.env.wrappers))
    known = saved.state["behaviors"].get(recipe.behavior, {})
    try:
        env = recipe.make()
    except Exception:  # the first worker tells what is wrong with the environment
        return
    check_spec(behavior_spec(env, recipe.behavior, known.get("spec", {}).get("masked", False)), saved)
    env.close()


def _check_new(run: RunConfig) -> None:
    if not run.dir:
        raise UserError("run.dir is empty: name a folder, or leave it out for runs/<name>/<time>")
    folder = Path(run.dir)
    if (folder / "config.yaml").exists():
        raise UserError(f"run.dir={folder} holds a run already: go on with resume={folder}, or name another folder")
    if next((p for p in (folder, *folder.parents) if p.exists() and not p.is_dir()), None):
        raise UserError(f"run.dir={folder} is no folder and cannot become one: a file is in its place")
