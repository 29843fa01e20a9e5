"""`python -m tests.stress.chaos --seconds 600 --every 5 --json`: a run in which something happens all the time.

Sixteen instances (Gymnasium workers, then Unity players of our own) train while workers, players, the launcher and the
collector are killed and stopped, steps return NaN or take too long, and the disk refuses checkpoints. The game says in
its observation which step it is at and keeps a record of its own (`witness.py`); `audit.py` compares that with the
buffer of the last checkpoint. Gymnasium workers train with SAC, Unity players with PPO.

With `--kills-per-minute` the one fault is a killed worker or player, and the run goes in turns of a minute with it and
without: what the kills cost is the env utilization with over that without. The env utilization here is of drawn
durations: what the steps in the buffer were drawn to last, over instances times time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, machine_line, table
from envs.spec import Array, UserError
from tests.stress.audit import audit, delivered, load_rows
from tests.stress.havoc import CHECKPOINT_SECONDS, KINDS, STEP_TIMEOUT, Havoc
from tests.stress.trial import INSTANCES, Trial

LEARNERS = {
    "gym": ["algorithm=sac", "algorithm.batch_size=64", "algorithm.updates_per_sample=0.1"],
    "unity": ["algorithm=ppo"],
}
RUNS = tuple(LEARNERS)
"""Kinds of instances, and what learns from them."""
_CALM_SECONDS = 12.0
"""Before its end a run is left alone, so that its last checkpoint is written."""
_TURN_SECONDS = 60.0
_PATIENCE_SECONDS = 120.0


def main(argv: list[str] | None = None) -> int:
    """Runs and prints a table, or one JSON object; 0, 1 if a claim failed, 2 for bad input."""
    options = _parser().parse_args(argv)
    try:
        _check(options)
    except UserError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    if options.kills_per_minute is not None:
        options.faults, options.every = ["kill"], 60 / options.kills_per_minute
    result: dict[str, Any] = {
        "seconds": options.seconds,
        "every": options.every,
        "kills_per_minute": options.kills_per_minute,
        "faults": options.faults,
        "instances": options.instances,
        "seed": options.seed,
        "machine": machine(),
    }
    for kind in RUNS if options.kind == "both" else (options.kind,):
        result[kind] = chaos(kind, options)
    print(json.dumps(result) if options.json else _text(result))
    return int(not all(result[kind]["ended_as_planned"] and result[kind]["clean"] for kind in RUNS if kind in result))


def chaos(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """One run from its start to the audit of its last checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / kind if options.keep is None else Path(options.keep) / kind
        with Trial(kind, folder, _overrides(kind, options), options.instances) as trial:
            havoc = Havoc(trial, options.faults, options.every, options.seed)
            begun, at_end = _wreak(trial, havoc, options)
            left = trial.left(time.monotonic())
            return {
                **_ending(trial),
                "faults": dict(sorted(havoc.done.items())),
                "restarts": len(trial.lives()) - trial.instances,
                **_compared(trial, havoc.failed(), at_end, begun, options.kills_per_minute is not None),
                "processes_left": left.processes,
                "sockets_left": left.sockets,
                "shared_memory_left": left.shared_memory,
                "left": left.words,
                "events": havoc.log,
            }


def _wreak(trial: Trial, havoc: Havoc, options: argparse.Namespace) -> tuple[float, set[int]]:
    """Lets the run go on to its end, and faults happen; when training began, and the lives that were played last."""
    at_end: set[int] = set()
    begun: float | None = None
    noted = 0.0
    summary = trial.folder / "summary.json"
    while trial.running:
        now = time.monotonic()
        if begun is None and trial.begun:
            begun = now
        if now >= noted + 1.0:
            trial.note()
            noted = now
        playing = {life.number for life in trial.playing()}
        if not summary.exists():  # it is written before anything is ended
            at_end = playing
        seconds = 0.0 if begun is None else now - begun
        ending = options.seconds - seconds < min(_CALM_SECONDS, options.seconds / 3)
        turned = options.kills_per_minute is not None and int(seconds // _TURN_SECONDS) % 2 == 0
        havoc.turn(calm=begun is None or ending or turned)
        if seconds > options.seconds + _PATIENCE_SECONDS:
            trial.process.kill()
        time.sleep(0.1)
    havoc.turn(calm=True)
    return begun or 0.0, at_end


def _ending(trial: Trial) -> dict[str, Any]:
    """How the run ended, and whether that was as planned."""
    file = trial.folder / "summary.json"
    summary: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    status, stopped_by = trial.process.returncode, summary.get("stopped_by")
    return {
        "ended_as_planned": status == 0 and stopped_by in ("seconds", "samples"),
        "status": status,
        "stopped_by": stopped_by,
        "samples": summary.get("samples"),
        "supply_fraction_told": summary.get("env_utilization"),
        "dropped": sum(summary.get("dropped", {}).values()),
    }


def _compared(trial: Trial, failed: set[int], at_end: set[int], begun: float, turns: bool) -> dict[str, Any]:
    """The audit of the last checkpoint, and the env utilization."""
    records = {number: life.records() for number, life in trial.lives().items()}
    try:
        rows = load_rows(trial.folder)
    except UserError as error:
        return {"clean": False, "audit": str(error)}
    found = audit(rows, records, failed, at_end)
    figures = {"clean": found.clean, **asdict(found)}
    steps = delivered(rows, records)
    firsts = sorted(each["time"][0] for each in records.values() if len(each))
    if len(firsts) < trial.instances or not len(steps):
        return figures | {"env_utilization": None}
    began, ended = firsts[trial.instances - 1], steps["time"].max()
    figures["env_utilization"] = _fraction(steps, trial.instances, [(began, ended)])
    if turns:
        starts = begun + _TURN_SECONDS * np.arange((ended - begun) // _TURN_SECONDS + 1)
        spans = [(max(began, start), min(ended, start + _TURN_SECONDS)) for start in starts.tolist()]
        without, with_kills = (_fraction(steps, trial.instances, spans[first::2]) for first in (0, 1))
        figures |= {"without_kills": without, "with_kills": with_kills, "with_over_without": with_kills / without}
    return figures


def _fraction(steps: Array, instances: int, spans: list[tuple[float, float]]) -> float:
    """What the steps done in these spans of time were drawn to last, over instances times time."""
    drawn = sum(
        float(steps["duration"][(steps["time"] >= start) & (steps["time"] < stop)].sum()) for start, stop in spans
    )
    return drawn / (instances * sum(stop - start for start, stop in spans))


def _overrides(kind: str, options: argparse.Namespace) -> list[str]:
    return [
        *LEARNERS[kind],
        "algorithm.network.hidden=[64,64]",
        f"algorithm.buffer_memory_mib={_buffer_mib(options)}",
        f"env.step_timeout={STEP_TIMEOUT}",
        f"checkpoint.every_seconds={CHECKPOINT_SECONDS}",
        "checkpoint.keep=2",
        "run.picture_minutes=0",
        *_stop(options),
        f"seed={options.seed}",
    ]


def _stop(options: argparse.Namespace) -> list[str]:
    """When the run is to end."""
    return [f"stop.seconds={options.seconds}"]


def _buffer_mib(options: argparse.Namespace) -> int:
    """Enough that no row is overwritten: 20 steps a second of each instance, with room to spare."""
    return 16 + int(options.seconds * options.instances * 20 * 200 / 2**20)


def _check(options: argparse.Namespace) -> None:
    for name, value in (("--seconds", options.seconds), ("--every", options.every)):
        if not value > 0:
            raise UserError(f"{name} {value:g} must be above 0")
    if options.instances < 1:
        raise UserError(f"--instances {options.instances} must be at least 1")
    kills = options.kills_per_minute
    if kills is not None and not kills > 0:
        raise UserError(f"--kills-per-minute {kills:g} must be above 0")
    if kills is not None and options.seconds < 2 * _TURN_SECONDS:
        raise UserError(f"--seconds {options.seconds:g} must be {2 * _TURN_SECONDS:g} or more with --kills-per-minute")
    if options.keep is not None and Path(options.keep).exists():
        raise UserError(f"--keep {options.keep} is there already")


def _text(result: dict[str, Any]) -> str:
    kinds = [kind for kind in RUNS if kind in result]
    faults = sorted({fault for kind in kinds for fault in result[kind]["faults"]})
    rows: list[list[Any]] = [
        [f"fault: {fault}", *(result[kind]["faults"].get(fault, 0) for kind in kinds)] for fault in faults
    ]
    skipped = ("faults", "events", "examples", "left", "restarts")
    figures = list(dict.fromkeys(figure for kind in kinds for figure in result[kind] if figure not in skipped))
    rows += [["restarts", *(result[kind]["restarts"] for kind in kinds)]]
    rows += [[figure.replace("_", " "), *(_cell(result[kind].get(figure)) for kind in kinds)] for figure in figures]
    title = f"{result['instances']} instances, {result['seconds']:g} s a run, seed {result['seed']}"
    examples = [
        f"{kind}: {words}" for kind in kinds for words in [*result[kind].get("examples", []), *result[kind]["left"]]
    ]
    return "\n".join([title, machine_line(), "", table(["", *kinds], rows), *examples])


def _cell(value: Any) -> Any:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _parser() -> argparse.ArgumentParser:
    kinds = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
    parser = argparse.ArgumentParser(
        "python -m tests.stress.chaos", description="A run in which something always fails."
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="seconds of training of each run (600)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two faults, on average (5)")
    parser.add_argument("--kind", choices=(*RUNS, "both"), default="both", help="what trains (both)")
    parser.add_argument("--faults", nargs="+", choices=KINDS, default=list(KINDS), help=f"which (all). {kinds}")
    parser.add_argument("--kills-per-minute", type=float, help="kills alone, in turns of a minute with and without")
    parser.add_argument("--instances", type=int, default=INSTANCES, help=f"running environments ({INSTANCES})")
    parser.add_argument("--seed", type=int, default=0, help="seed of faults and run (0)")
    parser.add_argument("--keep", help="folder to be made, in which the runs stay")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
