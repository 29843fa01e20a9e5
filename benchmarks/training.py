"""Runs of the real trainer, as a user starts them: `python -m trainer` in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tasks import Task

_ROOT = Path(__file__).resolve().parents[1]


def train(overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Trains in `folder` until the configuration's own end, with its output on stderr; returns `summary.json`.

    Raises RuntimeError if the run failed.
    """
    _run("trainer", *overrides, f"run.dir={folder}")
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def resume(folder: Path, overrides: Sequence[str]) -> None:
    """Goes on with the run in `folder`, with its output on stderr. Raises RuntimeError if it failed."""
    _run("trainer", f"resume={folder}", *overrides)


def record(env: Sequence[str], player: str, episodes: int, to: Path, seed: int) -> None:
    """Records demonstrations, with output on stderr; `env` are overrides. Raises RuntimeError if that failed."""
    _run("trainer.record", *env, f"player={player}", f"episodes={episodes}", f"seed={seed}", f"to={to}")


def learn(task: Task, learner: str, seconds: float, lockstep: bool) -> dict[str, Any]:
    """Trains on the task for `seconds`: figures of the run's summary, less the samples dropped as too old."""
    with tempfile.TemporaryDirectory() as folder:
        summary = train(_overrides(task, learner, seconds, lockstep), Path(folder) / "run")
    samples, dropped = summary["samples"], sum(summary["dropped"].values())
    kept = 1.0 - dropped / max(1, samples)
    fraction = summary["env_utilization"]
    return {
        "samples_per_second": summary["samples_per_second"] * kept,
        "env_utilization": fraction * kept if task.waits and fraction is not None else None,
        "samples": samples - dropped,
        "seconds": summary["seconds"],
        "layout": summary["layout"],
        "dropped": dropped,
        "achieved_updates_ratio": min(summary["updates_achieved"].values()),
    }


def _overrides(task: Task, learner: str, seconds: float, lockstep: bool) -> list[str]:
    """The game's own experiment, or small networks; SAC then makes one update of 64 rows for each sample."""
    if task.env.behavior.startswith("BubbleShooter"):
        chosen = [f"+experiment=snoopy_{learner}", "goal.metric=null", "goal.at_most=null"]
    else:
        chosen = ["env=gym", f"env.id={task.env.id}", f"algorithm={learner}", "algorithm.network.hidden=[64,64]"]
        chosen += [f"+env.kwargs.{key}={value}" for key, value in task.env.kwargs.items()]
        if learner == "sac":
            chosen += ["algorithm.batch_size=64", "algorithm.updates_per_sample=1"]
    if lockstep:
        chosen += ["env.stepping=lockstep", *(["algorithm.max_lag=0"] if learner == "ppo" else [])]
    return [
        *chosen,
        f"env.instances={task.instances}",
        f"env.time_scale={task.env.time_scale}",
        f"seed={task.seed}",
        f"stop.seconds={seconds}",
        "run.picture_minutes=0",
        "checkpoint.replay=false",
    ]


def _run(module: str, *overrides: str) -> None:
    command = [sys.executable, "-m", module, *overrides]
    status = subprocess.run(command, cwd=_ROOT, stdout=sys.stderr, check=False).returncode  # noqa: S603
    if status:
        raise RuntimeError(f"`python {' '.join(command[1:])}` ended with status {status}")
