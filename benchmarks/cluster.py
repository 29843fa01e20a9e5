"""Clusters of 4 to 256 hosts, simulated from what a fragment and a row cost the learner's host.

    python -m benchmarks.ingest --json > ingest.json
    python -m benchmarks.cluster --ingest ingest.json [--seconds 20] [--json]

Simulated are games that play steadily, a window of fragments a host, two requests in flight, replies as the relay gives
them, the network of the learner's host, the ingest, which takes one reply after the other, weights that go with the
next request at most ten times a second, and PPO, whose updates take half of the time in which a rollout comes. Not
simulated: the CPU time of weights, cores that the ingest shares with others, and games that differ.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.ingest import SPECS, measured
from benchmarks.report import machine_line, table
from buffers.fragments import WINDOW, FragmentLayout, fragment_rows
from buffers.rows import Layout
from trainer.cluster.checks import LEAST_ROWS, MOST_ROWS
from trainer.cluster.ingest import IN_FLIGHT
from trainer.cluster.relay import IDLE_SECONDS, SHIP_SECONDS

HOSTS = (4, 16, 64, 256)
INSTANCES = 16
RATES = (15.0, 300.0)
"""Samples a second of one game: the reference's speed, and a fast game."""
LATENCY_SECONDS = 0.0005
BYTES_PER_SECOND = 1.25e9
"""Of the learner's host: 10 Gbit/s."""
WEIGHTS_BYTES = 100_000
PUBLISH_SECONDS = 0.1
MAX_LAG = 1
UPDATING = 0.5
"""Share of the time that the learner spends in updates, if all samples come."""
_WARM_SECONDS = 3.0
_MAY_DROP = 0.01


@dataclass(frozen=True)
class Case:
    """One cluster."""

    hosts: int
    rate: float
    """Samples a second of a game."""
    rows: int
    """Of a fragment."""
    rollout: int
    row_bytes: int
    fragment_us: float
    """CPU time that a fragment costs the ingest, besides its rows."""
    row_us: float

    @property
    def supply(self) -> float:
        """Samples a second that the games could deliver."""
        return self.hosts * INSTANCES * self.rate


@dataclass
class Figures:
    """What came of a case, in its seconds after the first few."""

    utilization: float = 0.0
    """Samples that were made, over those that games could have made."""
    ingest_cores: float = 0.0
    megabytes_per_second: float = 0.0
    lag_mean: float = 0.0
    """Versions of the policy by which a rollout's rows are older than the newest."""
    lag_largest: int = 0
    """Of rows that were learned from."""
    dropped: float = 0.0
    """Share of the samples that came too late to be learned from."""
    seconds_behind: float = 0.0
    """From a step to its row's arrival, on average."""


@dataclass
class _Host:
    made: float = 0.0
    at: float = 0.0
    taken: int = 0
    sent: float = 0.0
    asked: deque[float] = field(default_factory=deque)
    due: int = 0
    """Number of the event that answers; an earlier one is out of date."""
    version: int = 1
    versions: deque[tuple[float, int]] = field(default_factory=lambda: deque([(-math.inf, 1)]))
    """Since when it has acted with which version, the newest last."""

    def version_at(self, time: float) -> int:
        """Returns the version with which it acted at a time."""
        return next(version for since, version in reversed(self.versions) if since <= time)


class Simulation:
    """One cluster as events in the order of time."""

    def __init__(self, case: Case) -> None:
        self._case, self._now = case, 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._hosts = [_Host() for _ in range(case.hosts)]
        self._rate = INSTANCES * case.rate
        self._link_free = self._ingest_free = self._ingest_busy = self._bytes = 0.0
        self._version = self._published = 1
        self._published_at = -math.inf
        self._rows: deque[tuple[int, int]] = deque()
        """Of what waits for the learner: rows and the version that acted, fragment by fragment."""
        self._waiting = 0
        self._updating = False
        self._idle: list[_Host] = []
        """Those that were not asked, as the learner is behind."""
        self._arrived = self._dropped = self._learned = 0
        self._lags = self._delays = 0.0
        self._largest = 0

    def run(self, seconds: float) -> Figures:
        """Returns figures of so many seconds, or of as many as a few rollouts take."""
        a_rollout = self._case.rollout / self._case.supply
        warm, seconds = max(_WARM_SECONDS, 2 * a_rollout), max(seconds, 4 * a_rollout)
        for index, host in enumerate(self._hosts):  # hosts do not begin at once
            for _ in range(IN_FLIGHT):
                self._at(index / len(self._hosts) * SHIP_SECONDS, partial(self._request, host, 1))
        self._until(warm)
        self._arrived = self._dropped = self._learned = self._largest = 0
        self._lags = self._delays = self._ingest_busy = self._bytes = 0.0
        made = self._made()
        self._until(warm + seconds)
        return Figures(
            utilization=(self._made() - made) / (self._case.supply * seconds),
            ingest_cores=self._ingest_busy / seconds,
            megabytes_per_second=self._bytes / seconds / 1e6,
            lag_mean=self._lags / max(1, self._learned),
            lag_largest=self._largest,
            dropped=self._dropped / max(1, self._arrived),
            seconds_behind=self._delays / max(1, self._arrived),
        )

    def _made(self) -> float:
        for host in self._hosts:
            self._advance(host)
        return sum(host.made for host in self._hosts)

    def _at(self, time: float, event: Callable[[], None]) -> int:
        number = next(self._numbers)
        heapq.heappush(self._events, (time, number, event))
        return number

    def _until(self, time: float) -> None:
        while self._events and self._events[0][0] <= time:
            self._now, _, event = heapq.heappop(self._events)
            event()
        self._now = time

    def _advance(self, host: _Host) -> None:
        """Lets its games play on, at most a window ahead."""
        made = host.made + (self._now - host.at) * self._rate
        host.made, host.at = min(made, max(host.made, host.taken + WINDOW * self._case.rows)), self._now

    def _request(self, host: _Host, version: int) -> None:
        """A request reaches a host."""
        self._advance(host)
        if version > host.version:
            host.version = version
            host.versions.append((self._now, version))
            if len(host.versions) > 100:
                host.versions.popleft()
        host.asked.append(self._now)
        self._plan_reply(host)

    def _plan_reply(self, host: _Host) -> None:
        if not host.asked:
            return
        waiting = host.made - host.taken
        full, one = ((wanted - waiting) / self._rate for wanted in (self._case.rows, 1))
        due = min(self._now + full, max(host.sent + SHIP_SECONDS, self._now + one), host.asked[0] + IDLE_SECONDS)

        def answer() -> None:
            if host.due == number:
                self._reply(host)

        number = host.due = self._at(max(due, self._now) + 1e-9, answer)

    def _reply(self, host: _Host) -> None:
        self._advance(host)
        host.asked.popleft()
        rows = min(self._case.rows, int(host.made - host.taken + 1e-6))
        acted = self._now - (host.made - host.taken - rows / 2) / self._rate  # of the row in the middle
        host.taken += rows
        host.sent = self._now
        size = rows * self._case.row_bytes + 100
        self._link_free = max(self._link_free, self._now) + size / BYTES_PER_SECOND
        self._bytes += size
        version = host.version_at(acted)
        self._at(self._link_free + LATENCY_SECONDS, lambda: self._ingest(host, rows, version, acted))
        self._plan_reply(host)

    def _ingest(self, host: _Host, rows: int, version: int, acted: float) -> None:
        """A reply reaches the ingest, which takes one after the other."""
        cost = (self._case.fragment_us + rows * self._case.row_us) / 1e6
        self._ingest_free = max(self._ingest_free, self._now) + cost
        self._ingest_busy += cost

        def taken() -> None:
            if rows:
                self._rows.append((rows, version))
                self._waiting += rows
                self._arrived += rows
                self._delays += rows * (self._now - acted)
                self._learn()
            self._idle.append(host)
            self._ask()

        self._at(self._ingest_free, taken)

    def _ask(self) -> None:
        """Asks hosts again, unless the learner is behind by what PPO tolerates."""
        if self._waiting + self._updating * self._case.rollout > (MAX_LAG + 1) * self._case.rollout:
            return
        for host in self._idle:
            if self._version > self._published and self._now >= self._published_at + PUBLISH_SECONDS:
                self._published, self._published_at = self._version, self._now
            size = WEIGHTS_BYTES if self._published > host.version else 100
            arrival = self._now + LATENCY_SECONDS + size / BYTES_PER_SECOND
            self._at(arrival, partial(self._request, host, self._published))
        self._idle = []

    def _learn(self) -> None:
        """Begins an update if there is a rollout of rows that are fresh enough."""
        if self._updating:
            return
        if self._waiting < self._case.rollout:
            return
        fresh = deque(each for each in self._rows if each[1] >= self._version - MAX_LAG)
        waiting = sum(rows for rows, _ in fresh)
        self._dropped += self._waiting - waiting
        self._rows, self._waiting = fresh, waiting
        if self._waiting < self._case.rollout:
            return
        wanted = self._case.rollout
        while wanted > 0:
            rows, version = self._rows.popleft()
            count, lag = min(rows, wanted), self._version - version
            if count < rows:
                self._rows.appendleft((rows - count, version))
            wanted -= count
            self._waiting -= count
            self._learned += count
            self._lags += count * lag
            self._largest = max(self._largest, lag)
        self._updating = True

        def learned() -> None:
            self._updating = False
            self._version += 1
            self._learn()
            self._ask()

        self._at(self._now + UPDATING * self._case.rollout / self._case.supply, learned)


def fragment_costs(ingest: list[dict[str, Any]], what: str) -> tuple[float, float]:
    """Returns microseconds of a fragment and of a row, from what samples cost in the smallest and largest fragments."""
    found = sorted((each["fragment"], each["fragment"] * each["us"]) for each in ingest if each["rows"] == what)
    (small, cheap), (large, dear) = found[0], found[-1]
    row = (dear - cheap) / (large - small)
    return cheap - small * row, row


def cases(ingest: list[dict[str, Any]], what: str) -> list[Case]:
    """Returns clusters of all sizes, with rollouts of the least size that is let begin, and of 8 and 64 times that."""
    made = []
    layout = Layout(SPECS[what], positions=True)
    fragment_us, row_us = fragment_costs(ingest, what)
    for hosts, rate, times in itertools.product(HOSTS, RATES, (1, 8, 64)):
        rollout = max(2048, WINDOW * LEAST_ROWS * hosts * times)
        wanted = max(LEAST_ROWS, min(MOST_ROWS, MAX_LAG * rollout // (2 * WINDOW * hosts)))
        rows, size = fragment_rows(layout, wanted), FragmentLayout(layout).row_bytes
        made.append(Case(hosts, rate, rows, rollout, size, fragment_us, row_us))
    return made


def fastest(rollout: int, fragment_us: float, row_us: float, row_bytes: int) -> float:
    """Returns how many samples a second 16 hosts may deliver before PPO drops more than 1% of them as too old."""
    low, high = 1.0, 3000.0  # of a game
    while high > 1.02 * low:
        rate = math.sqrt(low * high)
        rows = max(LEAST_ROWS, min(MOST_ROWS, MAX_LAG * rollout // (2 * WINDOW * 16)))
        case = Case(16, rate, rows, rollout, row_bytes, fragment_us, row_us)
        low, high = (rate, high) if Simulation(case).run(5.0).dropped <= _MAY_DROP else (low, rate)
    return 16 * INSTANCES * low


def main() -> None:
    """Prints tables, or one JSON object."""
    parser = argparse.ArgumentParser("python -m benchmarks.cluster", description=str(__doc__).splitlines()[0])
    parser.add_argument("--ingest", help="a file with what `python -m benchmarks.ingest --json` printed (measured now)")
    parser.add_argument("--seconds", type=float, default=10.0, help="simulated seconds of each case (10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    given = parser.parse_args()
    ingest = json.loads(Path(given.ingest).read_text())["ingest"] if given.ingest else measured(3.0)
    result: dict[str, Any] = {"costs": {what: fragment_costs(ingest, what) for what in SPECS}}
    row_bytes = FragmentLayout(Layout(SPECS["100 floats"], positions=True)).row_bytes
    fragment_us, row_us = result["costs"]["100 floats"]
    result["fastest"] = {rollout: fastest(rollout, fragment_us, row_us, row_bytes) for rollout in (2048, 8192, 32768)}
    for what in SPECS:
        found = [(case, Simulation(case).run(given.seconds)) for case in cases(ingest, what)]
        result[what] = [asdict(case) | asdict(figures) for case, figures in found]
    print(json.dumps(result) if given.json else _text(result))


def _text(result: dict[str, Any]) -> str:
    header = ["hosts", "a game's samples/s", "rollout", "a fragment", "utilization", "ingest, cores", "MB/s"]
    header += ["lag, mean", "largest", "dropped", "s behind"]
    lines = [machine_line()]
    lines += [f"a rollout of {rollout:,}: to {each:,.0f} samples/s" for rollout, each in result["fastest"].items()]
    for what in SPECS:
        fragment, row = result["costs"][what]
        rows = [
            [
                *(each[name] for name in ("hosts", "rate", "rollout", "rows", "utilization", "ingest_cores")),
                *(each[name] for name in ("megabytes_per_second", "lag_mean", "lag_largest", "dropped")),
                each["seconds_behind"],
            ]
            for each in result[what]
        ]
        lines += ["", f"{what}: {fragment:.0f} us a fragment and {row:.2f} us a row", table(header, rows)]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
