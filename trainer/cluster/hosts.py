"""What the learner's host knows of the others: each place for a collector, and the relay that has it now."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from envs.spec import Array
from trainer.cluster.relay import HostSetup
from trainer.cluster.stream import Way
from trainer.telemetry.statistics import Statistics


class Starter(Protocol):
    """Starts relays somewhere, and knows when they have ended."""

    def start(self, setup: HostSetup) -> None:
        """Asks for a relay; it connects to `setup.address` by itself, once there is room for it."""

    def end(self, key: int) -> None:
        """Ends a relay, wherever it is; nothing is waited for."""

    def news(self) -> list[tuple[int, str, str | Way]]:
        """Returns what has happened to relays, by key: `ended` and why, `refused` and why, `placed` and where, or a
        `way` to one that cannot connect. UserError if the run cannot go on.
        """

    def close(self) -> None:
        """Ends all relays."""


@dataclass
class Place:
    """A place for a collector. Its games keep their numbers whichever relay has it."""

    number: int
    key: int | None = None
    """Of the relay that has it now; None while there is none."""
    started: float = 0.0
    """When that was asked for, or placed."""
    placed: bool = False
    """Whether it has got its room."""
    host: str = ""
    way: Way | None = None
    """None before it has connected."""
    heard: float = 0.0
    in_flight: int = 0
    """Requests that were not answered."""
    begun: bool = False
    """Whether it has ever delivered anything."""
    start_at: float = 0.0
    """When to ask for another relay."""
    retired: bool = False
    opened: set[str] = field(default_factory=set)
    """Behaviors whose rows it was asked for."""
    seen: set[str] = field(default_factory=set)
    """Behaviors that it has."""
    versions: dict[str, int] = field(default_factory=dict)
    """Of the weights that it was sent, by behavior."""
    open: dict[str, int] = field(default_factory=dict)
    """Unfinished steps, by behavior."""
    controls: dict[str, object] = field(default_factory=dict)
    """What the next request says besides."""
    figures: Statistics = field(default_factory=Statistics.none)
    before: Statistics = field(default_factory=Statistics.none)
    """Those of earlier relays in this place."""

    def vacate(self) -> None:
        """Forgets the relay that has had it."""
        if self.way is not None:
            self.way.close()
        self.key, self.way, self.host, self.placed = None, None, "", False
        self.in_flight = 0
        self.opened, self.seen, self.versions, self.open, self.controls = set(), set(), {}, {}, {}
        self.before = self.figures


class Clock:
    """Monotonic seconds in which this process was awake: one that was stopped must not take all others for silent."""

    def __init__(self) -> None:
        self._now, self._looked = 0.0, time.monotonic()

    def now(self) -> float:
        """Returns the seconds so far; a second at most is counted from one call to the next."""
        now = time.monotonic()
        self._now, self._looked = self._now + min(now - self._looked, 1.0), now
        return self._now


def merged(places: list[Place], instances: int) -> Statistics:
    """Returns the figures of all places together, each with so many `instances`.

    Seconds are those of the one that has acted longest, shared out as all have spent theirs.
    """

    def joined(name: str) -> Array:
        nothing = np.zeros(instances)
        each = (getattr(place.figures, name) for place in places)
        return np.concatenate([values if len(values) else nothing for values in each])

    elapsed = max(place.figures.elapsed for place in places)
    total = sum(place.figures.elapsed for place in places)
    names = dict.fromkeys(name for place in places for name in place.figures.seconds)
    spent = {name: sum(place.figures.seconds.get(name, 0.0) for place in places) for name in names}
    seconds = {name: value * elapsed / max(total, 1e-9) for name, value in spent.items()}
    living = [place for place in places if place.way is not None]
    layout = next((place.figures.layout for place in living if place.figures.layout), "")
    hosts = f"{len(living)} collector{'s' * (len(living) != 1)} of {instances} games"
    return Statistics(
        joined("samples"), joined("spans"), joined("busy"), elapsed, seconds, f"{hosts} each ({layout})" * bool(layout)
    )
