"""`python -m trainer.evaluate run=runs/… episodes=5`: plays a trained policy and prints what it scores.

Episodes are shared out evenly over instances beforehand, so that short episodes are not over-represented; resets are
seeded apart from those of training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from envs.manager import EnvManager
from envs.spec import Array, Decisions

if TYPE_CHECKING:
    pass

EVALUATION_SEED = 1_000_003
"""Added to a run's seed: no episode of training has the same."""


class Played(NamedTuple):
    """One episode that was played."""

    reward: float
    length: int
    metrics: dict[str, float]


Act = Callable[[str, Decisions], tuple[Array, Array]]
"""From a behavior and its decisions to continuous (N, C) and discrete (N, B) actions."""


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
