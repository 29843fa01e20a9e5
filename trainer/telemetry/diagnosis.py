"""Says in one plain sentence what is wrong when a run does not learn, and what to try.

Each rule looks at the metrics of one logging interval. It is reported once it has held over a window of updates and of
samples, and until an interval contradicts it; between the two bounds of a rule nothing changes. A policy whose return
has risen learns: nothing is said of its entropy, its values and its steps then.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from trainer.telemetry.metrics import EPISODES

CONSTANT = "constant/"
"""Before the names of observations that have never changed, among a behavior's metrics."""


class Diagnosis:
    """Watches one behavior of a run."""

    def __init__(self, judged: bool) -> None:
        """`judged`: whether returns say how well it learns: it begins with nothing, and only the environment pays."""
        self._returns = Returns(judged)
        self._since: dict[str, Since] = {}
        """By rule: when it began to hold."""
        self._found: dict[str, str] = {}
        """By rule: the sentence, of those that have held for long."""
        self._told: list[str] = []
        """Rules whose sentences were said before."""

    @property
    def sentence(self) -> str | None:
        """What is wrong now, the most important; None if nothing is."""
        return next((self._found[rule.name] for rule in RULES if rule.name in self._found), None)

    def add_episode(self, reward: float) -> None:
        """Takes in the return of an episode."""
        self._returns.add(reward)

    def add(self, samples: int, metrics: Mapping[str, float]) -> str | None:
        """Takes in the metrics of a logging interval that ends at `samples` samples of the run.

        Returns what is wrong now if that was not said before in this run.
        """
        updates = metrics.get("update/count", 0.0)
        for rule in RULES:
            holds = rule.holds(metrics, self._returns)
            if rule.needs_return and self._returns.risen is not False:
                holds = None if self._returns.risen is None else False
            if holds is False:
                self._since.pop(rule.name, None)
                self._found.pop(rule.name, None)
            elif holds:
                since = self._since.setdefault(rule.name, Since(samples, updates))
                if samples - since.samples >= rule.samples and updates - since.updates >= rule.updates:
                    self._found[rule.name] = rule.sentence(metrics)
        first = next((rule.name for rule in RULES if rule.name in self._found), None)
        if first is None or first in self._told:
            return None
        self._told.append(first)
        return self._found[first]

    def state(self) -> dict[str, Any]:
        """Returns what `load_state` takes, as JSON can hold it."""
        return {
            "returns": self._returns.state(),
            "since": {name: list(each) for name, each in self._since.items()},
            "found": dict(self._found),
            "told": list(self._told),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned."""
        self._returns.load_state(state["returns"])
        self._since = {name: Since(*each) for name, each in state["since"].items()}
        self._found, self._told = dict(state["found"]), list(state["told"])


class Returns:
    """The returns of a behavior's first episodes and of its last ones."""

    def __init__(self, judged: bool) -> None:
        self.judged = judged
        self.count = 0
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=EPISODES)

    def add(self, value: float) -> None:
        """Takes in the return of an episode."""
        self.count += 1
        if len(self._first) < EPISODES:
            self._first.append(value)
        self._last.append(value)

    @property
    def risen(self) -> bool | None:
        """Whether the last ones lie above the first by half their deviation, and not by chance.

        None where that says nothing.
        """
        if not self.judged or self.count < LEAST_EPISODES:
            return None
        first = self._first[: self.count // 2]
        last = list(self._last)[-len(first) :]
        margin = max(0.5, 3 * math.sqrt(2 / len(first)))  # three standard errors of the difference
        return statistics.fmean(last) > statistics.fmean(first) + margin * statistics.pstdev(first)

    @property
    def all_equal(self) -> bool:
        """Whether the last ones are the same, so that there is nothing to learn from them."""
        return len(set(self._last)) <= 1

    def state(self) -> dict[str, Any]:
        """Returns what `load_state` takes."""
        return {"count": self.count, "first": self._first, "last": list(self._last)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned."""
        self.count, self._first = int(state["count"]), list(map(float, state["first"]))
        self._last.extend(map(float, state["last"]))


class Since(NamedTuple):
    """When a rule began to hold."""

    samples: int
    updates: float


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong."""

    name: str
    holds: Callable[[Mapping[str, float], Returns], bool | None]
    """Whether it is so by the metrics of an interval; None if they do not say."""
    sentence: Callable[[Mapping[str, float]], str]
    samples: int = 20_000
    """Samples over which it has to hold."""
    updates: int = 20
    """Updates over which it has to hold."""
    needs_return: bool = False
    """Whether it is wrong only while the return has not risen."""


LEAST_EPISODES = 20
"""So many have to end before returns say anything."""


def _above(value: float | None, bad: float, good: float) -> bool | None:
    """Returns True above `bad`, False below `good`, None between them or without a value."""
    if value is None or math.isnan(value) or good <= value <= bad:
        return None
    return value > bad


def _below(value: float | None, bad: float, good: float) -> bool | None:
    return None if value is None else _above(-value, -bad, -good)


def _constant(metrics: Mapping[str, float], returns: Returns) -> bool | None:
    if not any(_constants(metrics)):
        return False
    return True if returns.count >= LEAST_EPISODES else None


def _constants(metrics: Mapping[str, float]) -> Iterator[str]:
    return (key.removeprefix(CONSTANT) for key in metrics if key.startswith(CONSTANT))


def _of_constants(metrics: Mapping[str, float]) -> str:
    names = sorted(_constants(metrics))
    one = len(names) == 1
    return (
        f"Observation{'' if one else 's'} {', '.join(map(repr, names))} never change{'s' if one else ''}: look at what "
        f"the environment sends (a camera that does not render?), or leave {'it' if one else 'them'} out."
    )


def _entropy_gone(metrics: Mapping[str, float], _: Returns) -> bool | None:
    deviation, entropy = metrics.get("policy/deviation"), metrics.get("policy/entropy_discrete")
    if deviation is None:  # then all of the entropy is that of choices
        entropy = metrics.get("policy/entropy")
    signs = [_below(deviation, 0.01, 0.03), _below(entropy, 0.01, 0.05)]
    return None if signs == [None, None] else any(signs)


def _values_explain_nothing(metrics: Mapping[str, float], returns: Returns) -> bool | None:
    return None if returns.all_equal else _below(metrics.get("value/explained_variance"), 0.02, 0.1)


def _policy_stands(metrics: Mapping[str, float], returns: Returns) -> bool | None:
    return None if returns.all_equal else _below(metrics.get("policy/kl"), 1e-5, 3e-5)


RULES: Sequence[Rule] = (
    Rule(
        "skipped",
        lambda metrics, _: _above(metrics.get("update/skipped_share"), 0.5, 0.25),
        lambda metrics: (
            f"{metrics['update/skipped_share']:.0%} of the gradient steps are skipped, because the loss is not finite: "
            "lower algorithm.learning_rate, and look for huge rewards or observations."
        ),
        samples=0,
        updates=3,
    ),
    Rule("constant", _constant, _of_constants, samples=5_000, updates=1),
    Rule(
        "dropped",
        lambda metrics, _: _above(metrics.get("update/dropped_share"), 0.2, 0.1),
        lambda metrics: (
            f"{metrics['update/dropped_share']:.0%} of the samples come too late to be learned from: raise "
            "algorithm.max_lag, or shorten updates (fewer algorithm.epochs, larger algorithm.minibatch_size)."
        ),
    ),
    Rule(
        "entropy",
        _entropy_gone,
        lambda _: (
            "The entropy is gone before the return has risen, so nothing new is tried: raise algorithm.entropy_coef, "
            "or lower algorithm.learning_rate."
        ),
        needs_return=True,
    ),
    Rule(
        "values",
        _values_explain_nothing,
        lambda metrics: (
            f"Values explain nothing of the returns (explained variance {metrics['value/explained_variance']:.2f}): "
            "see whether observations tell what the reward depends on; try a higher algorithm.learning_rate, or "
            "algorithm.network.memory.cell=lstm if the past matters."
        ),
        samples=60_000,
        updates=30,
        needs_return=True,
    ),
    Rule(
        "kl",
        _policy_stands,
        lambda metrics: (
            f"The policy hardly moves (KL {metrics['policy/kl']:.0e}): raise algorithm.learning_rate or "
            "algorithm.epochs."
        ),
        needs_return=True,
    ),
)
"""The most important first."""
