"""Says in one plain sentence what a run waits for, and what to set then."""

from __future__ import annotations

from collections.abc import Mapping

from envs.config import Stepping
from trainer.config.schema import Mode, TrainConfig

GOOD_UTILIZATION = 0.9
"""Below, games wait for something that is not a game."""
_INSTANT = 0.3
"""Below, what is around a game takes longer than the game itself."""
_THROTTLED, _BUSY, _FULL, _IDLE = 0.05, 0.5, 0.95, 0.25


def bottleneck(config: TrainConfig, shares: Mapping[str, float], utilization: float | None) -> str:
    """Returns the sentence of a run, by its shares of time (0 to 1) by activity, and its env utilization."""
    settings = config.algorithm
    lockstep = config.run.mode is Mode["inline"] or config.env.stepping is Stepping["lockstep"]
    share = {"throttled": 0.0, "updating": 0.0, "waiting for samples": 0.0, "acting": 0.0, "writing": 0.0, **shares}
    if share["throttled"] >= _THROTTLED:
        return f"The learner is the bottleneck: games wait {share['throttled']:.0%} of the time; {settings.lighter}."
    low = utilization is not None and utilization < GOOD_UTILIZATION
    if low and lockstep:
        return f"Games wait for each other, in lock-step: they deliver {utilization:.0%} of what they could."
    if share["acting"] + share["writing"] >= _BUSY:
        if share["writing"] > share["acting"]:
            return f"The collector is the bottleneck: writing takes {share['writing']:.0%} of its time; observe less."
        return (
            f"The collector is the bottleneck: acting takes {share['acting']:.0%} of its time; "
            "make algorithm.network.hidden smaller."
        )
    if utilization is not None and utilization < _INSTANT:
        return "Games take next to no time: passing on their samples is the bottleneck; raise env.instances."
    if low:
        return (
            f"Cores are the bottleneck: games deliver {utilization:.0%} of what they could; lower env.instances, or "
            "free cores."
        )
    if share["waiting for samples"] >= _IDLE:
        return (
            f"The games are the bottleneck: the learner waits {share['waiting for samples']:.0%} of the time; "
            f"raise env.instances or {settings.heavier}."
        )
    if share["updating"] >= _FULL:
        return "The learner is busy all the time, and games do not wait for it: nothing is left over."
    return "Nothing holds up the others: games and learner keep pace."
