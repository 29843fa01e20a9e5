"""What the learner's host pays for a sample of another host: received over TCP, checked, appended and linked.

    python -m benchmarks.ingest [--seconds 5] [--json]

A process stands for the hosts: it sends the same rows again and again, as fast as they are asked for. Measured is the
CPU time of the process that takes them in, the kernel's included, over the samples that it took.
"""

from __future__ import annotations

import argparse
import json
import selectors
import time
from typing import Any

import numpy as np

from buffers.fragments import Fragment, FragmentLayout, FragmentWriter, fragment_rows
from buffers.rows import Layout, Rows
from envs.process.lifetime import end_process, start_following
from envs.spec import BehaviorSpec, ObservationSpec
from trainer.cluster.checks import MOST_ROWS
from trainer.cluster.messages import Message, Part
from trainer.cluster.stream import Listener, Stream, connect

SPECS = {
    "100 floats": BehaviorSpec("vector", (ObservationSpec("vector", (100,), "float32"),), branches=(4,)),
    "84 x 84 x 4": BehaviorSpec("image", (ObservationSpec("image", (84, 84, 4), "uint8", 1 / 255),), branches=(4,)),
}
AGENTS = 16
_EPISODE = 200
_CAPACITY = {"100 floats": 50_000, "84 x 84 x 4": 2_000}
_SECRET = b"benchmark".ljust(32)


def made_fragment(spec: BehaviorSpec, rows: int) -> tuple[FragmentLayout, bytearray]:
    """Returns `rows` rows in which the agents take turns, as games do."""
    layout = FragmentLayout(Layout(spec, positions=True))
    data = bytearray(rows * layout.row_bytes)
    columns = layout.columns(rows, data)
    columns["agent"][:] = np.arange(rows) % AGENTS
    return layout, data


def send(address: tuple[str, int], what: str, rows: int) -> None:
    """Answers requests by fragments until the other side closes: the main function of a process of its own."""
    layout, data = made_fragment(SPECS[what], rows)
    columns = layout.columns(rows, data)
    way, first, steps = connect(address, _SECRET, {}, 10.0), 1, np.arange(rows) // AGENTS
    selector = selectors.DefaultSelector()
    selector.register(way.socket, selectors.EVENT_READ)
    try:
        while True:
            while way.receive() is None:
                selector.select()
            columns["position"][:] = (first // AGENTS + steps) % _EPISODE
            columns["terminated"][:] = columns["position"] == _EPISODE - 1
            way.send(Message({"messages": []}, [Part("rows", "b", first, rows, data)]))
            first += rows
    except (OSError, EOFError):
        return


def measure(what: str, rows: int, seconds: float) -> dict[str, Any]:
    """Returns CPU microseconds a sample and samples a second of a core, with fragments of `rows` rows."""
    from benchmarks.ingest import send  # by its name a process finds it, also where this file is the main program

    layout = Layout(SPECS[what])
    block = Rows(layout, np.zeros(layout.memory_bytes(_CAPACITY[what]), np.uint8).data, _CAPACITY[what])
    writer, ways = FragmentWriter(block, 1), list[Stream]()
    with selectors.DefaultSelector() as selector:
        listener = Listener("127.0.0.1", _SECRET, selector, lambda _, way: ways.append(way))
        sender = start_following("sender", send, listener.address, what, rows)
        try:
            while not ways:
                for key, _ in selector.select():
                    key.data()
            (way,) = ways
            selector.register(way.socket, selectors.EVENT_READ, lambda: None)
            for _ in range(2):
                way.send(Message({"rows": ["b"]}))
            cpu, began, before = 0.0, 0.0, 0
            while not began or time.perf_counter() < began + seconds:
                selector.select()
                while (reply := way.receive()) is not None:
                    (part,) = reply.parts
                    writer.add(0, Fragment(part.number, part.length, part.data))
                    way.send(Message({"rows": ["b"]}))
                if not began and block.head > block.capacity:  # once all its memory was written
                    began, cpu, before = time.perf_counter(), time.process_time(), block.samples
            cpu, samples = time.process_time() - cpu, block.samples - before
            way.close()
        finally:
            listener.close()
            end_process(sender)
    return {"rows": what, "fragment": rows, "us": 1e6 * cpu / samples, "per_core": samples / cpu, "samples": samples}


def measured(seconds: float) -> list[dict[str, Any]]:
    """Returns the figures of all rows in fragments of all sizes, each measured for so many seconds."""
    found: list[dict[str, Any]] = []
    for what, spec in SPECS.items():
        for wanted in (16, 64, MOST_ROWS):
            rows = fragment_rows(Layout(spec, positions=True), wanted)
            if not any(each["rows"] == what and each["fragment"] == rows for each in found):
                found.append(measure(what, rows, seconds))
    return found


def main() -> None:
    """Prints a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measured(given.seconds)
    if given.json:
        print(json.dumps({"ingest": found}))
        return
    print("| rows | a fragment | CPU of the learner's host, us a sample | samples/s a core |\n|---|---|---|---|")
    for each in found:
        print(f"| {each['rows']} | {each['fragment']} | {each['us']:.2f} | {each['per_core']:,.0f} |")


if __name__ == "__main__":
    main()
