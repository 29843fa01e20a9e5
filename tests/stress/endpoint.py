"""`python -m tests.stress.endpoint --json`: whether an endpoint lives on while clients do their worst.

Each attack has a server of its own and goes on for a while, at the lowest priority, as an attacker has a machine of his
own. Meanwhile `/ping` is asked fifty times a second, in turns on a connection that is kept and on a new one, and timed
from when it was due: by the clock, and by the processor's time that the server took in between, which tells its own
delays from those of a busy machine. Only what both find slow falls short. Afterwards the server has to answer a request
as before, to have left no traceback, and to have grown, at its peak, by no more than 64 MiB; it has 1 GiB. Models that
nobody trained are made hostile by what their metadata say: each has to be refused by one message and status 2.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from algorithms.settings import Cell, MemorySettings, NetworkSettings
from benchmarks.report import machine, machine_line, table
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.stress.endpoint_attacks import Attack, attacks
from tests.stress.endpoint_models import hostile_models
from trainer.runtime.ipc import SPAWN

_PING_SECONDS = 0.02
_P99_SECONDS = 0.1
_GROWTH = 64 * 2**20
_MEMORY = 2**30
"""What a server may allocate."""
_LATE_SECONDS = 60.0
"""A ping, or the last request, that takes so long counts as not answered."""
_BAD_INPUT = 2
_MESSAGE_LINES, _MESSAGE_CHARACTERS = 12, 2000


def main(argv: list[str] | None = None) -> int:
    """Runs and prints a table, or one JSON object; 0, 1 if anything fell short, 2 for bad input."""
    options = _parser().parse_args(argv)
    try:
        if not options.seconds > 0:
            raise UserError(f"--seconds {options.seconds:g} must be above 0")
    except UserError as error:
        print(f"endpoint: {error}", file=sys.stderr)
        return 2
    known = attacks()
    result: dict[str, Any] = {"seconds": options.seconds, "machine": machine(), "attacks": {}, "models": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = _models(folder)
        for attack in options.attacks:
            result["attacks"][attack] = attacked(known[attack], models, options.seconds, attack)
            if not options.json:
                print(*_cells(attack, result["attacks"][attack]), sep="; ", flush=True)
        if options.models:
            for kind, content in hostile_models(models["vector"].read_bytes()):
                file = folder / "hostile.onnx"
                file.write_bytes(content)
                result["models"][kind] = refused(file)
    result["short"] = _short(result)
    print(json.dumps(result) if options.json else _text(result))
    return int(bool(result["short"]))


def attacked(attack: Attack, models: dict[str, Path], seconds: float, name: str) -> dict[str, Any]:
    """Serves a model, attacks that, and says how the server bore it."""
    with _serving(models[attack.model]) as (server, port, log):
        ours, theirs = SPAWN.Pipe(duplex=False)
        attacker = SPAWN.Process(target=_attack, args=(name, port, seconds, theirs), daemon=True)
        attacker.start()
        theirs.close()
        _ask(port, attack.model)
        before = _memory(server.pid, "VmRSS")
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak is from now on
        ours.recv()  # it is about to begin
        pings: list[tuple[float, float]] = []
        while attacker.is_alive() and not ours.poll():
            _ping(server.pid, port, pings, seconds)
        with contextlib.suppress(EOFError):
            replies = ours.recv()
        attacker.join()
        until = time.monotonic() + _LATE_SECONDS
        lives = False
        while not lives and server.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                lives = _ask(port, attack.model) == http.client.OK
        peak = _memory(server.pid, "VmHWM") if server.poll() is None else math.inf
        traces = re.findall(r"^[\w.]+(?:Error|Exception|Exit|Interrupt)\b.*", log.read_text(), re.MULTILINE)
    clock, processor = ([1000 * times[i] for times in pings] for i in (0, 1))
    return {
        "lives": lives,
        "pings": len(pings),
        "p99_ms": statistics.quantiles(clock, n=100)[98],
        "p99_processor_ms": statistics.quantiles(processor, n=100)[98],
        "slowest_ms": max(clock),
        "growth_mib": (peak - before) / 2**20,
        "tracebacks": traces,
        "replies": replies,
    }


def refused(file: Path) -> dict[str, Any]:
    """Tries to serve a model; says how that ends, and what it takes."""
    command = [sys.executable, "-m", "trainer.serve", f"model={file}", "port=0"]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        resource.prlimit(server.pid, resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
        timer = threading.Timer(_LATE_SECONDS, server.kill)
        timer.start()
        assert server.stdout is not None
        words = server.stdout.readline()
        if words.startswith("serving "):
            server.terminate()
        words += server.stdout.read()
        server.wait()
        timer.cancel()
    return {
        "status": server.returncode,
        "lines": words.count("\n"),
        "characters": len(words),
        "seconds": time.monotonic() - began,
        "words": words[:300],
    }


def _attack(name: str, port: int, seconds: float, pipe: Any) -> None:
    """In a process of its own: attacks for so long, and then tells how often what was replied."""
    os.nice(19)
    attack = attacks()[name]
    replies: Counter[str] = Counter()
    pipe.send(None)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        replies.update(attack.run(port))
    pipe.send(dict(replies))


def _ping(pid: int, port: int, pings: list[tuple[float, float]], seconds: float) -> None:
    """Asks for `seconds`, and notes how long each ping took from when it was due: by the clock, and of the server."""
    processor = ~pid << 3 | 2  # as clock_getcpuclockid says
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=_LATE_SECONDS)
    began = time.monotonic()
    for number in range(int(seconds / _PING_SECONDS)):
        due = began + number * _PING_SECONDS
        time.sleep(max(0.0, due - time.monotonic()))
        before = time.clock_gettime(processor)
        answered = number % 2 == 1 and _answered(kept)
        if not answered:  # it is new, or what was kept was silent and has made room, which clients have to expect
            kept.close()
            answered = _answered(kept)
        times = time.monotonic() - due, time.clock_gettime(processor) - before
        pings.append(times if answered else (_LATE_SECONDS, _LATE_SECONDS))
    kept.close()


def _answered(connection: http.client.HTTPConnection) -> bool:
    """Asks `/ping`, and returns whether that was answered."""
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().read() == b'{"status":"ok"}'
    except (OSError, http.client.HTTPException):
        return False


@contextlib.contextmanager
def _serving(model: Path) -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
    """A server that is up, its port, and what it logs. Nobody reads its access log."""
    log = model.with_suffix(".log")
    command = [sys.executable, "-m", "trainer.serve", f"model={model}", "port=0", "access_log=true"]
    with log.open("w") as stderr, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as server:
        try:
            resource.prlimit(server.pid, resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
            assert server.stdout is not None
            line = server.stdout.readline()
            yield server, int(line.rpartition(":")[2].partition("/")[0]), log
        finally:
            server.kill()


def _ask(port: int, model: str) -> int:
    """Returns the status of a reply to a good request."""
    zeros = [0] * 4 if model != "image" else [[[0] * 3] * 84] * 84
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_LATE_SECONDS)) as connection:
        connection.request("POST", "/invocations", json.dumps({"observations": [zeros]}))
        reply = connection.getresponse()
        reply.read()
        return reply.status


def _memory(pid: int, name: str) -> int:
    """Returns a figure of a process's memory, in bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def _models(folder: Path) -> dict[str, Path]:
    """Writes a model of each kind: of a few numbers, with an LSTM, and of images."""
    from algorithms.onnx.build import build_model
    from algorithms.policy import Policy

    vector = ObservationSpec("vector", (4,), "float32")
    image = ObservationSpec("image", (84, 84, 3), "uint8", 1 / 255)
    lstm = NetworkSettings([128], memory=MemorySettings(Cell["lstm"], 128))
    made = {
        "vector": (BehaviorSpec("vector", (vector,), 2, (2, 3)), NetworkSettings([64, 64])),
        "lstm": (BehaviorSpec("lstm", (vector,), 2), lstm),
        "image": (BehaviorSpec("image", (image,), 0, (4,)), NetworkSettings([64])),
    }
    files = {name: folder / f"{name}.onnx" for name in made}
    for name, (spec, settings) in made.items():
        files[name].write_bytes(build_model(Policy(spec, settings, "ppo"), channels_last=True).SerializeToString())
    return files


def _short(result: dict[str, Any]) -> list[str]:
    """Returns what falls short of the claims, in words."""
    words = []
    for name, seen in result["attacks"].items():
        if not seen["lives"]:
            words.append(f"{name}: the server does not answer any more")
        if not min(seen["p99_ms"], seen["p99_processor_ms"]) < 1000 * _P99_SECONDS:
            words.append(f"{name}: the 99th percentile of /ping is {seen['p99_ms']:.0f} ms")
        if not seen["growth_mib"] * 2**20 < _GROWTH:
            words.append(f"{name}: memory grew by {seen['growth_mib']:.0f} MiB")
        if seen["tracebacks"]:
            words.append(f"{name}: the log has {seen['tracebacks'][:3]}")
        if any(status.startswith("5") and status != "503" for status in seen["replies"]):
            words.append(f"{name}: a reply was {seen['replies']}")
    for name, seen in result["models"].items():
        if seen["status"] != _BAD_INPUT or seen["lines"] > _MESSAGE_LINES or seen["characters"] > _MESSAGE_CHARACTERS:
            words.append(f"model {name}: status {seen['status']}, {seen['lines']} lines: {seen['words']}")
    return words


_FIGURES = ("pings", "p99_ms", "p99_processor_ms", "slowest_ms", "growth_mib")


def _cells(name: str, seen: dict[str, Any]) -> list[object]:
    replies = ", ".join(f"{count} x {status}" for status, count in sorted(seen["replies"].items()))
    lives = "yes" if seen["lives"] else "no"
    return [name, lives, *(seen[each] for each in _FIGURES), replies]


def _text(result: dict[str, Any]) -> str:
    blocks = [machine_line()]
    if result["attacks"]:
        header = ["attack", "lives", "pings", "p99, ms", "of the processor", "slowest, ms", "growth, MiB", "replies"]
        blocks.append(table(header, [_cells(name, seen) for name, seen in result["attacks"].items()]))
    if result["models"]:
        header = ["hostile model", "status", "lines", "s"]
        names = ("status", "lines", "seconds")
        blocks.append(table(header, [[kind, *map(seen.get, names)] for kind, seen in result["models"].items()]))
    blocks.append("\n".join(result["short"]) or "nothing falls short")
    return "\n\n".join(blocks)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.stress.endpoint", description="An endpoint under attack.")
    known = list(attacks())
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack (20)")
    parser.add_argument("--attacks", nargs="*", choices=known, default=known, metavar="ATTACK", help="which (all)")
    parser.add_argument("--no-models", dest="models", action="store_false", help="leave hostile models out")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
