"""ML-Agents' names for our metrics (`run.tags=mlagents`), for boards and scripts that were made for its trainer.

Only names differ. Values stay ours: `Policy/Extrinsic Value Estimate` is PPO's mean value or SAC's mean target.
"""

from __future__ import annotations

from collections.abc import Collection

_TAGS = {
    "episode/reward": "Environment/Cumulative Reward",
    "episode/length": "Environment/Episode Length",
    "episode/group_reward": "Environment/Group Cumulative Reward",
    "loss/policy": "Losses/Policy Loss",
    "loss/value": "Losses/Value Loss",
    "loss/baseline": "Losses/Baseline Loss",
    "loss/critic": "Losses/Q1 Loss",
    "gail/loss": "Losses/GAIL Loss",
    "self_play/elo": "Self-play/ELO",
    "cloning/loss": "Losses/Pretraining Loss",
    "curiosity/loss_forward": "Losses/Curiosity Forward Loss",
    "curiosity/loss_inverse": "Losses/Curiosity Inverse Loss",
    "rnd/loss": "Losses/RND Loss",
    "policy/entropy": "Policy/Entropy",
    "update/learning_rate": "Policy/Learning Rate",
    "ppo/clip": "Policy/Epsilon",
    "ppo/entropy_coef": "Policy/Beta",
    "ppo/value": "Policy/Extrinsic Value Estimate",
    "poca/baseline": "Policy/Extrinsic Baseline Estimate",
    "sac/value": "Policy/Extrinsic Value",
    "reward/extrinsic": "Policy/Extrinsic Reward",
    "reward/curiosity": "Policy/Curiosity Reward",
    "reward/gail": "Policy/GAIL Reward",
    "reward/rnd": "Policy/RND Reward",
}


def mlagents_tag(name: str, behaviors: Collection[str]) -> str:
    """Returns ML-Agents' name of a metric, behind its behavior if it names one; ours where it has none.

    `game/<key>` is what ML-Agents calls `<key>`.
    """
    behavior = max((f"{each}/" for each in behaviors if name.startswith(f"{each}/")), key=len, default="")
    own = name.removeprefix(behavior)
    if own.startswith("lesson/"):
        own = own.replace("lesson/", "Environment/Lesson Number/", 1)
    return behavior + _TAGS.get(own, own.removeprefix("game/"))
