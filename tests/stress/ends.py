"""`python -m tests.stress.ends --json`: what is left of a run, however it ends.

Small runs, each ended in another way: as planned, by a signal, by `kill -9` of any of its processes, some of them while
others are stopped or only starting, or while an env hangs. Each env has started games that heed no signal and that it
never ends (`brood.py`). Of a process that is killed and replaced, what it had started has to be gone as well. Counted
are processes, sockets and shared memory, 5 s after the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from benchmarks.report import machine, machine_line, table
from tests.stress.chaos import RUNS
from tests.stress.trial import LEFT_SECONDS, Trial, send
from tests.stress.witness import NAP, Life

_T = TypeVar("_T")
_GAME = "tests.stress.brood:Brood-v0"
_INSTANCES = 4
_PLAYED_STEPS = 200
"""Steps after which a run counts as under way."""
_START_SECONDS = 120.0
_GO_ON_SECONDS = 3.0
"""A run that lost a process has so long to show what it makes of it; then it is terminated."""
_END_SECONDS = 60.0
_STEP_TIMEOUT = 10.0
"""`env.step_timeout` of runs in which an env hangs."""


def main(argv: list[str] | None = None) -> int:
    """Runs and prints a table, or one JSON object; 0, or 1 if anything was left."""
    options = _parser().parse_args(argv)
    for number in (signal.SIGINT, signal.SIGHUP):  # what is ignored here, as in the background, the runs ignore too
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    result: dict[str, Any] = {"machine": machine(), "seed": options.seed}
    for kind in RUNS if options.kind == "both" else (options.kind,):
        result[kind] = {end: ended(kind, end, options.seed) for end in options.ends if end in _ends(kind)}
    figures = [figure for kind in RUNS for figure in result.get(kind, {}).values()]
    result["left"] = sum(len(figure["left"]) for figure in figures)
    print(json.dumps(result) if options.json else _text(result))
    return int(result["left"] > 0)


def ended(kind: str, end: str, seed: int) -> dict[str, Any]:
    """Starts a run, ends it, and looks for what is left."""
    overrides = ["algorithm=ppo", "algorithm.network.hidden=[64,64]", f"seed={seed}", *_overrides(end)]
    with (
        tempfile.TemporaryDirectory() as name,
        Trial(kind, Path(name), overrides, _INSTANCES, game=_GAME) as trial,
    ):
        if "starting" in end or "probe" in end:
            _until(trial, trial.collector)
        else:
            _until(trial, lambda: sum(life.steps for life in trial.lives().values()) > _PLAYED_STEPS)
        trial.note()
        below = ENDS[end](trial) or []
        since = time.monotonic()
        orphans = _still_there(below, since)
        if trial.running and end != "as_planned":
            _wait(trial, max(0.0, since + _GO_ON_SECONDS - time.monotonic()))
            trial.note()
        if trial.running:
            if end in _GOES_ON:
                trial.process.send_signal(signal.SIGTERM)
            _wait(trial, _END_SECONDS)
        hangs = ["process: the learner does not end"] * trial.running
        left = trial.left(time.monotonic())
        return {
            "status": trial.process.poll(),
            "processes": left.processes + len(orphans),
            "sockets": left.sockets,
            "shared_memory": left.shared_memory,
            "seconds": left.seconds,
            "left": [*hangs, *orphans, *left.words],
        }


def _overrides(end: str) -> list[str]:
    """What a run is asked for, so that it can end in this way."""
    minutes = 0.005 if "pictures" in end else 0
    chosen = [f"run.picture_minutes={minutes}"]
    if end == "as_planned":
        chosen += [f"stop.samples={2 * _PLAYED_STEPS}"]
    if "evaluator" in end:
        chosen += [f"evaluate.every_samples={_PLAYED_STEPS}"]
    if end.startswith("hang"):
        chosen += [f"env.step_timeout={_STEP_TIMEOUT}"]
    if "probe" in end or end == "hang_pictures":
        chosen += [f"+env.kwargs.hangs={'probe' if 'probe' in end else 'pictures'}"]
    return chosen


def _until(trial: Trial, condition: Callable[[], _T | None]) -> _T:
    """Waits for a condition, and returns what it returned."""
    until = time.monotonic() + _START_SECONDS
    while not (found := condition()):
        if not trial.running or time.monotonic() > until:
            raise RuntimeError(f"the run did not get so far:\n{(trial.folder.parent / 'output.txt').read_text()}")
        time.sleep(0.02)
    return found


def _wait(trial: Trial, seconds: float) -> None:
    until = time.monotonic() + seconds
    while trial.running and time.monotonic() < until:
        time.sleep(0.02)


def _still_there(below: list[psutil.Process], since: float) -> list[str]:
    """What was below a killed process and has not ended in time."""
    _, alive = psutil.wait_procs(below, timeout=max(0.0, since + LEFT_SECONDS - time.monotonic()))
    return [f"process {each.pid} outlived the process that started it" for each in alive]


def _kill(*victims: psutil.Process | None) -> list[psutil.Process]:
    """Kills processes; returns what was below them."""
    known = [victim for victim in victims if victim is not None]
    below = [child for victim in known for child in victim.children(recursive=True)]
    for victim in known:
        send(victim.pid, signal.SIGKILL)
    return [child for child in below if child not in known]


def _interrupt(trial: Trial, times: int) -> None:
    """Ctrl+C, which a terminal sends to all of its group."""
    for _ in range(times):
        os.killpg(trial.process.pid, signal.SIGINT)
        time.sleep(0.2)


def _stop(process: psutil.Process | None) -> None:
    if process is not None:
        send(process.pid, signal.SIGSTOP)


def _with_games(process: psutil.Process | None) -> psutil.Process | None:
    """Returns the process once what it has started runs below it."""
    with contextlib.suppress(psutil.Error):
        return process if process is not None and process.children(recursive=True) else None
    return None


def _life_below(trial: Trial, process: psutil.Process | None) -> Life | None:
    """Returns a life that is played below a process, if there is one now."""
    if process is None:
        return None
    with contextlib.suppress(psutil.Error):
        below = {child.pid for child in process.children(recursive=True)}
        return next((life for life in trial.playing() if life.pid in below and life.steps), None)
    return None


def _hang(trial: Trial, above: Callable[[], psutil.Process | None]) -> list[psutil.Process]:
    """Lets a game below a process hang until its own process has been ended; returns what was below that."""
    life = _until(trial, lambda: _life_below(trial, above()))
    process = psutil.Process(life.pid)
    below: list[psutil.Process] = process.children(recursive=True)
    life.tell(NAP, 3600.0)
    process.wait(_START_SECONDS)
    return below


def _wait_for_games(trial: Trial, find: Callable[[], psutil.Process | None]) -> None:
    """Waits for a process in which an env hangs."""
    _until(trial, lambda: _with_games(find()))


def _player(trial: Trial) -> psutil.Process:
    return psutil.Process(trial.playing()[0].pid)


def _with_collector_stopped(trial: Trial) -> list[psutil.Process]:
    _stop(trial.collector())
    return _kill(trial.learner)


def _with_player_stopped(trial: Trial) -> list[psutil.Process]:
    _stop(_player(trial))
    return _kill(trial.learner)


def _collector_starting(trial: Trial) -> list[psutil.Process]:
    _until(trial, lambda: bool(trial.playing()))
    return _kill(trial.collector())


def _with_probe(trial: Trial) -> list[psutil.Process]:
    _wait_for_games(trial, trial.collector)
    return _kill(trial.learner)


def _evaluator_playing(trial: Trial) -> list[psutil.Process]:
    _until(trial, lambda: _life_below(trial, trial.evaluator()))
    return _kill(trial.evaluator())


ENDS: dict[str, Callable[[Trial], list[psutil.Process] | None]] = {
    "as_planned": lambda trial: None,
    "ctrl_c": lambda trial: _interrupt(trial, 1),
    "ctrl_c_twice": lambda trial: _interrupt(trial, 2),
    "sigterm": lambda trial: trial.process.send_signal(signal.SIGTERM),
    "sighup": lambda trial: trial.process.send_signal(signal.SIGHUP),
    "kill_learner": lambda trial: _kill(trial.learner),
    "kill_learner_starting": lambda trial: _kill(trial.learner),
    "kill_learner_collector_stopped": _with_collector_stopped,
    "kill_learner_player_stopped": _with_player_stopped,
    "kill_learner_and_collector": lambda trial: _kill(trial.learner, trial.collector()),
    "kill_collector": lambda trial: _kill(trial.collector()),
    "kill_collector_starting": _collector_starting,
    "kill_player": lambda trial: _kill(_player(trial)),
    "hang": lambda trial: _hang(trial, lambda: trial.learner),
    "kill_evaluator": _evaluator_playing,
    "hang_evaluator": lambda trial: _hang(trial, trial.evaluator),
    "kill_probe": lambda trial: _kill(_until(trial, lambda: _with_games(trial.collector()))),
    "kill_learner_probe_hangs": _with_probe,
    "hang_probe": lambda trial: _wait_for_games(trial, trial.collector),
    "kill_pictures": lambda trial: _kill(_until(trial, lambda: _with_games(trial.pictures()))),
    "hang_pictures": lambda trial: _wait_for_games(trial, trial.pictures),
    "kill_warden": lambda trial: _kill(trial.launcher()),
    "kill_learner_and_warden": lambda trial: _kill(trial.learner, trial.launcher()),
    "kill_all_but_players": lambda trial: _kill(trial.learner, trial.collector(), trial.launcher()),
}
"""What ends a run, or what happens to it before it is terminated; a player is a worker where there are no players."""
_GOES_ON = (
    *("kill_collector", "kill_collector_starting", "kill_player", "kill_warden", "kill_evaluator", "kill_pictures"),
    *("hang", "hang_evaluator", "hang_probe", "hang_pictures"),
)
"""What a run survives, or would not end by at once."""
_ONLY = {
    "gym": ("kill_probe", "kill_learner_probe_hangs", "hang_probe", "kill_pictures", "hang_pictures"),
    "unity": ("kill_warden", "kill_learner_and_warden", "kill_all_but_players"),
}
"""Ends of one kind alone, which has such processes."""


def _ends(kind: str) -> list[str]:
    return [end for end in ENDS if all(end not in only for each, only in _ONLY.items() if each != kind)]


def _text(result: dict[str, Any]) -> str:
    blocks = [machine_line()]
    for kind in RUNS:
        if kind in result:
            names = ("status", "processes", "sockets", "shared_memory", "seconds")
            rows = [[end, *(figures[name] for name in names)] for end, figures in result[kind].items()]
            words = [f"{end}: {each}" for end, figures in result[kind].items() for each in figures["left"]]
            header = [kind, "status", "processes", "sockets", "shared memory", "s until none"]
            blocks.append("\n".join([table(header, rows), *words]))
    return "\n\n".join(blocks)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.stress.ends", description="What is left of a run that has ended.")
    parser.add_argument("--kind", choices=(*RUNS, "both"), default="both", help="what trains (both)")
    parser.add_argument("--ends", nargs="+", choices=ENDS, default=list(ENDS), help="how runs end (all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the runs (0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
