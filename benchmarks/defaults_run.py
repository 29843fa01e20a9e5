"""`python -m benchmarks.defaults_run '{"task": ...}'`: one run of `defaults.py` with its evaluations, in its process.

Prints what came of it as one JSON object. The process ends when its standard input does, and so with the one that
started it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from benchmarks.defaults_tasks import EPISODES, POINTS, TASKS, DefaultsTask, algorithm_of, expected_rate
from benchmarks.report import machine
from benchmarks.training import train
from benchmarks.zoo_settings import ZOO, Tuned
from envs.gym.adapter import GymAdapter, GymEnv, behavior_spec
from envs.spec import Array, Decisions

if TYPE_CHECKING:  # these import torch
    from trainer.checkpoint import Checkpoint
    from trainer.config.schema import TrainConfig

_EVALUATION_SEED = 1_000_000  # added to the run's; far from those of training
_INSTANCES = 8
_CHECKPOINTS = 50  # of a run of ours, from which those nearest to the points are evaluated
_LEAST_SECONDS = 0.5  # between two of them: quick runs have fewer, as saving takes the learner time


@dataclass(frozen=True)
class Run:
    """What one run is to be."""

    kind: str
    """`table`, `tuning` (other seeds) or `trial` (other samples)."""
    task: str
    contender: str
    seed: int
    samples: int
    overrides: tuple[str, ...] = ()
    """Of ours, in runs for tuning."""

    @property
    def points(self) -> list[int]:
        """Samples after which it is evaluated."""
        return [self.samples * (i + 1) // POINTS for i in range(POINTS)]


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the run that the first argument describes, on the core that the second one names, if any."""
    words = sys.argv[1:] if argv is None else argv
    asked = json.loads(words[0])
    run = Run(**{**asked, "overrides": tuple(asked["overrides"])})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the starting process that ends this one
    threading.Thread(target=_end_with_input, daemon=True).start()
    if len(words) > 1 and hasattr(psutil.Process, "cpu_affinity"):  # macOS has none
        psutil.Process().cpu_affinity([int(words[1])])
    load = _load()
    outcome = made(run, Path("runs/defaults") / f"{run.kind}-{run.task}-{run.contender}-{run.seed}")
    notes = {"cpu_seconds": _clock()[1], "load": [load, _load()], "evaluation_seed": _EVALUATION_SEED + run.seed}
    print(json.dumps({**asdict(run), **outcome, **notes, "machine": machine()}))
    return 0


def made(run: Run, folder: Path) -> dict[str, Any]:
    """Trains and evaluates: `evaluations` are pairs of samples and mean return. Files lie in `folder` meanwhile."""
    if not run.contender.startswith("ours"):
        return _theirs(run)
    shutil.rmtree(folder, ignore_errors=True)  # what a killed run has left
    try:
        return _ours(run, folder.resolve())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def our_settings(run: Run) -> list[str]:
    """Returns all that ours is told about learning: what, where and with which seed."""
    task, algorithm = TASKS[run.task], run.contender.split("-")[1]
    return [f"algorithm={algorithm}", "env=gym", f"env.id={task.id}", f"env.instances={_INSTANCES}", *run.overrides]


def _ours(run: Run, folder: Path) -> dict[str, Any]:
    """Runs `python -m trainer`, which saves often, and evaluates checkpoints afterwards."""
    from trainer.checkpoint import CheckpointStore
    from trainer.config.compose import load_config

    settings = our_settings(run)
    every = max(_LEAST_SECONDS, run.samples / expected_rate(run.contender, run.task) / _CHECKPOINTS)
    saving = [f"checkpoint.every_seconds={every:.2f}", "checkpoint.keep=1000000", "checkpoint.replay=false"]
    ends = [f"seed={run.seed}", f"stop.samples={run.samples}", "device=cpu", "run.picture_minutes=0"]
    start = _clock()
    summary = train([*settings, *ends, *saving], folder)
    seconds, cpu_seconds = _clock() - start
    config, store = load_config(folder), CheckpointStore(folder / "checkpoints")
    evaluation = Evaluation(TASKS[run.task])
    saved = {int(path.name.split("-")[1]): path for path in store.all()}
    nearest = [min(saved, key=lambda known: abs(known - point)) for point in run.points]
    returns = {
        samples: evaluation.mean_return(config, store.load(saved[samples]), _EVALUATION_SEED + run.seed)
        for samples in dict.fromkeys(nearest)
    }
    return {
        "algorithm": run.contender.split("-")[1],
        "settings": settings,
        "evaluations": [(samples, returns[samples]) for samples in nearest],
        "seconds": seconds,
        "training_cpu_seconds": cpu_seconds,
        "env_utilization": summary["env_utilization"],
        "mean_lag": _mean_of(folder, "lag"),
        "updates": sum(summary["updates"].values()),
    }


class Evaluation:
    """The environments of one evaluation, in this process: starting workers ten times would take longer than playing.

    Their episodes begin as those of Stable-Baselines3's evaluations do. Shapes: N episodes that go on.
    """

    def __init__(self, task: DefaultsTask) -> None:
        game = GymEnv(task.id, task.in_own_units)
        self._envs = [game.make() for _ in range(EPISODES)]
        self._spec = behavior_spec(self._envs[0], game.behavior)
        self._adapters = [GymAdapter(env, self._spec) for env in self._envs]

    def mean_return(self, config: TrainConfig, checkpoint: Checkpoint, seed: int) -> float:
        """Plays one episode in each, with the likeliest actions of the checkpoint's policy; seeds follow `seed`."""
        from trainer.evaluate.play import PolicyAgent
        from trainer.saved_policy import trained_policy

        agent = PolicyAgent(trained_policy(config, checkpoint, self._spec), seed, deterministic=True)
        observations = tuple(np.zeros((EPISODES, *part.shape), part.dtype) for part in self._spec.observations)
        everyone, unmasked = np.arange(EPISODES), np.ones((EPISODES, self._spec.mask_size), np.bool_)
        decisions = Decisions(everyone, everyone, observations, unmasked)
        returns, goes_on = np.zeros(EPISODES), [True] * EPISODES
        for i, (env, adapter) in enumerate(zip(self._envs, self._adapters)):
            adapter.observe(env.reset(seed=seed + i)[0], tuple(part[i] for part in observations))
        begun = True
        while any(goes_on):
            playing = np.flatnonzero(goes_on)
            acted = agent.act(decisions.take(playing), np.full(len(playing), begun))
            begun = False
            for i, continuous, discrete in zip(playing.tolist(), *acted):
                adapter = self._adapters[i]
                observation, reward, terminated, truncated, _ = self._envs[i].step(adapter.action(continuous, discrete))
                adapter.observe(observation, tuple(part[i] for part in observations))
                returns[i] += float(reward)
                goes_on[i] = not (terminated or truncated)
        return float(returns.mean())


def _theirs(run: Run) -> dict[str, Any]:
    """Runs Stable-Baselines3, which is evaluated as it goes: that draws nothing from its random numbers."""
    import stable_baselines3
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import sync_envs_normalization

    evaluations: list[tuple[int, float]] = []
    away = np.zeros(2)

    class Evaluated(BaseCallback):  # type: ignore[misc,unused-ignore]
        """Evaluates at the run's points, and ends it at the last one."""

        def _on_step(self) -> bool:
            nonlocal away
            if self.num_timesteps >= run.points[len(evaluations)]:
                start = _clock()
                sync_envs_normalization(self.training_env, judge)
                judge.seed(_EVALUATION_SEED + run.seed)
                mean = np.mean(evaluate_policy(self.model, judge, EPISODES)[0])
                evaluations.append((self.num_timesteps, float(mean)))
                away += _clock() - start
            return len(evaluations) < POINTS

    torch.set_num_threads(1)
    algorithm = algorithm_of(run.contender, run.task)
    tuned = ZOO[algorithm, run.task] if run.contender.startswith("zoo") else Tuned({})
    env = _vector(run, tuned, tuned.envs)
    judge = _vector(run, tuned, EPISODES, own_units=True)
    made = getattr(stable_baselines3, algorithm.upper())
    start = _clock()
    model = made("MlpPolicy", env, seed=run.seed, device="cpu", **arguments(tuned))
    model.learn(run.samples, callback=Evaluated())
    seconds, cpu_seconds = _clock() - start - away
    settings = {"envs": tuned.envs, "normalize": tuned.normalize, **tuned.settings, "policy_kwargs": tuned.network}
    return {
        "algorithm": algorithm,
        "settings": {**settings, "falling": tuned.falling},
        "evaluations": evaluations,
        "seconds": seconds,
        "training_cpu_seconds": cpu_seconds,
    }


def arguments(tuned: Tuned) -> dict[str, Any]:
    """Returns keyword arguments of Stable-Baselines3's algorithm."""
    import torch

    given = {name: _falling(value) if name in tuned.falling else value for name, value in tuned.settings.items()}
    if tuned.network is None:
        return given
    network = dict(tuned.network)
    if "activation_fn" in network:
        network["activation_fn"] = getattr(torch.nn, network["activation_fn"])
    return {**given, "policy_kwargs": network}


def _falling(initial: float) -> Callable[[float], float]:
    return lambda left: initial * left


def _vector(run: Run, tuned: Tuned, envs: int, own_units: bool = False) -> Any:
    """Makes Stable-Baselines3's vector of `envs`; with `own_units`, one for evaluation."""
    import gymnasium
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    task = TASKS[run.task]
    kwargs: dict[str, Any] = dict(task.in_own_units) if own_units else {}
    vector = make_vec_env(lambda: gymnasium.make(task.id, disable_env_checker=True, **kwargs), envs, run.seed)
    if not tuned.normalize:
        return vector
    gamma = tuned.settings.get("gamma", 0.99)  # as the Zoo does
    return VecNormalize(vector, training=not own_units, norm_reward=not own_units, gamma=gamma)


def _mean_of(folder: Path, metric: str) -> float | None:
    """Returns the mean of what a run has logged under a name whose last word is `metric`; None if it has nothing."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    names = [name for name in events.Tags()["scalars"] if name.split("/")[-1] == metric]
    values = [point.value for name in names for point in events.Scalars(name)]
    return float(np.mean(values)) if values else None


def _clock() -> Array:
    """Returns (2,) seconds: the time, and what this process and those that it has waited for had of the CPU."""
    return np.array([time.perf_counter(), sum(os.times()[:4])])


def _load() -> float | None:
    """Returns the system's load average over a minute, where it has one."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _end_with_input() -> None:
    """Ends this process and all that it has started once its standard input is closed."""
    while os.read(0, 1):
        pass
    for process in psutil.Process().children(recursive=True):
        process.kill()  # nobody wants what they have so far
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
