"""Runs that imitate, on Basic as its bot plays it: seven steps right."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import psutil

from envs.spec import BehaviorSpec, Demonstration, ObservationSpec
from envs.unity.demo.writer import DemoWriter
from tests.trainer.tiny_runs import PPO, SAC

BASIC = BehaviorSpec("Basic-v0", (ObservationSpec("observation", (20,), "float32"),), branches=(3,))
STEPS = 7


def all_of_it(demo: Path, algorithm: str) -> list[str]:
    """Overrides of a run that imitates in every way there is."""
    words = [
        f"reward.gail.demos={demo}",
        "reward.gail.use_actions=true",
        "reward.gail.hidden=[8]",
        "reward.gail.batch_size=16",
        "reward.gail.updates_per_sample=0.3",
        "reward.gail.strength_end=0.01",
        "reward.gail.schedule_samples=300",
        f"algorithm.cloning.demos={demo}",
        "algorithm.cloning.updates_before=45",
        "algorithm.cloning.anneal_samples=300",
        "algorithm.cloning.batch_size=8",
    ]
    return [*PPO, *words] if algorithm == "ppo" else [*SAC, *words, f"algorithm.demos={demo}", "algorithm.n_step=3"]


def write_demo(path: Path, spec: BehaviorSpec = BASIC, episodes: int = 3) -> Path:
    """Episodes as Basic's bot plays them; zeros where `spec` is another."""
    observations = [np.zeros((STEPS, *each.shape), each.dtype) for each in spec.observations]
    discrete = np.zeros((STEPS, len(spec.branches)), np.int32)
    if spec == BASIC:
        observations[0][np.arange(STEPS), 10 + np.arange(STEPS)] = 1
        discrete[:] = 2
    episode = Demonstration(
        observations=tuple(observations),
        mask=np.ones((STEPS, spec.mask_size), bool),
        continuous=np.zeros((STEPS, spec.continuous_size), np.float32),
        discrete=discrete,
        rewards=np.full(STEPS, -0.01, np.float32),
        terminated=True,
        final_observations=tuple(each[:0] for each in observations),
        final_mask=np.ones((0, spec.mask_size), bool),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with DemoWriter(path, spec, "right") as writer:
        for _ in range(episodes):
            writer.add(episode)
    return path


def family() -> list[str]:
    """What runs below this process, but for what looks after shared memory, and the keeper: both end with it."""
    lines = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # or a zombie, which runs no more
            lines.append(" ".join(child.cmdline()))
    return [line for line in lines if "resource_tracker" not in line and "keeper.py" not in line]
