"""What the endpoint counts, and `/metrics`: the text format (0.0.4) that Prometheus reads.

Written by hand: the client library's counters take a lock each, 8 us a request on a slow core, where these take 1.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import psutil

from trainer.serve.arrays import cut

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATHS = frozenset(("/", "/docs", "/invocations", "/metrics", "/openapi.json", "/ping"))
"""What is counted by its own name; a client may ask for any number of others."""
_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram's buckets, in seconds: a short request takes a fraction of a millisecond."""


class Metrics:
    """Counts of one server, since it was started."""

    def __init__(self) -> None:
        self.requests = Counter({("/invocations", 200): 0})
        """By path and status."""
        self.rows = 0
        """Rows of observations that were answered."""
        self.closed: Counter[str] = Counter()
        """Connections that were given up, by reason."""
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        """By name, what a gauge tells, and its value now."""
        self._seconds = 0.0
        self._buckets = [0] * (len(_BOUNDS) + 1)
        self._process = psutil.Process()

    def count(self, path: str, status: int, seconds: float) -> None:
        """Takes in a request that was answered, or refused."""
        self.requests[path if path in PATHS else "other", status] += 1
        if path == "/invocations":
            self._seconds += seconds
            self._buckets[bisect_left(_BOUNDS, seconds)] += 1

    def page(self, model: str) -> bytes:
        """Returns the text for Prometheus, of a server of this model."""
        requests = {f'path="{path}",status="{status}"': n for (path, status), n in sorted(self.requests.items())}
        closed = {f'reason="{reason}"': n for reason, n in sorted(self.closed.items())}
        memory, times = self._process.memory_info().rss, self._process.cpu_times()
        parts = [
            _metric("outstep_model_info", "gauge", "The model that is served.", {f'name="{_escaped(cut(model))}"': 1}),
            _metric("outstep_requests_total", "counter", "Requests by path and status.", requests),
            *self._histogram(),
            _metric("outstep_rows_total", "counter", "Rows of observations that were answered.", {"": self.rows}),
            *(_metric(name, "gauge", about, {"": value()}) for name, (about, value) in self.gauges.items()),
            _metric("outstep_closed_connections_total", "counter", "Connections given up, by reason.", closed),
            _metric("process_cpu_seconds_total", "counter", "Processor time.", {"": times.user + times.system}),
            _metric("process_resident_memory_bytes", "gauge", "Memory.", {"": memory}),
            _metric("process_start_time_seconds", "gauge", "Unix time.", {"": self._process.create_time()}),
        ]
        return "".join(parts).encode()

    def _histogram(self) -> Iterable[str]:
        name, total = "outstep_request_duration_seconds", 0
        yield f"# HELP {name} From the head of a request to /invocations to the end of its reply.\n"
        yield f"# TYPE {name} histogram\n"
        for bound, n in zip((*_BOUNDS, "+Inf"), self._buckets):
            total += n
            yield f'{name}_bucket{{le="{bound}"}} {total}\n'
        yield f"{name}_sum {self._seconds!r}\n{name}_count {total}\n"


def _metric(name: str, kind: str, about: str, values: Mapping[str, float]) -> str:
    """Returns a metric with a line for each set of labels."""
    lines = [f"{name}{{{labels}}} {value!r}\n" if labels else f"{name} {value!r}\n" for labels, value in values.items()]
    return f"# HELP {name} {about}\n# TYPE {name} {kind}\n{''.join(lines)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"")
