"""The settings that Stable-Baselines3's RL Zoo has tuned for tasks of `defaults.py`. Plain data, quick to import.

From github.com/DLR-RM/rl-baselines3-zoo, hyperparams/ppo.yml, sac.yml and dqn.yml, as of April 2026 (commit 22e3ff2),
by the names that Stable-Baselines3's constructors give them. The Zoo has nothing for MinAtar. It has MuJoCo's tasks as
`v4`, whose settings serve `v5` here. What falls linearly there (`lin_...`) falls to 0 over the samples of our runs,
which are mostly fewer than the Zoo's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tuned:
    """How the Zoo learns a task."""

    settings: Mapping[str, Any]
    """Keyword arguments of the algorithm."""
    envs: int = 1
    normalize: bool = False
    """Whether observations and rewards go through `VecNormalize`."""
    falling: tuple[str, ...] = ()
    """Settings that fall linearly to 0."""
    network: Mapping[str, Any] | None = None
    """`policy_kwargs`; `activation_fn` is a name of `torch.nn`."""


_MUJOCO = {
    "log_std_init": -2,
    "ortho_init": False,
    "activation_fn": "ReLU",
    "net_arch": {"pi": [256, 256], "vf": [256, 256]},
}
_LANDER = Tuned(
    {"n_steps": 1024, "batch_size": 64, "gae_lambda": 0.98, "gamma": 0.999, "n_epochs": 4, "ent_coef": 0.01}, envs=16
)
_DQN = Tuned(
    {
        "learning_rate": 6.3e-4,
        "batch_size": 128,
        "buffer_size": 50_000,
        "learning_starts": 0,
        "gamma": 0.99,
        "target_update_interval": 250,
        "train_freq": 4,
        "gradient_steps": -1,
        "exploration_fraction": 0.12,
        "exploration_final_eps": 0.1,
    },
    network={"net_arch": [256, 256]},
)
ZOO: dict[tuple[str, str], Tuned] = {
    ("ppo", "CartPole-v1"): Tuned(
        {
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
            "ent_coef": 0.0,
            "learning_rate": 1e-3,
            "clip_range": 0.2,
        },
        envs=8,
        falling=("learning_rate", "clip_range"),
    ),
    ("ppo", "Acrobot-v1"): Tuned(
        {"n_steps": 256, "gae_lambda": 0.94, "gamma": 0.99, "n_epochs": 4, "ent_coef": 0.0}, envs=16, normalize=True
    ),
    ("ppo", "Pendulum-v1"): Tuned(
        {
            "n_steps": 1024,
            "gae_lambda": 0.95,
            "gamma": 0.9,
            "n_epochs": 10,
            "ent_coef": 0.0,
            "learning_rate": 1e-3,
            "clip_range": 0.2,
            "use_sde": True,
            "sde_sample_freq": 4,
        },
        envs=4,
    ),
    ("ppo", "LunarLander-v3"): _LANDER,
    ("ppo", "LunarLanderContinuous-v3"): _LANDER,
    ("ppo", "BipedalWalker-v3"): Tuned(
        {
            "n_steps": 2048,
            "batch_size": 64,
            "gae_lambda": 0.95,
            "gamma": 0.999,
            "n_epochs": 10,
            "ent_coef": 0.0,
            "learning_rate": 3e-4,
            "clip_range": 0.18,
        },
        envs=32,
        normalize=True,
    ),
    ("ppo", "Hopper-v5"): Tuned(
        {
            "batch_size": 32,
            "n_steps": 512,
            "gamma": 0.999,
            "learning_rate": 9.80828e-5,
            "ent_coef": 0.00229519,
            "clip_range": 0.2,
            "n_epochs": 5,
            "gae_lambda": 0.99,
            "max_grad_norm": 0.7,
            "vf_coef": 0.835671,
        },
        normalize=True,
        network=_MUJOCO,
    ),
    ("ppo", "HalfCheetah-v5"): Tuned(
        {
            "batch_size": 64,
            "n_steps": 512,
            "gamma": 0.98,
            "learning_rate": 2.0633e-5,
            "ent_coef": 0.000401762,
            "clip_range": 0.1,
            "n_epochs": 20,
            "gae_lambda": 0.92,
            "max_grad_norm": 0.8,
            "vf_coef": 0.58096,
        },
        normalize=True,
        network=_MUJOCO,
    ),
    ("ppo", "MountainCarContinuous-v0"): Tuned(
        {
            "batch_size": 256,
            "n_steps": 8,
            "gamma": 0.9999,
            "learning_rate": 7.77e-5,
            "ent_coef": 0.00429,
            "clip_range": 0.1,
            "n_epochs": 10,
            "gae_lambda": 0.9,
            "max_grad_norm": 5,
            "vf_coef": 0.19,
            "use_sde": True,
        },
        normalize=True,
        network={"log_std_init": -3.29, "ortho_init": False},
    ),
    ("sac", "Pendulum-v1"): Tuned({"learning_rate": 1e-3}),
    ("sac", "LunarLanderContinuous-v3"): Tuned(
        {
            "batch_size": 256,
            "learning_rate": 7.3e-4,
            "buffer_size": 1_000_000,
            "ent_coef": "auto",
            "gamma": 0.99,
            "tau": 0.01,
            "train_freq": 1,
            "gradient_steps": 1,
            "learning_starts": 10_000,
        },
        falling=("learning_rate",),
        network={"net_arch": [400, 300]},
    ),
    ("sac", "BipedalWalker-v3"): Tuned(
        {
            "learning_rate": 7.3e-4,
            "buffer_size": 300_000,
            "batch_size": 256,
            "ent_coef": "auto",
            "gamma": 0.98,
            "tau": 0.02,
            "train_freq": 64,
            "gradient_steps": 64,
            "learning_starts": 10_000,
            "use_sde": True,
        },
        network={"log_std_init": -3, "net_arch": [400, 300]},
    ),
    ("sac", "Hopper-v5"): Tuned({"learning_starts": 10_000}),
    ("sac", "HalfCheetah-v5"): Tuned({"learning_starts": 10_000}),
    ("sac", "MountainCarContinuous-v0"): Tuned(
        {
            "learning_rate": 3e-4,
            "buffer_size": 50_000,
            "batch_size": 512,
            "ent_coef": 0.1,
            "train_freq": 32,
            "gradient_steps": 32,
            "gamma": 0.9999,
            "tau": 0.01,
            "learning_starts": 0,
            "use_sde": True,
        },
        network={"log_std_init": -3.67, "net_arch": [64, 64]},
    ),
    ("dqn", "CartPole-v1"): Tuned(
        {
            "learning_rate": 2.3e-3,
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1000,
            "gamma": 0.99,
            "target_update_interval": 10,
            "train_freq": 256,
            "gradient_steps": 128,
            "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
        },
        network={"net_arch": [256, 256]},
    ),
    ("dqn", "Acrobot-v1"): _DQN,
    ("dqn", "LunarLander-v3"): _DQN,
}
"""By algorithm and task."""
