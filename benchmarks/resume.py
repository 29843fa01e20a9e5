"""`python -m benchmarks.resume --json`: what a run earns before it is resumed, and after, with and without its replay.

SAC, asynchronous as by default, on an environment without step times. A run trains, saves and ends. It is resumed twice
from there: as it is, and from a checkpoint with the same networks, optimisers and counters but no replay. What is
compared is the mean reward of the episodes that began in a stretch of samples.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, machine_line, table
from benchmarks.training import resume, train
from buffers.rows import Layout, Rows
from buffers.snapshot import restore
from envs.spec import BehaviorSpec, UserError
from trainer.checkpoint import CheckpointStore

_WAYS = ("with", "without")
_RUN = ["env=gym", "env.id=Pendulum-v1", "env.time_scale=0", "algorithm=sac", "algorithm.network.hidden=[64,64]"]
_RUN += ["env.instances=4", "algorithm.batch_size=64", "algorithm.start_samples=200", "algorithm.learning_rate=1e-3"]


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and prints a table, or one JSON object; 0, or 2 for bad input."""
    options = _parser().parse_args(argv)
    try:
        for name in ("seeds", "samples", "stretch", "stretches"):
            if not getattr(options, name) > 0:
                raise UserError(f"--{name} {getattr(options, name)} must be above 0")
        if options.samples < 2 * options.stretch:
            raise UserError(f"--samples {options.samples} must be two stretches at least")
    except UserError as error:
        print(f"resume: {error}", file=sys.stderr)
        return 2
    runs = [_run(seed, options) for seed in range(options.seeds)]
    result = {
        "run": options.run,
        **{name: getattr(options, name) for name in ("samples", "stretch", "stretches", "seeds")},
        "machine": machine(),
        "runs": runs,
        "mean_reward": {
            "before": float(np.mean([run["before"] for run in runs])),
            **{way: np.mean([run[way] for run in runs], axis=0).tolist() for way in _WAYS},
        },
    }
    print(json.dumps(result) if options.json else _text(result))
    return 0


def _run(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Mean rewards: before the resume, and by stretch after it in both ways."""
    with tempfile.TemporaryDirectory() as parent:
        first = Path(parent) / "first"
        chosen = [*options.run, "run.picture_minutes=0", f"seed={seed}", f"stop.samples={options.samples}"]
        train(chosen, first)
        size, more = options.stretch, options.stretches + 1  # whose last is for episodes that began before
        now = _head(first)
        found: dict[str, Any] = {"seed": seed, "before": _mean(*_episodes(first, 0), now - 2 * size, now - size)}
        for way in _WAYS:
            folder = Path(parent) / way
            shutil.copytree(first, folder)
            if way == "without":
                _leave_out_replay(folder)
            resume(folder, [f"stop.samples={options.samples + more * size}"])
            start = now if way == "with" else 0
            begun, earned = _episodes(folder, start)
            lows = [start + size * i for i in range(options.stretches)]
            found[way] = [_mean(begun, earned, low, low + size) for low in lows]
        return found


def _leave_out_replay(folder: Path) -> None:
    """Makes the newest checkpoint one without rows, as with `checkpoint.replay=false`."""
    store = CheckpointStore(folder / "checkpoints")
    saved = store.load_latest()
    store.save("without", saved.tensors, saved.state)


def _head(folder: Path) -> int:
    """Number of the newest row."""
    (saved,) = CheckpointStore(folder / "checkpoints").load_latest().replay.values()
    return int(saved.index["head"])


def _episodes(folder: Path, resumed: int) -> tuple[list[int], list[float]]:
    """Of each episode in the newest checkpoint that has ended: number of its first row, and what it earned.

    Those that were open after row `resumed` never end: a resumed run begins others.
    """
    checkpoint = CheckpointStore(folder / "checkpoints").load_latest()
    ((name, saved),) = checkpoint.replay.items()
    layout = Layout(BehaviorSpec.from_dict(checkpoint.state["behaviors"][name]["spec"]))
    capacity = int(saved.index["head"])
    rows = Rows(layout, bytearray(layout.memory_bytes(capacity)), capacity)
    restore(rows, saved.index, saved.chunks())
    names = ("agent", "reward", "terminated", "truncated", "final")
    columns = rows.gather(np.arange(1, capacity + 1), names)
    running: dict[int, tuple[int, float]] = {}
    begun, earned = [], []
    for number, (agent, reward, terminated, truncated, final) in enumerate(
        zip(*(each.tolist() for each in columns)), 1
    ):
        if number == resumed + 1:
            running.clear()
        if final:
            continue
        first, so_far = running.pop(agent, (number, 0.0))
        running[agent] = first, so_far + reward
        if terminated or truncated:
            begun.append(first)
            earned.append(running.pop(agent)[1])
    return begun, earned


def _mean(begun: list[int], earned: list[float], low: int, high: int) -> float:
    """Of the episodes that began with a row above `low`, up to `high`."""
    chosen = [reward for first, reward in zip(begun, earned) if low < first <= high]
    return float(np.mean(chosen)) if chosen else float("nan")


def _text(result: dict[str, Any]) -> str:
    means, size = result["mean_reward"], result["stretch"]
    rows: list[list[object]] = [["before", means["before"], means["before"]]]
    for i, pair in enumerate(zip(means["with"], means["without"])):
        rows.append([f"{i * size:,} to {(i + 1) * size:,} samples after", *pair])
    title = f"resumed after {result['samples']:,} samples, {result['seeds']} seeds; {' '.join(result['run'])}"
    shown = table(["mean reward of episodes begun", "with the replay", "without"], rows)
    return f"{title}\n{machine_line()}\n\n{shown}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.resume", description="Reward before and after a resume.")
    parser.add_argument("--seeds", type=int, default=5, help="runs, each with a seed of its own from 0 on (5)")
    parser.add_argument("--samples", type=int, default=8000, help="before the run is resumed (8000)")
    parser.add_argument(
        "--stretch", type=int, default=800, help="of a stretch, in samples: an episode of each instance (800)"
    )
    parser.add_argument("--stretches", type=int, default=5, help="looked at after the resume (5)")
    parser.add_argument("--run", nargs="+", default=_RUN, help="overrides that say what is trained (Pendulum-v1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
