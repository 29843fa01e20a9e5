"""`python -m tests.stress.fuzz --inputs 100000 --json`: hostile inputs, and whether each is taken or refused.

Inputs are valid ones that were changed (bits, lengths, fields of messages, values of JSON), and some random bytes. Each
may be refused with the error that its taker promises. Anything else counts: another error, memory beyond a limit (1 GiB
more than at the start, where the system keeps to one), or more than a second of the processor, three for a
configuration, of which a valid one takes half of one.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import psutil

from benchmarks.report import machine, machine_line, table
from tests.stress.fuzz_targets import Target, targets

NAMES = (
    *("demo", "checkpoint", "config", "mlagents", "mlagents_weights", "message", "side_channel", "http2", "png"),
    *("endpoint_request", "endpoint_client", "endpoint_model"),
)


def main(argv: list[str] | None = None) -> int:
    """Runs and prints a table, or one JSON object; 0, or 1 if anything was not ours."""
    options = _parser().parse_args(argv)
    logging.getLogger("outstep").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    names = options.targets or NAMES
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        known = targets(Path(folder))
        _limit_memory()
        tried = {name: _try(name, known[name], options) for name in names}
    result = {
        "seed": options.seed,
        "machine": machine(),
        "inputs": sum(each["inputs"] for each in tried.values()),
        "not_ours": sum(len(each["not_ours"]) for each in tried.values()),
        "memory_grown_mib": (psutil.Process().memory_info().rss - before) / 2**20,
        "targets": tried,
    }
    print(json.dumps(result) if options.json else _text(result))
    return int(result["not_ours"] > 0)


def _try(name: str, target: Target, options: argparse.Namespace) -> dict[str, Any]:
    """Feeds a target its share of the inputs."""
    share = -(-options.inputs // len(options.targets or NAMES))
    kinds: Counter[str] = Counter()
    found: list[str] = []
    slowest = 0.0
    for number in range(options.first, options.first + share):
        drawn = target.draw(Random(f"{options.seed} {name} {number}"))
        began = time.thread_time()
        try:
            target.take(drawn)
            kinds["taken"] += 1
        except target.ours:
            kinds["refused"] += 1
        except Exception as error:  # what is looked for
            found.append(f"{number}: {type(error).__name__}: {str(error)[:200]}")
        seconds = time.thread_time() - began
        slowest = max(slowest, seconds)
        if seconds > target.longest:
            found.append(f"{number}: it took {seconds:.2f} s")
    return {
        "inputs": share,
        **{kind: kinds[kind] for kind in ("taken", "refused")},
        "not_ours": found,
        "slowest": slowest,
    }


def _limit_memory() -> None:
    """From now on what would take much more memory fails."""
    try:
        import resource  # not on Windows
    except ImportError:
        return
    limit = psutil.Process().memory_info().vms + _MOST_MEMORY
    if sys.platform == "linux":  # elsewhere it is not kept to
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


_MOST_MEMORY = 2**30


def _text(result: dict[str, Any]) -> str:
    rows = [
        [name, each["inputs"], each["taken"], each["refused"], len(each["not_ours"]), each["slowest"] * 1000]
        for name, each in result["targets"].items()
    ]
    shown = table(["", "inputs", "taken", "refused", "not ours", "slowest, ms"], rows)
    found = [f"{name} {line}" for name, each in result["targets"].items() for line in each["not_ours"][:20]]
    total = f"{result['inputs']:,} inputs, {result['not_ours']} not ours, memory {result['memory_grown_mib']:+.0f} MiB"
    return "\n".join([machine_line(), "", shown, total, *found])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.stress.fuzz", description="Hostile inputs.")
    parser.add_argument("--inputs", type=int, default=100_000, help="in all (100000)")
    parser.add_argument("--targets", nargs="+", choices=NAMES, help="what takes them (all)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to try one again (0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
