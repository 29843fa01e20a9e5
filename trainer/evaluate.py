"""`python -m trainer.evaluate run=runs/… episodes=5`: plays a trained policy and prints what it scores.

Episodes are shared out evenly over instances beforehand, so that short episodes are not over-represented; resets are
seeded apart from those of training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from envs.gymnasium import GymEnv
from envs.manager import EnvManager
from envs.spec import Array, BehaviorSpec, Decisions, UserError
from trainer.checkpoint import Checkpoint, CheckpointStore
from trainer.compose import load_config, run_command
from trainer.config import EvaluateConfig, TrainConfig, Which


class Played(NamedTuple):
    """One episode that was played."""

    reward: float
    length: int
    metrics: dict[str, float]


Act = Callable[[str, Decisions], tuple[Array, Array]]
"""From a behavior and its decisions to continuous (N, C) and discrete (N, B) actions."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (without the program's name) and returns the exit status."""
    return run_command(sys.argv[1:] if argv is None else argv, EvaluateConfig, "evaluate", _check, _evaluate)


def evaluate(
    config: TrainConfig, checkpoint: Checkpoint, episodes: int, *, seed: int, deterministic: bool = True
) -> list[Played]:
    """Plays `episodes` episodes with the policies of `checkpoint` on the run's environment, which does not wait.

    Raises:
        UserError: the environment does not fit the checkpoint, or fails.
    """
    import torch

    from trainer.behavior import make_policy

    env = GymEnv(config.env.id, config.env.kwargs, tuple(config.env.wrappers), time_scale=0)
    instances = min(episodes, config.env.instances)
    with EnvManager(env, instances, seed, workers=config.env.workers, step_timeout=config.env.step_timeout) as manager:
        policies = {}
        for name, spec in manager.start().items():
            check_spec(spec, checkpoint)
            policies[name] = make_policy(spec, config.algorithm)
            policies[name].flat.copy_(torch.from_numpy(checkpoint.tensors[f"{name}/weights/policy"]))
        generator = torch.Generator().manual_seed(seed)

        def act(behavior: str, decisions: Decisions) -> tuple[Array, Array]:
            actions = policies[behavior].act(decisions.observations, decisions.mask, generator, deterministic)
            return actions[0], actions[1]

        return play(manager, act, episodes)


def play(manager: EnvManager, act: Act, episodes: int) -> list[Played]:
    """Plays `episodes` episodes on a started manager's instances, each taking its share; in order of their ends."""
    share, more = divmod(episodes, manager.instances)
    left = np.array([share + (i < more) for i in range(manager.instances)])
    running: dict[tuple[str, int], tuple[float, int]] = {}
    played: list[Played] = []
    while left.any():
        for behavior, ready in manager.recv(None).items():
            for agent in ready.lost.tolist():
                running.pop((behavior, agent), None)
            closings = ready.closings
            ended = closings.terminated | closings.truncated
            for i, (agent, instance) in enumerate(zip(closings.agent.tolist(), closings.instance.tolist())):
                reward, length = running.pop((behavior, agent), (0.0, 0))
                reward, length = reward + float(closings.reward[i]), length + 1
                if not ended[i]:
                    running[behavior, agent] = reward, length
                elif left[instance]:
                    left[instance] -= 1
                    played.append(Played(reward, length, ready.metrics.get(instance, {})))
            if len(ready.decisions.agent):
                manager.send(behavior, ready.decisions.agent, *act(behavior, ready.decisions))
    return played


def check_spec(spec: BehaviorSpec, saved: Checkpoint) -> None:
    """Raises UserError if `saved` is of a behavior with another name or spec."""
    behaviors = saved.state["behaviors"]
    if spec.name not in behaviors:
        raise UserError(f"{saved.path} holds no behavior {spec.name!r}; it has {', '.join(sorted(behaviors))}")
    difference = spec.difference(BehaviorSpec.from_dict(behaviors[spec.name]["spec"]))
    if difference:
        raise UserError(f"{saved.path} does not fit behavior {spec.name!r}: the environment has {difference}")


def load_checkpoint(folder: str, which: Which = Which["best"]) -> Checkpoint:
    """The best checkpoint of the run in `folder`, or the newest if there is no best or the newest is asked for."""
    store = CheckpointStore(Path(folder) / "checkpoints")
    best = store.best() if which is Which["best"] else None
    return store.load(best) if best else store.load_latest()


def _check(config: EvaluateConfig) -> None:
    if config.episodes < 1:
        raise UserError(f"episodes={config.episodes} must be at least 1")
    load_config(config.run)
    load_checkpoint(config.run, config.checkpoint)


def _evaluate(config: EvaluateConfig) -> int:
    checkpoint = load_checkpoint(config.run, config.checkpoint)
    played = evaluate(
        load_config(config.run), checkpoint, config.episodes, seed=config.seed, deterministic=config.deterministic
    )
    print(f"{checkpoint.path}: {config.episodes} episodes")
    figures = {"reward": [each.reward for each in played], "length": [float(each.length) for each in played]}
    for name in sorted({name for each in played for name in each.metrics}):
        figures[name] = [each.metrics[name] for each in played if name in each.metrics]
    for name, values in figures.items():
        print(f"{name:>10}  mean {np.mean(values):.4g}  min {min(values):.4g}  max {max(values):.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
