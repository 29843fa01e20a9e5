"""`python -m tests.stress.soak --minutes 30 --json`: whether a run that goes on for long grows.

Sixteen Gymnasium instances in workers train with SAC and, beside them in a run of their own, sixteen Unity players with
PPO, while now and then a worker or player is killed, stops, hangs or returns NaN. The buffer is full within minutes, so
that rows are overwritten for most of the time. Every 10 s memory, file handles and threads of all processes are noted.
Memory is what no other process shares (the unique set size): buffer and weights are claimed at the start, and how a
library's pages count would depend on whatever else runs. Compared are the medians of the five minutes behind the first
ten and of the last five, of moments at which all processes were there and none had just started.
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
from collections.abc import Callable, Sequence
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
_GROWTH = 0.01
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
    kinds = RUNS if options.kind == "both" else (options.kind,)
    with tempfile.TemporaryDirectory() as name:
        result = soak(Path(name), kinds, options)
    print(json.dumps(result) if options.json else _text(result))
    runs = [result[kind] for kind in kinds]
    return int(any(run["status"] != 0 or not run.get("memory_growth", math.inf) < _GROWTH for run in runs))


def soak(folder: Path, kinds: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """A run of each kind, all at once, watched."""
    with contextlib.ExitStack() as stack:
        watched = []
        for kind in kinds:
            watched.append(_Watched(kind, folder / kind, options))
            stack.enter_context(watched[-1].trial)
        while any(each.trial.running for each in watched):
            for each in watched:
                each.turn()
            time.sleep(0.2)
    return {
        "minutes": options.minutes,
        "seed": options.seed,
        "machine": machine(),
        **{kind: each.figures() for kind, each in zip(kinds, watched)},
    }


class _Watched:
    """One run, its faults, and what its processes took."""

    def __init__(self, kind: str, folder: Path, options: argparse.Namespace) -> None:
        overrides = [
            *LEARNERS[kind],
            "algorithm.network.hidden=[64,64]",
            f"algorithm.buffer_capacity={_BUFFER_ROWS}",
            f"env.step_timeout={STEP_TIMEOUT}",
            "checkpoint.every_seconds=60",
            f"stop.seconds={60 * options.minutes}",
            f"seed={options.seed}",
        ]
        self.trial = Trial(kind, folder, overrides, record=False)
        self._havoc = Havoc(self.trial, options.faults, options.every, options.seed)
        self._calm_at = 60 * options.minutes - 2 * _EVERY_SECONDS
        self._began = self._due = time.monotonic()
        self._series: list[tuple[float, dict[str, Sample]]] = []

    def turn(self) -> None:
        """Does what is due, unless the run has ended."""
        if not self.trial.running:
            return
        now = time.monotonic()
        if now >= self._due:
            self._series.append(((now - self._began) / 60, sample(self.trial)))
            self._due = now + _EVERY_SECONDS
        self._havoc.turn(calm=now - self._began > self._calm_at)

    def figures(self) -> dict[str, Any]:
        """What came of the run."""
        return {
            "status": self.trial.process.poll(),
            "faults": dict(sorted(self._havoc.done.items())),
            "restarts": len(self.trial.lives()) - self.trial.instances,
            **compared(self._series),
            "series": [(minute, {role: each._asdict() for role, each in at.items()}) for minute, at in self._series],
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
    title = f"{INSTANCES} instances a run, {result['minutes']:g} minutes, seed {result['seed']}"
    blocks = [f"{title}\n{machine_line()}"]
    for kind in RUNS:
        if kind in result:
            blocks += _run_text(kind, result[kind])
    return "\n\n".join(blocks)


def _run_text(kind: str, run: dict[str, Any]) -> list[str]:
    rows = []
    for role in ROLES:
        for name, change in run.get(role, {}).items():
            unit = _MIB if name == "memory" else 1
            what = f"{role}: {name}{' (MiB)' if name == 'memory' else ''}"
            rows.append([what, change["early"] / unit, change["late"] / unit, f"{100 * change['growth']:+.2f} %"])
    faults = ", ".join(f"{count} x {fault}" for fault, count in run["faults"].items())
    growth = run.get("memory_growth")
    words = "cannot be told: too few moments" if growth is None else f"{100 * growth:+.2f} %"
    ending = f"status {run['status']}; {faults}; {run['restarts']} restarts; memory in all {words}"
    return [table([kind, f"after {_FIRST_MINUTES:g} minutes", "at the end", "growth"], rows), ending]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.stress.soak", description="Whether a long run grows.")
    parser.add_argument("--minutes", type=float, default=30.0, help="minutes of training (30)")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two faults, on average (60)")
    parser.add_argument("--kind", choices=(*RUNS, "both"), default="both", help="what trains (both, at once)")
    parser.add_argument("--faults", nargs="+", choices=KINDS, default=list(_FAULTS), help=f"which ({_FAULTS})")
    parser.add_argument("--seed", type=int, default=0, help="seed of faults and run (0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
