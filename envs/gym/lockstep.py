"""The lock-step manager: the same verbs, but `recv` waits for every instance. It is reproducible, and shows the cost.

Shapes: N decisions, M results.
"""

from __future__ import annotations

import math
import time
from collections import deque
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from envs.gym.manager import InstanceEvent
from envs.spec import Array, BehaviorSpec, Decisions, Ready, StepResults, joined


class Asynchronous(Protocol):
    """What `EnvManager` and `UnityManager` have in common."""

    @property
    def instances(self) -> int: ...  # noqa: D102
    @property
    def specs(self) -> dict[str, BehaviorSpec]: ...  # noqa: D102
    @property
    def samples(self) -> Array: ...  # noqa: D102
    @property
    def busy_seconds(self) -> Array: ...  # noqa: D102
    @property
    def layout(self) -> str: ...  # noqa: D102
    @property
    def retired(self) -> Array: ...  # noqa: D102
    @property
    def events(self) -> deque[InstanceEvent]: ...  # noqa: D102

    def start(self) -> dict[str, BehaviorSpec]: ...  # noqa: D102
    def recv(self, timeout: float | None = None) -> dict[str, Ready]: ...  # noqa: D102
    def send(self, behavior: str, agents: Array, continuous: Array, discrete: Array) -> None: ...  # noqa: D102
    def watch(self, fileobj: Any) -> None: ...  # noqa: D102
    def state(self) -> Any: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class LockstepManager:
    """An asynchronous manager, started or not, in lock-step: each `recv` returns all instances, in their order."""

    def __init__(self, manager: Asynchronous) -> None:
        self.manager = manager
        self._ready: Array = np.zeros(manager.instances, bool)
        self._held: dict[str, list[Ready]] = {}

    def __enter__(self) -> LockstepManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> dict[str, BehaviorSpec]:
        """As `EnvManager.start`."""
        return self.manager.start()

    def recv(self, timeout: float | None = None) -> dict[str, Ready]:
        """All instances' decisions and results, in the order of instances; `{}` if `timeout` seconds were not enough.

        An instance that fails meanwhile is waited for until it has been restarted, unless it is left out.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not (self._ready | self.manager.retired).all():
            arrived = self.manager.recv(None if timeout is None else max(0.0, until - time.monotonic()))
            if not arrived:
                return {}  # the time is up, or what is watched calls
            for behavior, ready in arrived.items():
                self._hold(behavior, ready)
        self._ready[:] = False
        held, self._held = self._held, {}
        return {behavior: _joined(parts) for behavior, parts in held.items()}

    def send(self, behavior: str, agents: Array, continuous: Array, discrete: Array) -> None:
        """As `EnvManager.send`."""
        self.manager.send(behavior, agents, continuous, discrete)

    def watch(self, fileobj: Any) -> None:
        """As `EnvManager.watch`."""
        self.manager.watch(fileobj)

    def state(self) -> Any:
        """As `EnvManager.state`."""
        return self.manager.state()

    def close(self) -> None:
        """As `EnvManager.close`."""
        self.manager.close()

    @property
    def specs(self) -> dict[str, BehaviorSpec]:
        """As `EnvManager.specs`."""
        return self.manager.specs

    @property
    def instances(self) -> int:
        """As `EnvManager.instances`."""
        return self.manager.instances

    @property
    def samples(self) -> Array:
        """As `EnvManager.samples`."""
        return self.manager.samples

    @property
    def busy_seconds(self) -> Array:
        """As `EnvManager.busy_seconds`."""
        return self.manager.busy_seconds

    @property
    def layout(self) -> str:
        """As `EnvManager.layout`, and that it is in lock-step."""
        return f"{self.manager.layout}, in lock-step"

    @property
    def events(self) -> deque[InstanceEvent]:
        """As `EnvManager.events`."""
        return self.manager.events

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
    """Those of the agents `lost` with a step from before this round; the others began in it, and never acted."""
    begun: set[int] = set()
    for results, decisions, *_ in parts:
        going_on = results.agent[~(results.terminated | results.truncated)]
        begun.update(decisions.agent[~np.isin(decisions.agent, going_on)].tolist())
    return lost[~np.isin(lost, list(begun))]


def _without(ready: Ready, agents: Array) -> Ready:
    """`ready` without what these agents said; what has ended before stays."""
    results, decisions = ready.results, ready.decisions
    closed = ~np.isin(results.agent, agents) | results.terminated | results.truncated
    asking = ~np.isin(decisions.agent, agents)
    metrics = {i: metrics for i, metrics in ready.metrics.items() if i in results.instance[closed]}
    return Ready(_results_of(results, closed.nonzero()[0]), _decisions_of(decisions, asking), ready.lost, metrics)


def _joined(parts: list[Ready]) -> Ready:
    """One `Ready` of several, in the order of instances."""
    results = joined([part.results for part in parts])
    decisions = joined([part.decisions for part in parts])
    metrics: dict[int, dict[str, float]] = {}
    for part in parts:
        metrics |= part.metrics
    return Ready(
        _results_of(results, results.instance.argsort(kind="stable")),
        _decisions_of(decisions, decisions.instance.argsort(kind="stable")),
        np.sort(np.concatenate([part.lost for part in parts])),
        dict(sorted(metrics.items())),
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
    )


def _decisions_of(decisions: Decisions, order: Array) -> Decisions:
    observations = tuple(field[order] for field in decisions.observations)
    return Decisions(decisions.instance[order], decisions.agent[order], observations, decisions.mask[order])
