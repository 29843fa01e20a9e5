"""Instances that fail: how often each may be restarted, after what wait, and what is reported."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from envs.spec import Array, UserError

START_SECONDS = 60.0
"""An instance that starts has so much more time than `step_timeout`: imports, and the making of an env."""
REFILL_SECONDS = 600.0
"""One restart comes back to an instance's budget after so long: a game that leaks may fail for days, now and then."""
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.25, 10.0


class InstanceFailed(UserError):
    """An instance failed more often than its budget of restarts allows."""


class InstanceEvent(NamedTuple):
    """Something to report to the user."""

    kind: str
    """`fault`, `restart`, `unexpected` (what nothing here is meant for: a client at a player's port that is no player,
    a side channel that is not known), `warning`, or `note`: nothing bad."""
    instance: int
    text: str


class Budget:
    """Restarts that each instance may still take: `restarts` at first, one more every `REFILL_SECONDS` up to that.

    An instance that needs more is retired, as long as at least `min_instances` others live.
    """

    def __init__(self, restarts: int, instances: int, min_instances: int) -> None:
        self.restarts = restarts
        self.events: deque[InstanceEvent] = deque(maxlen=_KEPT_EVENTS)
        """What to report to the user, the oldest first."""
        self.retired: Array = np.zeros(instances, bool)
        """(I,) instances that have failed for good."""
        self._min_instances = min_instances
        self._spent = np.zeros(instances)
        self._since = np.zeros(instances)

    def spend(self, instance: int, now: float) -> tuple[int, float] | None:
        """Takes one restart: (how many are spent, seconds to wait before it), or None if none is left."""
        refilled = self._spent[instance] - (now - self._since[instance]) / REFILL_SECONDS
        spent = max(0.0, refilled) + 1.0
        self._spent[instance], self._since[instance] = spent, now
        if spent > self.restarts:
            return None
        number = int(np.ceil(spent))
        return number, float(min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** (number - 1)))

    def next_start(self, failed: Sequence[int], text: str, causes: Mapping[int, str]) -> float | None:
        """Counts a failure of the instances `failed`, which `text` describes, and adds the events that say so.

        Returns when to start them again (monotonic); None if all of them are retired. `causes` are said of those.
        Raises InstanceFailed if one has to be retired, and too few others live.
        """
        now = time.monotonic()
        restarts = {instance: self.spend(instance, now) for instance in failed if not self.retired[instance]}
        for instance in [instance for instance, restart in restarts.items() if restart is None]:
            self._retire(instance, causes[instance])
        left = [restart for restart in restarts.values() if restart is not None]
        if not left:
            return None
        number, delay = max(left)
        text = f"{text} Restart {number} of {self.restarts} in {delay:g} s."
        self.events.append(InstanceEvent("fault", failed[0], text))
        return now + delay

    def _retire(self, instance: int, why: str) -> None:
        self.retired[instance] = True
        others = int(np.count_nonzero(~self.retired))
        spent = f"Instance {instance} failed once more than its {self.restarts} restarts (env.restarts) allow"
        if others < self._min_instances:
            raise InstanceFailed(f"{spent}:\n{why}")
        text = f"{spent}, and is left out; the other {others} go on:\n{why}"
        self.events.append(InstanceEvent("fault", instance, text))


_KEPT_EVENTS = 1000
