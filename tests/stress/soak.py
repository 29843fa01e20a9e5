"""`python -m tests.stress.soak --minutes 60 --json`: whether a run that goes on for long grows.

Sixteen instances train with SAC (Gymnasium workers) or PPO (Unity players) while now and then a worker or player is
killed, stops, hangs or returns NaN. The buffer is full within minutes, so that rows are overwritten for most of the
time. Every 10 s memory, file handles and threads of all processes are noted. Memory is what no other process shares
(the unique set size): buffer and weights are claimed at the start, and how a library's pages count would depend on
whatever else runs. Compared are the medians of the five minutes behind the first ten and of the last five, of moments
at which all processes were there and none had just started.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.report import machine, machine_line, table
from envs.spec import UserError
from tests.stress.chaos import LEARNERS, RUNS
from tests.stress.havoc import KINDS, STEP_TIMEOUT, Havoc
from tests.stress.trial import INSTANCES, Trial

ROLES = ("learner", "collector", "launcher", "players")
_FAULTS = ("kill", "stop", "pause", "nan", "hang", "slow")
_EVERY_SECONDS = 10.0
_FIRST_MINUTES = 10.0
_COMPARED_MINUTES = 5.0
_YOUNG_SECONDS = 20.0
_GROWTH = 0.05
"""By which share of its memory a run may grow at the most, between the times compared."""
_BUFFER_ROWS = 50_000
_MIB = 2**20


class Sample(NamedTuple):
    """One role at one moment: sums over its processes."""

    processes: int
    memory: int
    """Bytes."""
    handles: int
    threads: int
    youngest: float
    """Seconds since the last of them started."""


def main(argv: list[str] | None = None) -> int:
    """Runs and prints a table, or one JSON object; 0, 1 if a claim failed, 2 for bad input."""
    options = _parser().parse_args(argv)
    try:
        if not options.every > 0:
            raise UserError(f"--every {options.every:g} must be above 0")
        if options.minutes < _FIRST_MINUTES + 2 * _COMPARED_MINUTES:
            least = _FIRST_MINUTES + 2 * _COMPARED_MINUTES
            raise UserError(f"--minutes {options.minutes:g} must be {least:g} or more: the first 10 are not compared")
    except UserError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        result = soak(Path(name), options)
    print(json.dumps(result) if options.json else _text(result))
    return int(result["status"] != 0 or not result.get("memory_growth", math.inf) < _GROWTH)


def soak(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One run, watched."""
    overrides = [
        *LEARNERS[options.kind],
        "algorithm.network.hidden=[64,64]",
        f"algorithm.buffer_capacity={_BUFFER_ROWS}",
        f"env.step_timeout={STEP_TIMEOUT}",
        "checkpoint.every_seconds=60",
        f"stop.seconds={60 * options.minutes}",
        f"seed={options.seed}",
    ]
    series: list[tuple[float, dict[str, Sample]]] = []
    with Trial(options.kind, folder, overrides, record=False) as trial:
        havoc = Havoc(trial, options.faults, options.every, options.seed)
        began = due = time.monotonic()
        while trial.running:
            now = time.monotonic()
            if now >= due:
                series.append(((now - began) / 60, sample(trial)))
                due = now + _EVERY_SECONDS
            havoc.turn(calm=now - began > 60 * options.minutes - 2 * _EVERY_SECONDS)
            time.sleep(0.2)
        status = trial.process.returncode
    return {
        "kind": options.kind,
        "minutes": options.minutes,
        "seed": options.seed,
        "machine": machine(),
        "status": status,
        "faults": dict(sorted(havoc.done.items())),
        "restarts": len(trial.lives()) - trial.instances,
        **compared(series),
        "series": [(minute, {role: each._asdict() for role, each in at.items()}) for minute, at in series],
    }


def sample(trial: Trial) -> dict[str, Sample]:
    """The run's processes now, by role; those that only help to start others are left out."""
    collector, launcher = trial.collector(), trial.launcher()
    players = {life.pid for life in trial.playing()}
    known = {trial.process.pid: "learner"}
    known |= {each.pid: role for each, role in ((collector, "collector"), (launcher, "launcher")) if each is not None}
    known |= dict.fromkeys(players, "players")
    found: dict[str, list[Sample]] = {role: [] for role in ROLES}
    for pid, role in known.items():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            with process.oneshot():
                age = time.time() - process.create_time()
                memory = process.memory_full_info().uss
                found[role].append(Sample(1, memory, process.num_fds(), process.num_threads(), age))
    return {role: _sum(each) for role, each in found.items() if each}


def compared(series: list[tuple[float, dict[str, Sample]]]) -> dict[str, Any]:
    """By role and in all, what there was after the first minutes and at the end, and the growth in between."""
    last = series[-1][0]
    complete = _complete([at for _, at in series])
    early = [at for minute, at in series if 0 <= minute - _FIRST_MINUTES < _COMPARED_MINUTES and complete(at)]
    late = [at for minute, at in series if last - minute < _COMPARED_MINUTES and complete(at)]
    figures: dict[str, Any] = {}
    for role in early[0] if early and late else ():
        figures[role] = {
            name: _change([getattr(at[role], name) for at in early], [getattr(at[role], name) for at in late])
            for name in ("memory", "handles", "threads")
        }
    if figures:
        sums = ([sum(each.memory for each in at.values()) for at in part] for part in (early, late))
        figures["memory_growth"] = _change(*sums)["growth"]
    return figures | {"moments": [len(early), len(late)]}


def _complete(every: list[dict[str, Sample]]) -> Callable[[dict[str, Sample]], bool]:
    """Whether all processes are there that there usually are, and have had time to settle."""
    usual = statistics.mode(tuple((role, each.processes) for role, each in at.items()) for at in every)
    return lambda at: (
        tuple((role, each.processes) for role, each in at.items()) == usual
        and all(each.youngest > _YOUNG_SECONDS for each in at.values())
    )


def _change(early: list[int], late: list[int]) -> dict[str, float]:
    before, after = statistics.median(early), statistics.median(late)
    return {"early": before, "late": after, "growth": after / before - 1}


def _sum(parts: list[Sample]) -> Sample:
    counts = (sum(each[i] for each in parts) for i in range(4))
    processes, memory, handles, threads = (int(count) for count in counts)
    return Sample(processes, memory, handles, threads, min(each.youngest for each in parts))


def _text(result: dict[str, Any]) -> str:
    rows = []
    for role in ROLES:
        for name, change in result.get(role, {}).items():
            unit = _MIB if name == "memory" else 1
            what = f"{role}: {name}{' (MiB)' if name == 'memory' else ''}"
            rows.append([what, change["early"] / unit, change["late"] / unit, f"{100 * change['growth']:+.2f} %"])
    faults = ", ".join(f"{count} x {kind}" for kind, count in result["faults"].items())
    growth = result.get("memory_growth")
    title = f"{result['kind']}, {INSTANCES} instances, {result['minutes']:g} minutes, seed {result['seed']}"
    words = "cannot be told: too few moments" if growth is None else f"{100 * growth:+.2f} %"
    ending = f"status {result['status']}; {faults}; {result['restarts']} restarts; memory in all {words}"
    header = ["", f"after {_FIRST_MINUTES:g} minutes", "at the end", "growth"]
    return f"{title}\n{machine_line()}\n\n{table(header, rows)}\n\n{ending}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.stress.soak", description="Whether a long run grows.")
    parser.add_argument("--minutes", type=float, default=60.0, help="minutes of training (60)")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two faults, on average (60)")
    parser.add_argument("--kind", choices=RUNS, default="gym", help="what trains (gym)")
    parser.add_argument("--faults", nargs="+", choices=KINDS, default=list(_FAULTS), help=f"which ({_FAULTS})")
    parser.add_argument("--seed", type=int, default=0, help="seed of faults and run (0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
