"""`python -m benchmarks.serving --json`: what a request to the endpoint takes, and how many it answers a second.

`trainer.serve` in a process of its own, with a policy of Basic that nobody has trained. First one client, which waits
for each reply; then several at once, each in a process of its own on the same machine. Clients are light: a socket that
is kept, and the same bytes again and again.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from algorithms.onnx.build import build_model
from algorithms.policy import Policy
from algorithms.settings import NetworkSettings
from benchmarks.report import machine, machine_line, table
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from trainer.runtime.ipc import SPAWN

_WARM_UP = 500  # requests


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and prints a table, or one JSON object; 0, or 2 for bad input."""
    options = _parser().parse_args(argv)
    try:
        for name in ("requests", "clients", "seconds"):
            if not getattr(options, name) > 0:
                raise UserError(f"--{name} {getattr(options, name)} must be above 0")
    except UserError as error:
        print(f"serving: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "Basic.onnx"
        model.write_bytes(_basic())
        with _serving(model) as port:
            times = round_trips(port, options.requests)
            rate = together(port, options.clients, options.seconds)
    cuts = statistics.quantiles(times, n=100)
    result = {
        "requests": options.requests,
        "clients": options.clients,
        "seconds": options.seconds,
        "machine": machine(),
        "p50_ms": 1000 * cuts[49],
        "p99_ms": 1000 * cuts[98],
        "requests_per_second": rate,
    }
    print(json.dumps(result) if options.json else _text(result))
    return 0


def round_trips(port: int, requests: int) -> list[float]:
    """Seconds that each of so many requests takes one client."""
    client = Client(port)
    for _ in range(_WARM_UP):
        client.ask()
    times = []
    for _ in range(requests):
        start = time.perf_counter()
        client.ask()
        times.append(time.perf_counter() - start)
    client.close()
    return times


def together(port: int, clients: int, seconds: float) -> float:
    """Requests a second of so many clients at once."""
    pipes, processes = [], []
    for _ in range(clients):
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=_ask_for, args=(port, seconds, theirs))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()  # all have warmed up
    for pipe in pipes:
        pipe.send(None)
    rate: float = sum(pipe.recv() for pipe in pipes)
    for process in processes:
        process.join()
    return rate


class Client:
    """A connection that is kept, and one request."""

    def __init__(self, port: int) -> None:
        body = json.dumps({"observations": [[float(i == 10) for i in range(20)]]}).encode()
        head = f"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> bytes:
        """The body of the reply."""
        self._socket.sendall(self._request)
        reply = self._socket.recv(65536)
        while b"\r\n\r\n" not in reply or not reply.endswith(b"}"):
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError(f"the server hung up after {reply!r}")
            reply += more
        head, _, body = reply.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"the server said {reply!r}")
        return body

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()


def _ask_for(port: int, seconds: float, pipe: Connection) -> None:
    """In a process of its own: asks for so long, once it is told to begin, and tells how many times a second."""
    client = Client(port)
    for _ in range(_WARM_UP):
        client.ask()
    pipe.send(None)
    pipe.recv()
    count, start = 0, time.perf_counter()
    while (now := time.perf_counter()) < start + seconds:
        client.ask()
        count += 1
    pipe.send(count / (now - start))


def _basic() -> bytes:
    """A model of the experiment `basic_ppo` before its first update."""
    spec = BehaviorSpec("Basic", (ObservationSpec("observation", (20,), "float32"),), branches=(3,))
    content: bytes = build_model(
        Policy(spec, NetworkSettings([64, 64]), "ppo"), channels_last=False
    ).SerializeToString()
    return content


@contextmanager
def _serving(model: Path) -> Iterator[int]:
    """The port of a server that is up."""
    command = [sys.executable, "-m", "trainer.serve", f"model={model}", "port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        try:
            line = next(iter(server.stdout or ()))  # serving ... on http://127.0.0.1:8080/invocations
            yield int(line.rpartition(":")[2].partition("/")[0])
        finally:
            server.terminate()


def _text(result: dict[str, Any]) -> str:
    rows = [
        ["one client, p50", result["p50_ms"], "ms"],
        ["one client, p99", result["p99_ms"], "ms"],
        [f"{result['clients']} clients", result["requests_per_second"], "requests/s"],
    ]
    return f"the endpoint with a policy of Basic\n{machine_line()}\n\n{table(['', '', 'unit'], rows)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.serving", description="What the endpoint takes and answers.")
    parser.add_argument("--requests", type=int, default=5000, help="of one client (5000)")
    parser.add_argument("--clients", type=int, default=4, help="at once, afterwards (4)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for which they ask (10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
