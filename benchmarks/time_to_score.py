"""`python -m benchmarks.time_to_score --seeds 3 --json`: seconds to a score, ours against Stable-Baselines3's.

Both sides are commands, `python -m trainer` and `python -m benchmarks.score_theirs`: each run is a fresh Python
process, timed from its launch to the moment when it says that the score was reached. So start-up counts, of imports
and workers too, and what comes after the score does not. Both have the same environments, as many of them, and one
torch thread a process, on the CPU. Ours runs asynchronously, as it does by default. What both sides are set is in
`score_tasks.py`; how ours came to be is in benchmarks/results/time_to_score.md.

The score is the mean reward of all training episodes that ended within the last samples (the task's window, at least 20
good episodes long), by whatever policy acted in them. So each side finds out by itself, while it learns, at no cost,
and as often as episodes end. Evaluations would have to be many to time the moment well, and either cost time, of which
each side would need its own share, or be made afterwards of checkpoints that cost time to write. The price is that a
policy is judged as it explores, on both sides alike. The window is in samples, since a count of episodes would reach
back over more samples the better an agent plays where episodes are long. It is long enough that a lucky streak does not
decide.

A run that has not reached the score within the task's limit counts as one of the limit's seconds, and the table says
how many reached it. Tasks run with seed 0, then all with seed 1, and so on, both sides in turns: a machine that drifts
slows all alike. Runs lie in `<folder>`; whoever interrupts the benchmark and calls it again loses the run in hand only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import machine, machine_line, table
from benchmarks.score_tasks import TASKS
from envs.spec import UserError

ASKED = 2.0
"""How many times as fast ours is to be, by the geometric mean over tasks."""
SIDES = ("ours", "theirs")
_ROOT = Path(__file__).resolve().parents[1]
_REACHED = re.compile(r"(?:^reward: .*|^reached) after ([\d,]+) samples")


@dataclass(frozen=True)
class Outcome:
    """What one run came to."""

    seconds: float | None
    """From its launch to the score; None if it was not reached."""
    samples: int | None
    """Samples at that moment."""

    def counted(self, limit: float) -> float:
        """Its seconds in all figures: the limit's if the score was not reached."""
        return limit if self.seconds is None else self.seconds


def main(argv: list[str] | None = None) -> int:
    """Runs what is missing and prints a table, or one JSON object.

    Returns:
        0; 1 if a run failed and 130 after Ctrl+C, with what is there so far; 2 for bad input.
    """
    options = _parser().parse_args(argv)
    folder, status = options.folder.expanduser().resolve(), 0
    try:
        _check(options, folder)
        try:
            for seed in range(options.seeds):
                for name in options.tasks:
                    for side in SIDES:
                        if not _place(folder, name, side, seed).exists():
                            _run(folder, name, side, seed)
        except KeyboardInterrupt:
            status = 130
        except RuntimeError as error:
            _say(f"{error}; the next call begins with it again")
            status = 1
    except UserError as error:
        _say(str(error))
        return 2
    result = report(folder, options.tasks, options.seeds)
    print(json.dumps(result) if options.json else _text(result))
    return status


def report(folder: Path, tasks: Sequence[str], seeds: int) -> dict[str, Any]:
    """All that is known of the runs in the folder; tasks that lack a run of one side have no ratio."""
    figures = {name: _figures(folder, name, seeds) for name in tasks}
    ratios = [each["ratio"] for each in figures.values() if each["ratio"] is not None]
    return {
        "asked": ASKED,
        "machine": machine(),
        "complete": all(len(each[side]["runs"]) == seeds for each in figures.values() for side in SIDES),
        "tasks": figures,
        "geometric_mean": math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None,
    }


def command(name: str, side: str, seed: int, folder: Path) -> list[str]:
    """Of a run, without the Python that runs it; `folder` is where ours leaves its files."""
    task = TASKS[name]
    if side == "theirs":
        return ["-m", "benchmarks.score_theirs", f"--task={name}", f"--seed={seed}"]
    return [
        *("-m", "trainer", "env=gym", f"env.id={task.id}", f"env.instances={task.instances}"),
        *(f"algorithm={task.algorithm}", *task.ours, f"seed={seed}", "device=cpu"),
        *("goal.metric=reward", f"goal.at_least={task.score}"),
        *(f"goal.window_samples={task.window}", "goal.also_window_samples=[]", f"stop.seconds={task.limit}"),
        *("run.picture_minutes=0", "checkpoint.replay=false", "checkpoint.every_seconds=1e6", f"run.dir={folder}"),
    ]


def watch(words: Sequence[str], limit: float) -> Outcome:
    """Runs a command to its end and notes when it says that the score was reached, if that is within the limit.

    What it says goes to stderr. Raises RuntimeError if it failed.
    """
    outcome = Outcome(None, None)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    began = time.perf_counter()
    with subprocess.Popen(  # noqa: S603
        [sys.executable, *words],
        cwd=_ROOT,
        env={**os.environ, **one_thread},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            seconds = time.perf_counter() - began
            sys.stderr.write(line)
            if (reached := _REACHED.match(line)) and outcome.seconds is None and seconds < limit:
                outcome = Outcome(seconds, int(reached[1].replace(",", "")))
    if process.returncode:
        raise RuntimeError(f"`python {' '.join(words)}` ended with status {process.returncode}")
    return outcome


def _run(folder: Path, name: str, side: str, seed: int) -> None:
    """Makes a run; its file is written last, and tells a run that came to its end from one that did not."""
    _say(f"{name}, {side}, seed {seed}")
    place = _place(folder, name, side, seed)
    left = place.with_suffix("")
    if left.exists():  # half a run says nothing about time
        shutil.rmtree(left)
    words = command(name, side, seed, left)
    notes = {**asdict(watch(words, TASKS[name].limit)), **_terms(name, side, seed)}
    place.write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def _place(folder: Path, name: str, side: str, seed: int) -> Path:
    """The file of a run. Ours leaves its own files beside it, in a folder of the same name."""
    return folder / f"{name}-{side}-{seed}.json"


def _terms(name: str, side: str, seed: int) -> dict[str, Any]:
    """What makes runs comparable, as JSON gives it back."""
    task = asdict(TASKS[name])
    task.pop("theirs" if side == "ours" else "ours")
    terms: dict[str, Any] = json.loads(json.dumps({"task": task, "seed": seed, "machine": machine()}))
    return terms


def _check(options: argparse.Namespace, folder: Path) -> None:
    """Raises UserError for what could not run, or would be mixed with runs of another kind."""
    if options.seeds < 1:
        raise UserError(f"--seeds {options.seeds} must be at least 1")
    for module, packages in (("stable_baselines3", "stable-baselines3"), ("Box2D", "Box2D")):
        if find_spec(module) is None:
            raise UserError(f"{packages} is missing: pip install 'outstep[bench]'")
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.tasks:
        for side in SIDES:
            for seed in range(options.seeds):
                place, terms = _place(folder, name, side, seed), _terms(name, side, seed)
                if place.exists() and any(_read(place).get(key) != value for key, value in terms.items()):
                    raise UserError(
                        f"{place} is of other settings or another machine: use another --folder, or remove it"
                    )


def _read(place: Path) -> dict[str, Any]:
    notes: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return notes


def _figures(folder: Path, name: str, seeds: int) -> dict[str, Any]:
    task = TASKS[name]
    sides = {side: _side(folder, name, side, seeds) for side in SIDES}
    medians = [each["seconds"]["median"] for each in sides.values() if each["runs"]]
    return {
        **{key: getattr(task, key) for key in ("id", "algorithm", "score", "window", "limit", "instances")},
        **sides,
        "ratio": medians[1] / medians[0] if len(medians) == len(SIDES) else None,
    }


def _side(folder: Path, name: str, side: str, seeds: int) -> dict[str, Any]:
    places = [_place(folder, name, side, seed) for seed in range(seeds)]
    runs = {seed: _read(place) for seed, place in enumerate(places) if place.exists()}
    outcomes = [Outcome(run["seconds"], run["samples"]) for run in runs.values()]
    return {
        "runs": [{"seed": seed, **asdict(outcome)} for seed, outcome in zip(runs, outcomes)],
        "reached": sum(outcome.seconds is not None for outcome in outcomes),
        "seconds": _spread([outcome.counted(TASKS[name].limit) for outcome in outcomes]),
        "samples": _spread([outcome.samples for outcome in outcomes if outcome.samples is not None]),
        "command": command(name, side, 0, Path("...")),
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    return {"median": median(values), "least": min(values), "most": max(values)} if values else None


def _text(result: dict[str, Any]) -> str:
    header = [
        "task",
        "env",
        "score",
        "envs",
        "side",
        "reached",
        "seconds",
        "range",
        "samples",
        "range",
        "theirs / ours",
    ]
    rows = [
        [
            *([name, task["id"], task["score"], task["instances"]] if side == "ours" else [""] * 4),
            *(side, f"{task[side]['reached']} of {len(task[side]['runs'])}"),
            *_shown(task[side]["seconds"]),
            *_shown(task[side]["samples"]),
            task["ratio"] if side == "ours" else "",
        ]
        for name, task in result["tasks"].items()
        for side in SIDES
    ]
    lines = ["seconds and samples to a score: medians and ranges; theirs is Stable-Baselines3's", machine_line()]
    lines += [*([] if result["complete"] else ["NOT COMPLETE"]), "", table(header, rows), ""]
    lines += [
        f"{name}: {side} did not reach it {missed} times, each counted as {task['limit']:g} s"
        for name, task in result["tasks"].items()
        for side in SIDES
        if (missed := len(task[side]["runs"]) - task[side]["reached"])
    ]
    mean = result["geometric_mean"]
    reckoned = "-" if mean is None else f"{mean:.2f} x"
    return "\n".join([*lines, f"geometric mean of the ratios of medians: {reckoned}, asked {result['asked']:g} x"])


def _shown(spread: dict[str, float] | None) -> list[object]:
    """Median, and the range in words."""
    if spread is None:
        return [None, None]
    return [
        spread["median"],
        f"{spread['least']:,.4g} to {spread['most']:,.4g}" if spread["most"] < 1000 else _range(spread),
    ]


def _range(spread: dict[str, float]) -> str:
    return f"{spread['least']:,.0f} to {spread['most']:,.0f}"


def _say(line: str) -> None:
    print(f"time_to_score: {line}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.time_to_score", description="Seconds to a score.")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each task and side, with seeds 0, 1, ... (3)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="what is learned (all)")
    parser.add_argument("--folder", type=Path, default=Path("runs/score"), help="where runs are kept (runs/score)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
