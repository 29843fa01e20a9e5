"""Registers the environments of `defaults.py` that Gymnasium lacks: MinAtar's, and known ones in other units.

MinAtar's register nothing when they are imported. Here they have the actions that each game needs (its `v1`), images of
10 x 10 bools with a channel for each kind of object, and a limit of 1,000 steps, as in gymnax; MinAtar itself has none.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import register
from gymnasium.wrappers import TransformObservation, TransformReward

REWARDS = {"Hundredth": 0.01, "Hundredfold": 100.0, "TenThousandfold": 1e4}
"""Factors of rewards by the name of the variant: `CartPoleRewardsHundredth-v1`."""
FACTOR, OFFSET = 100.0, 1000.0
"""Observations of the variant `CartPoleObservations-v1` are the game's own times `FACTOR` plus `OFFSET`."""
_SCALED = "benchmarks.defaults_envs:scaled"
SCALED = ("CartPole-v1", "Pendulum-v1")


def scaled(
    base: str, reward: float = 1.0, factor: float = 1.0, offset: float = 0.0, **kwargs: Any
) -> gymnasium.Env[Any, Any]:
    """Makes the environment `base` with its rewards times `reward`, and observations times `factor` plus `offset`."""
    env = gymnasium.make(base, disable_env_checker=True, **kwargs)
    known = env.observation_space
    space = gymnasium.spaces.Box(-np.inf, np.inf, known.shape, np.float32)
    env = TransformReward(env, lambda paid: float(paid) * reward)
    return TransformObservation(env, lambda seen: (factor * seen + offset).astype(np.float32), space)


for _game in ("Breakout", "SpaceInvaders", "Asterix"):
    register(
        f"MinAtar{_game}-v1",
        entry_point="minatar.gym:BaseEnv",
        kwargs={"game": {"SpaceInvaders": "space_invaders"}.get(_game, _game.lower()), "use_minimal_action_set": True},
        max_episode_steps=1000,
    )
for _base in SCALED:
    _name, _, _version = _base.rpartition("-")
    for _word, _reward in REWARDS.items():
        register(f"{_name}Rewards{_word}-{_version}", entry_point=_SCALED, kwargs={"base": _base, "reward": _reward})
    register(
        f"{_name}Observations-{_version}",
        entry_point=_SCALED,
        kwargs={"base": _base, "factor": FACTOR, "offset": OFFSET},
    )


def acrobot_nips(**kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Makes Acrobot with the dynamics of the first paper (Sutton 1996) instead of the book's."""
    env = gymnasium.make("Acrobot-v1", disable_env_checker=True, **kwargs)
    env.unwrapped.book_or_nips = "nips"  # type: ignore[attr-defined]
    return env


register("AcrobotNips-v1", entry_point="benchmarks.defaults_envs:acrobot_nips")
