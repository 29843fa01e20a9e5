"""Lock-step: what instances say is held back until all have spoken. It is reproducible, and shows what waiting costs.

Shapes: N decisions, M results.
"""

from __future__ import annotations

import numpy as np

from envs.spec import Array, Lessons, Ready, StepResults, joined


class Round:
    """Collects what instances say until each has said something, and hands it out in the order of instances."""

    def __init__(self, instances: int) -> None:
        self._ready: Array = np.zeros(instances, bool)
        self._held: dict[str, list[Ready]] = {}

    def add(self, arrived: dict[str, Ready], retired: Array) -> dict[str, Ready]:
        """Takes what has arrived; returns all that came once every instance not `retired` (I,) is ready, else `{}`.

        In the order of names and of instances: it does not depend on who was first.
        """
        for behavior, ready in arrived.items():
            self._hold(behavior, ready)
        if not (self._ready | retired).all():
            return {}
        self._ready[:] = False
        held, self._held = self._held, {}
        return {behavior: _joined(held[behavior]) for behavior in sorted(held)}

    def _hold(self, behavior: str, ready: Ready) -> None:
        held = self._held.setdefault(behavior, [])
        if len(ready.lost):  # what they said in this round goes with them
            for part in held:
                self._ready[part.decisions.instance[np.isin(part.decisions.agent, ready.lost)]] = False
            before = _open_before(held, ready.lost)
            held[:] = [_without(part, ready.lost) for part in held]
            ready = ready._replace(lost=before)
        held.append(ready)
        self._ready[ready.decisions.instance] = True


def _open_before(parts: list[Ready], lost: Array) -> Array:
    """Returns those of the agents `lost` with a step from before this round; the others began in it and never acted."""
    begun: set[int] = set()
    for results, decisions, *_ in parts:
        going_on = results.agent[~(results.terminated | results.truncated)]
        begun.update(decisions.agent[~np.isin(decisions.agent, going_on)].tolist())
    return lost[~np.isin(lost, list(begun))]


def _without(ready: Ready, agents: Array) -> Ready:
    """Returns `ready` without what these agents said; what has ended before stays."""
    results, decisions = ready.results, ready.decisions
    closed = ~np.isin(results.agent, agents) | results.terminated | results.truncated
    asking = ~np.isin(decisions.agent, agents)
    metrics = {agent: metrics for agent, metrics in ready.metrics.items() if agent in results.agent[closed]}
    kept = _results_of(results, closed.nonzero()[0])
    return ready._replace(results=kept, decisions=decisions.take(asking), metrics=metrics)


def _joined(parts: list[Ready]) -> Ready:
    """Returns one `Ready` of several, in the order of instances."""
    results = joined([part.results for part in parts])
    decisions = joined([part.decisions for part in parts])
    metrics: dict[int, dict[str, float]] = {}
    lessons: dict[int, Lessons] = {}
    for part in parts:
        metrics |= part.metrics
        lessons |= part.lessons
    return Ready(
        _results_of(results, results.instance.argsort(kind="stable")),
        decisions.take(decisions.instance.argsort(kind="stable")),
        np.sort(np.concatenate([part.lost for part in parts])),
        dict(sorted(metrics.items())),
        lessons,
    )


def _results_of(results: StepResults, order: Array) -> StepResults:
    cut = results.truncated.cumsum() - 1  # where in the final observations each truncated one stands
    finals = cut[order][results.truncated[order]]
    return StepResults(
        results.instance[order],
        results.agent[order],
        results.reward[order],
        results.terminated[order],
        results.truncated[order],
        tuple(field[finals] for field in results.final_observations),
        results.final_mask[finals],
        results.group_reward[order] if len(results.group_reward) else results.group_reward,
    )
