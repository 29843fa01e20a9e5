"""`python -m benchmarks.defaults --tier core --jobs 2`: what learners reach when no setting is touched.

Ours is `python -m trainer` with `algorithm=`, `env.id=` and `env.instances=8`, and nothing else that changes learning,
in its asynchronous mode. Beside it stand Stable-Baselines3 with its defaults (one environment, which is what
`PPO("MlpPolicy", "CartPole-v1")` gives), and with the settings that its RL Zoo has tuned, where it has some
(`zoo_settings.py`). Our SAC is compared with their SAC, or with their DQN where actions are discrete. All have the same
samples (`defaults_tasks.py`).

A run is evaluated ten times, evenly over its samples, by 20 deterministic episodes at seeds that training never sees.
Theirs are evaluated as they go, and ours afterwards, from those of its many checkpoints that are nearest to the
ten points. An evaluation's score is (return - random) / (mark - random), and a run's score is the mean of its ten, not
cut off. Of several runs, the interquartile mean of scores is given, with 95 % bootstrap intervals (`aggregate.py`).

A run is a process of its own, on one core where the system lets it choose, with one torch thread a process. Each is
appended as one line of JSON to the file of results as it ends, and is never made twice: whoever interrupts the
benchmark and calls it again loses the runs in hand only. Runs for choosing defaults (`--tuning`) have other seeds and
may be given overrides of ours (`--set`). These and trials of other lengths (`--samples`) go to another file, and enter
no table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from benchmarks.defaults_report import draw, figures, markdown, text
from benchmarks.defaults_run import Run
from benchmarks.defaults_tasks import CONTENDERS, TASKS, TIERS, TUNING_SEEDS, expected_rate, takes_part
from benchmarks.report import table
from envs.spec import UserError

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).with_name("results")
_OTHERS = Path("runs/defaults.jsonl")
_EVALUATIONS_SECONDS = 20.0
"""What start-up and ten evaluations of a run take, about."""


def main(argv: list[str] | None = None) -> int:
    """Makes the runs that are missing and prints a table, or one JSON object.

    Returns:
        0; 1 if a run failed and 130 after Ctrl+C, with what is there so far; 2 for bad input.
    """
    options = _parser().parse_args(argv)
    status = 0
    try:
        asked = chosen(options)
        file = options.file or (_OTHERS if asked and asked[0].kind != "table" else _RESULTS / "defaults.jsonl")
        results = Results(file)
        missing = [run for run in asked if not results.has(run)]
        if options.plan:
            print(_plan(missing, results, options.jobs))
            return 0
        if missing and not options.show:
            _check_libraries(missing)
            status = _make(missing, results, options.jobs)
        rows = [row for row in results.rows if any(_is_of(row, run) for run in asked)]
        tasks = list(dict.fromkeys(run.task for run in asked))
        found = figures(rows, tasks, sum(not results.has(run) for run in asked))
        if options.write:
            picture = _RESULTS / "defaults.png"
            draw(rows, tasks, picture)
            page = markdown(found, "Learning with default settings", picture.name)
            (_RESULTS / "defaults.md").write_text(page, encoding="utf-8")
    except UserError as error:
        print(f"defaults: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found) if options.json else text(found))
    return status


def chosen(options: argparse.Namespace) -> list[Run]:
    """Returns the runs that the command line asks for, all tasks and contenders with one seed before the next.

    Raises:
        UserError: options that do not go together.
    """
    if options.set and not options.tuning:
        raise UserError("--set changes ours, so its runs enter no table: give --tuning too")
    if options.write and (options.tuning or options.samples):
        raise UserError("--write is for the table: leave out --tuning and --samples")
    for name, value in (("--samples", options.samples), ("--jobs", options.jobs)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    wrong = [seed for seed in options.seeds or () if (seed >= TUNING_SEEDS) != options.tuning or seed < 0]
    if wrong:
        asked = f"from {TUNING_SEEDS} on" if options.tuning else f"from 0 to {TUNING_SEEDS - 1}"
        raise UserError(f"--seeds {wrong[0]}: seeds of {'tuning' if options.tuning else 'the table'} are {asked}")
    kind = "tuning" if options.tuning else "trial" if options.samples else "table"
    contenders = options.contenders or [each for each in CONTENDERS if each.startswith("ours") or not options.tuning]
    tasks = options.tasks or TIERS["tuning" if options.tuning else options.tier]
    seeds = options.seeds or ([TUNING_SEEDS, TUNING_SEEDS + 1] if options.tuning else range(TUNING_SEEDS))
    runs = []
    for seed in seeds:
        for task in tasks:
            for contender in contenders:
                if not takes_part(contender, task) or not (options.seeds or options.tuning or seed < TASKS[task].seeds):
                    continue
                overrides = tuple(options.set) if contender.startswith("ours") else ()
                whole = TASKS[task].budget(contender.split("-")[1]).samples
                samples = options.samples or (whole // 2 if options.tuning else whole)
                runs.append(Run(kind, task, contender, seed, samples, overrides))
    return runs


class Results:
    """The file of results: a line of JSON for each run that came to its end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.rows: list[dict[str, Any]] = []
        self._whole = 0
        """Bytes of whole lines; what a kill has left behind them is overwritten."""
        for line in file.read_bytes().splitlines(keepends=True) if file.exists() else ():
            if line.endswith(b"\n"):
                self._whole += len(line)
                self.rows.append(json.loads(line))

    def has(self, run: Run) -> bool:
        """Whether this very run was made."""
        return any(_is_of(row, run) for row in self.rows)

    def append(self, row: dict[str, Any]) -> None:
        """Writes a run down, so that it is there even after a power cut."""
        line = json.dumps(row).encode() + b"\n"
        with self._lock:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("r+b" if self._file.exists() else "wb") as file:
                file.truncate(self._whole)
                file.seek(self._whole)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self._whole += len(line)
            self.rows.append(row)


def _is_of(row: dict[str, Any], run: Run) -> bool:
    return all(row.get(key) == value for key, value in json.loads(json.dumps(asdict(run))).items())


def _make(runs: Sequence[Run], results: Results, jobs: int) -> int:
    """Makes runs, `jobs` at a time; returns the exit status."""
    waiting, stopping = deque(runs), threading.Event()
    processes: dict[int, subprocess.Popen[str]] = {}
    cores = _cores()

    def work(job: int) -> int:
        failed = 0
        while (run := _next(waiting)) is not None:
            _say(f"{run.task}, {run.contender}, seed {run.seed}; {len(waiting)} more wait")
            process = processes[job] = start(run, cores[job % len(cores)] if cores else None)
            if stopping.is_set():
                _end(process)
            output = process.stdout.read()  # type: ignore[union-attr]
            if process.wait() == 0:
                now = datetime.now(timezone.utc).isoformat(timespec="seconds")
                results.append({**json.loads(output), "commit": _commit(), "jobs": jobs, "ended": now})
            elif not stopping.is_set():
                failed = 1
                _say(f"{run.task}, {run.contender}, seed {run.seed} failed; the next call begins with it again")
        return failed

    with ThreadPoolExecutor(jobs) as pool:
        working = [pool.submit(work, job) for job in range(jobs)]
        try:
            return max(each.result() for each in working)
        except KeyboardInterrupt:
            return 130
        finally:  # also if results cannot be written
            stopping.set()
            waiting.clear()
            for process in list(processes.values()):
                _end(process)


def _next(waiting: deque[Run]) -> Run | None:
    try:
        return waiting.popleft()
    except IndexError:  # another thread took the last one
        return None


def _end(process: subprocess.Popen[str]) -> None:
    """Has a run end, with all that it has started."""
    process.stdin.close()  # type: ignore[union-attr]


def start(run: Run, core: int | None) -> subprocess.Popen[str]:
    """Starts a run, on one core if that can be chosen. It ends early once its standard input is closed."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    words = [json.dumps(asdict(run)), *([] if core is None else [str(core)])]
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "benchmarks.defaults_run", *words],
        cwd=_ROOT,
        env={**os.environ, **one_thread},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _plan(missing: Sequence[Run], results: Results, jobs: int) -> str:
    """Returns what is missing and how long it takes on free cores: as much CPU time as such runs took so far."""
    lines: dict[tuple[str, str], list[float]] = {}
    for run in missing:
        known = [
            row["cpu_seconds"] * run.samples / row["samples"]
            for row in results.rows
            if row["kind"] != "trial" and (row["task"], row["contender"]) == (run.task, run.contender)
        ]
        guess = run.samples / expected_rate(run.contender, run.task) + _EVALUATIONS_SECONDS
        lines.setdefault((run.task, run.contender), []).append(sum(known) / len(known) if known else guess)
    rows = [[*key, len(each), each[0], sum(each) / 3600] for key, each in lines.items()]
    hours = sum(map(sum, lines.values())) / 3600
    total = f"{len(missing)} runs: {hours:.1f} hours of one core, {hours / jobs:.1f} hours with --jobs {jobs}"
    return "\n".join([table(["task", "contender", "runs", "seconds each", "hours"], rows), "", total])


def _cores() -> list[int]:
    """Returns the cores that this process may use, where the system tells."""
    return list(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else []


def _commit() -> str | None:
    """Returns the commit of the code, marked with `+` if files differ from it; None outside a repository."""
    words = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        said = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip()


def _check_libraries(runs: Sequence[Run]) -> None:
    needed = {"stable_baselines3": any(not run.contender.startswith("ours") for run in runs)}
    needed |= {"mujoco": any(run.task in ("Hopper-v5", "HalfCheetah-v5") for run in runs)}
    needed |= {"Box2D": any(run.task.startswith(("Lunar", "Bipedal")) for run in runs)}
    needed |= {"minatar": any(run.task.startswith("MinAtar") for run in runs)}
    for module, is_needed in needed.items():
        if is_needed and find_spec(module) is None:
            raise UserError(f"{module} is missing: pip install 'outstep[bench]'")


def _say(line: str) -> None:
    print(f"defaults: {line}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.defaults", description="What defaults reach.")
    parser.add_argument("--tier", choices=TIERS, default="core", help="which tasks (core)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="these tasks only")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, help="these only (all; ours with --tuning)")
    parser.add_argument("--seeds", nargs="+", type=int, help="these seeds only (as many as the table has)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each (1)")
    parser.add_argument("--tuning", action="store_true", help=f"seeds from {TUNING_SEEDS} on, half the samples")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of ours, with --tuning")
    parser.add_argument("--samples", type=int, help="samples of each run, as a trial that enters no table")
    parser.add_argument("--file", type=Path, help="of results (benchmarks/results/defaults.jsonl)")
    parser.add_argument("--plan", action="store_true", help="print what is missing and how long it takes; run nothing")
    parser.add_argument("--show", action="store_true", help="run nothing; print what is there")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/defaults.md and its picture")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
