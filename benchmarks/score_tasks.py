"""What `time_to_score.py` has both sides learn, and with which settings. Plain data, quick to import.

Theirs are those of Stable-Baselines3's RL Zoo (github.com/DLR-RM/rl-baselines3-zoo, hyperparams/ppo.yml and sac.yml, as
of April 2026), by the names that its constructors give them. The Zoo trains SAC with one environment and one update a
step. With as many environments as ours has, that is either one update a step of all, as the Zoo itself does when it is
given more environments, or one a sample (`gradient_steps=-1`). Both SAC tasks have one a step of all, which promises
the score sooner: Pendulum then takes some 3,300 updates to it, and with one a sample at least 3,900, as its window
alone holds so many. None of these tasks has the Zoo's `normalize`, so no `VecNormalize` appears. Where nothing falls
over the samples there are more of them than the Zoo's, so that the limit alone ends a run without the score.

Scores are such as both sides reach, as far as is known: 100 with PPO on the lander, since theirs was seen to reach
that, after 411,000 samples, and 200 it was not. With SAC on the lander it was not known whether theirs would.

Ours were tuned by hand, on seeds from 10 on, those of PPO on Pendulum earlier, on 0 and 1; the benchmark takes those
from 0 on (benchmarks/results/time_to_score.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Theirs:
    """How Stable-Baselines3 learns a task."""

    samples: int
    """After which it ends, if not at the limit, and over which schedules fall."""
    settings: Mapping[str, Any]
    """Keyword arguments of its algorithm."""
    falling: tuple[str, ...] = ()
    """Those of them that fall linearly to 0."""
    vector: str = "dummy"
    """`dummy`: environments step one after another in its process. `subproc`: each in a process of its own. The faster
    one: on 2 busy cores `dummy` gave 7,000 steps a second of 8 CartPoles and 6,000 of 4 Pendulums, `subproc` 2,500 and
    480."""


@dataclass(frozen=True)
class ScoreTask:
    """A score, and how both sides go about it."""

    algorithm: str
    """`ppo` or `sac`."""
    id: str
    """Gymnasium's."""
    score: float
    """Mean reward that is to be reached."""
    window: int
    """Samples that the mean looks back: it is that of all episodes of training which ended in them."""
    limit: float
    """Seconds of one run, after which it has failed."""
    instances: int
    """Environments, of either side."""
    ours: tuple[str, ...]
    """Overrides of `python -m trainer`."""
    theirs: Theirs = field(repr=False)


_SMALL = "algorithm.network.hidden=[64,64]"
_RAW = "algorithm.network.normalize=false"
_RATE_AS_SET = "algorithm.target_kl=null"
TASKS = {
    "ppo_cartpole": ScoreTask(
        *("ppo", "CartPole-v1", 475.0, 20_000, 120.0, 8),
        ours=(
            *(_SMALL, "algorithm.rollout_size=256", "algorithm.minibatch_size=256", "algorithm.epochs=20"),
            *("algorithm.learning_rate=7e-4", "algorithm.learning_rate_end=1e-5", "algorithm.clip_end=0.02"),
            *("algorithm.schedule_samples=100000", "algorithm.entropy_coef=0", "algorithm.discount=0.98"),
            *("algorithm.gae_lambda=0.8", "algorithm.max_lag=0", _RAW, _RATE_AS_SET),
        ),
        theirs=Theirs(
            100_000,
            {
                "n_steps": 32,
                "batch_size": 256,
                "n_epochs": 20,
                "gamma": 0.98,
                "gae_lambda": 0.8,
                "ent_coef": 0.0,
                "learning_rate": 1e-3,
                "clip_range": 0.2,
            },
            falling=("learning_rate", "clip_range"),
        ),
    ),
    "ppo_pendulum": ScoreTask(
        *("ppo", "Pendulum-v1", -250.0, 20_000, 180.0, 4),
        ours=(
            *(_SMALL, "algorithm.rollout_size=1024", "algorithm.minibatch_size=64", "algorithm.epochs=10"),
            *("algorithm.learning_rate=1e-3", "algorithm.learning_rate_end=1e-4", "algorithm.schedule_samples=60000"),
            *("algorithm.entropy_coef=0", "algorithm.discount=0.9", _RATE_AS_SET),
        ),
        theirs=Theirs(
            1_000_000,
            {
                "n_steps": 1024,
                "n_epochs": 10,
                "gamma": 0.9,
                "gae_lambda": 0.95,
                "ent_coef": 0.0,
                "learning_rate": 1e-3,
                "clip_range": 0.2,
                "use_sde": True,
                "sde_sample_freq": 4,
            },
        ),
    ),
    "ppo_lunar": ScoreTask(
        *("ppo", "LunarLander-v3", 100.0, 20_000, 420.0, 16),
        ours=(
            *(_SMALL, "algorithm.rollout_size=2048", "algorithm.minibatch_size=256", "algorithm.epochs=8"),
            *("algorithm.learning_rate=1e-3", "algorithm.learning_rate_end=1e-4", "algorithm.schedule_samples=200000"),
            *("algorithm.entropy_coef=0.01", "algorithm.entropy_coef_end=0", "algorithm.discount=0.995", _RAW),
            _RATE_AS_SET,
        ),
        theirs=Theirs(
            1_000_000,
            {"n_steps": 1024, "batch_size": 64, "n_epochs": 4, "gamma": 0.999, "gae_lambda": 0.98, "ent_coef": 0.01},
        ),
    ),
    "sac_pendulum": ScoreTask(
        *("sac", "Pendulum-v1", -200.0, 4_000, 180.0, 8),
        ours=(
            *(_SMALL, "algorithm.batch_size=64", "algorithm.start_samples=300", "algorithm.learning_rate=3e-3"),
            *("algorithm.discount=0.9", "algorithm.target_rate=0.04", "algorithm.updates_per_sample=0.33"),
        ),
        theirs=Theirs(1_000_000, {"learning_rate": 1e-3, "gradient_steps": 1}),
    ),
    "sac_lunar": ScoreTask(
        *("sac", "LunarLanderContinuous-v3", 100.0, 10_000, 300.0, 8),
        ours=(
            *(_SMALL, _RAW, "algorithm.batch_size=128", "algorithm.start_samples=2000", "algorithm.learning_rate=1e-3"),
            *("algorithm.target_rate=0.01", "algorithm.updates_per_sample=0.25", "algorithm.n_step=3"),
            *("algorithm.discount=0.995", "algorithm.temperature=0.02", "algorithm.continuous_entropy=-1"),
        ),
        theirs=Theirs(
            500_000,
            {
                "batch_size": 256,
                "learning_rate": 7.3e-4,
                "buffer_size": 1_000_000,
                "ent_coef": "auto",
                "gamma": 0.99,
                "tau": 0.01,
                "gradient_steps": 1,
                "learning_starts": 10_000,
                "policy_kwargs": {"net_arch": [400, 300]},
            },
            falling=("learning_rate",),
        ),
    ),
}
