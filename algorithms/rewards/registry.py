"""The reward signals and the cloning that settings ask for."""

from __future__ import annotations

from collections.abc import Mapping

from algorithms.imitation.cloning import Cloning
from algorithms.policy import Policy
from algorithms.rewards.base import Rewards, RewardSignal
from algorithms.rewards.curiosity import make_curiosity
from algorithms.rewards.gail import GAIL
from algorithms.rewards.rnd import make_rnd
from algorithms.settings import CloningSettings, RewardSettings, pays
from buffers.rows import Rows

Demos = Mapping[str, Rows]
"""Demonstrations, by the path in the settings that asks for them."""


def make_rewards(settings: RewardSettings, policy: Policy, demos: Demos, seed: int) -> Rewards:
    """The sum of the signals that are set."""
    signals: dict[str, RewardSignal] = {}
    if settings.gail.demos is not None:
        signals["gail"] = GAIL(settings.gail, policy, demos[settings.gail.demos], seed)
    if pays(settings.curiosity):
        signals["curiosity"] = make_curiosity(settings.curiosity, policy, seed)
    if pays(settings.rnd):
        signals["rnd"] = make_rnd(settings.rnd, policy, seed)
    return Rewards(settings.extrinsic.strength, signals, policy.flat.device)


def make_cloning(settings: CloningSettings, policy: Policy, demos: Demos, seed: int) -> Cloning | None:
    """The cloning that is set, if it is."""
    return None if settings.demos is None else Cloning(settings, demos[settings.demos], policy, seed)
