"""Stands in for Unity players: two behaviors in every instance, one of which appears late, and statistics."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from envs.spec import BehaviorSpec, Decisions, ObservationSpec, Ready, StepResults

LENGTH = 5
"""Steps of an episode."""
SPECS = {
    "Early": BehaviorSpec("Early", (ObservationSpec("x", (2,), "float32"),), branches=(3,)),
    "Late": BehaviorSpec("Late", (ObservationSpec("y", (3,), "float32"),), continuous_size=2),
}


class Sent(NamedTuple):
    key: str
    value: float
    aggregation: str


class Several:
    """Two instances. `Late` has an agent in each from the step `late` on; None = never."""

    def __init__(self, late: int | None = 30, statistics: Callable[[int], list[Sent]] = lambda step: []) -> None:
        self.instances = 2
        self.specs: dict[str, BehaviorSpec] = {}
        self.samples = np.zeros(2, np.int64)
        self.busy_seconds = np.zeros(2)
        self.layout = "2 toys"
        self.events: deque = deque()
        self.picture = None
        self.retired = np.zeros(2, bool)
        self.steps = 0
        self.closed = False
        self._late, self._statistics = late, statistics
        self._missing = dict.fromkeys(SPECS, np.zeros(0, np.int64))
        self._lengths = {name: np.zeros(2, np.int64) for name in SPECS}
        self._sent: list[Sent] = []

    def __enter__(self) -> Several:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def start(self):
        return self.specs

    def recv(self, timeout):
        """Every instance steps at once, when all its agents have acted."""
        if any(len(missing) for missing in self._missing.values()):
            return {}
        ready = {name: self._ready(name) for name in self._alive()}
        self.steps += 1
        self._sent += self._statistics(self.steps)
        return ready

    def send(self, behavior, agents, continuous, discrete):
        assert continuous.shape == (len(agents), SPECS[behavior].continuous_size)
        assert discrete.shape == (len(agents), len(SPECS[behavior].branches))
        missing = self._missing[behavior]
        assert set(agents) <= set(missing)
        self._missing[behavior] = np.setdiff1d(missing, agents)

    def take_statistics(self):
        sent, self._sent = self._sent, []
        return sent

    def request_picture(self, file):
        pass

    def watch(self, fileobj):
        pass

    def state(self):
        return {"steps": self.steps, "begun": [0, 0]}

    def close(self):
        self.closed = True

    def _alive(self) -> list[str]:
        return ["Early", "Late"] if self._late is not None and self.steps >= self._late else ["Early"]

    def _ready(self, name: str) -> Ready:
        spec, both, lengths = SPECS[name], np.arange(2), self._lengths[name]
        first = name not in self.specs
        self.specs[name] = spec
        closing = both[:0] if first else both
        lengths[closing] += 1
        ended = lengths[closing] == LENGTH
        lengths[closing[ended]] = 0
        self.samples[closing] += 1
        self.busy_seconds += 1e-6
        self._missing[name] = both
        observations = (np.random.default_rng(self.steps).random((2, *spec.observations[0].shape), np.float32),)
        results = StepResults(
            closing.astype(np.int32),
            closing,
            np.full(len(closing), 1.0 if name == "Early" else 2.0, np.float32),
            ended,
            np.zeros(len(closing), bool),
            (observations[0][:0],),
            np.zeros((0, 0), bool),
        )
        decisions = Decisions(both.astype(np.int32), both, observations, np.zeros((2, 0), bool))
        return Ready(results, decisions, np.zeros(0, np.int64), {})
