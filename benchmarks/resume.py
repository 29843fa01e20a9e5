"""`python -m benchmarks.resume --json`: what a run earns after a resume, with its replay, without, and uninterrupted.

SAC, asynchronous as by default, on steps that last long enough for the learner to keep up. A run trains to its end and
saves now and then: it is its own control. From the first checkpoint behind each of the moments asked for it is resumed
twice: as it is, and without the rows, as a run with `checkpoint.replay=false` would be, whose learner waits for
`start_samples` again. All three go on from the same weights, so they are compared in pairs, seed by seed: by the mean
reward of a step in stretches of samples, each of which holds one episode of every instance, whole or in two parts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, machine_line, table
from benchmarks.training import resume, train
from envs.spec import Array, UserError
from trainer.checkpoint import Checkpoint, CheckpointStore

_LASTING = "env.wrappers=[{path: benchmarks.laws.Lasting, kwargs: {law: constant, seconds: 0.03, spread: 0.1}}]"
_RUN = ["env=gym", "env.id=Pendulum-v1", "env.instances=4", "env.time_scale=1", _LASTING, "algorithm=sac"]
_RUN += ["algorithm.network.hidden=[64,64]", "algorithm.batch_size=64", "algorithm.start_samples=200"]
_RUN += ["algorithm.learning_rate=1e-3"]
_SAVED = ["run.picture_minutes=0", "checkpoint.every_seconds=1", "checkpoint.keep=100000"]
_DIFFERENCES = {
    "with - uninterrupted": ("with", "uninterrupted"),
    "without - uninterrupted": ("without", "uninterrupted"),
    "with - without": ("with", "without"),
    "with - before": ("with", "before"),
    "uninterrupted - before": ("uninterrupted", "before"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and prints a table, or one JSON object; 0, or 2 for bad input."""
    options = _parser().parse_args(argv)
    try:
        _check(options)
    except UserError as error:
        print(f"resume: {error}", file=sys.stderr)
        return 2
    runs = []
    for seed in options.seeds:
        runs.append(_run(seed, options))
        print(json.dumps(runs[-1]), file=sys.stderr)  # what there is, should it be ended early
    result = {
        **{name: getattr(options, name) for name in ("run", "samples", "stretch", "stretches", "seeds")},
        "machine": machine(),
        "runs": runs,
        "moments": [summed_up([run["moments"][i] for run in runs]) for i in range(len(options.samples))],
    }
    print(json.dumps(result) if options.json else _text(result))
    return 0


def summed_up(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over runs, by stretch, and of differences in pairs: mean and standard error, by stretch and over all.

    `found` holds, for each run, the mean reward `before` and lists of means by stretch of the three ways to go on.
    """
    ways = {way: np.array([run[way] for run in found]) for way in ("uninterrupted", "with", "without")}
    before = np.array([run["before"] for run in found])
    values = {**ways, "before": np.broadcast_to(before[:, None], ways["with"].shape)}
    pairs = {name: values[one] - values[other] for name, (one, other) in _DIFFERENCES.items()}
    return {
        **{name: float(np.mean([run[name] for run in found])) for name in ("samples", "updates")},
        "before": float(before.mean()),
        **{way: each.mean(axis=0).tolist() for way, each in ways.items()},
        "differences": {
            name: {"stretches": [_estimate(column) for column in each.T], "all": _estimate(each.mean(axis=1))}
            for name, each in pairs.items()
        },
    }


def _run(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Mean rewards of one run at each moment."""
    size, count = options.stretch, options.stretches
    more = size * count
    with tempfile.TemporaryDirectory() as parent:
        whole = Path(parent) / "whole"
        end = max(options.samples) + more + size  # a checkpoint is late by less than a stretch
        summary = train([*options.run, *_SAVED, f"seed={seed}", f"stop.samples={end}"], whole)
        uninterrupted = _rewards(CheckpointStore(whole / "checkpoints").load_latest())
        moments = []
        for samples in options.samples:
            path = _first_behind(whole, samples)
            at = _samples(path)
            found: dict[str, Any] = {"samples": at, "updates": _updates(path)}
            found["before"] = float(uninterrupted[at - size : at].mean())
            found["uninterrupted"] = _means(uninterrupted[at:], size, count)
            for way in ("with", "without"):
                folder = Path(parent) / way
                _go_back(whole, folder, path, replay=way == "with")
                resume(folder, [f"stop.samples={at + more}"])
                rewards = _rewards(CheckpointStore(folder / "checkpoints").load_latest())
                found[way] = _means(rewards[at if way == "with" else 0 :], size, count)
                shutil.rmtree(folder)
            moments.append(found)
        return {"seed": seed, "updates_achieved": min(summary["updates_achieved"].values()), "moments": moments}


def _first_behind(folder: Path, samples: int) -> Path:
    return next(path for path in CheckpointStore(folder / "checkpoints").all() if _samples(path) >= samples)


def _samples(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _updates(checkpoint: Path) -> int:
    tensors = CheckpointStore(checkpoint.parent).load(checkpoint).tensors
    return sum(int(value) for name, value in tensors.items() if name.endswith("/updates"))


def _go_back(whole: Path, folder: Path, checkpoint: Path, replay: bool) -> None:
    """Makes `folder` the run `whole` as it stood at one of its checkpoints, which may lose its rows."""
    shutil.copytree(whole, folder, ignore=lambda path, names: names if path.endswith("checkpoints") else [])
    shutil.copytree(checkpoint, folder / "checkpoints" / checkpoint.name)
    if not replay:
        store = CheckpointStore(folder / "checkpoints")
        saved = store.load_latest()
        store.save(checkpoint.name.rpartition("-")[2], saved.tensors, saved.state)


def _rewards(checkpoint: Checkpoint) -> Array:
    """Of each sample that its rows hold, in their order, which must be all since they were begun."""
    (saved,) = checkpoint.replay.values()
    if saved.index["oldest"] != 1:
        raise RuntimeError("the buffer is too small: it does not hold the run's first rows any more")
    chunks = [arrays["reward"][~arrays["final"]] for _, arrays in sorted(saved.chunks(), key=lambda chunk: chunk[0])]
    rewards: Array = np.concatenate(chunks)
    return rewards


def _means(rewards: Array, size: int, count: int) -> list[float]:
    """Of the first `count` stretches of `size` samples."""
    means: list[float] = rewards[: size * count].reshape(count, size).mean(axis=1).tolist()
    return means


def _estimate(values: Array) -> dict[str, float]:
    """Mean and its standard error."""
    return {"mean": float(values.mean()), "error": float(values.std(ddof=1) / np.sqrt(len(values)))}


def _check(options: argparse.Namespace) -> None:
    for name in ("stretch", "stretches"):
        if not getattr(options, name) > 0:
            raise UserError(f"--{name} {getattr(options, name)} must be above 0")
    if min(options.samples) < options.stretch:
        raise UserError(f"--samples {min(options.samples)} must be one stretch of {options.stretch} at least")
    if len(set(options.seeds)) < 2:
        raise UserError("--seeds: a standard error needs two different ones at least")


def _text(result: dict[str, Any]) -> str:
    achieved = np.mean([run["updates_achieved"] for run in result["runs"]])
    lines = [f"{len(result['seeds'])} seeds, mean reward of a step, differences in pairs with their standard errors"]
    lines += [" ".join(result["run"]), f"updates achieved: {achieved:.3f}", machine_line()]
    for moment in result["moments"]:
        title = f"resumed after {moment['samples']:,.0f} samples and {moment['updates']:,.0f} updates"
        lines += ["", title, "", _moment(moment, result["stretch"])]
    return "\n".join(lines)


def _moment(moment: Mapping[str, Any], size: int) -> str:
    ways, differences = ("uninterrupted", "with", "without"), moment["differences"]
    rows: list[list[object]] = [["before", *[moment["before"]] * len(ways), *[None] * len(differences)]]
    for i, means in enumerate(zip(*(moment[way] for way in ways))):
        estimates = [each["stretches"][i] for each in differences.values()]
        rows.append([f"{i * size:,} to {(i + 1) * size:,} after", *means, *map(_shown, estimates)])
    overall = [float(np.mean(moment[way])) for way in ways]
    rows.append(["all of them", *overall, *(_shown(each["all"]) for each in differences.values())])
    return table(["samples", *ways, *differences], rows)


def _shown(estimate: Mapping[str, float]) -> str:
    return f"{estimate['mean']:+.2f} ± {estimate['error']:.2f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.resume", description="Reward before and after a resume.")
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=list(range(12)), help="a run each (0 to 11)")
    add("--samples", type=int, nargs="+", default=[2000, 6000], help="after which it is resumed (2000 6000)")
    add("--stretch", type=int, default=800, help="of a stretch, in samples: an episode of each instance (800)")
    add("--stretches", type=int, default=3, help="looked at after the resume (3)")
    add("--run", nargs="+", default=_RUN, help="overrides that say what is trained (Pendulum-v1)")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
