"""`python -m benchmarks.scaling --instances 16 64 256 1024 --json`: what more instances cost, at the same supply.

The collector that a run uses, with a policy that nobody trains and a real buffer. Every step of an instance lasts
`instances / 1024` seconds, so that all counts supply 1,024 samples a second, or `--step` seconds, give or take a tenth.
Instances begin at phases of their own, and their workers wait for many of them at once, as they tell their durations.

With steps that all last the same (`--spread 0`), instances that were once served together stay in step for ever, and
one pass of the policy then acts for all of them. The fewer there are, the sooner that comes about: on a busy machine,
passes were of 8 samples with 16 instances in 2 workers, and of 3 with 1024, while a pass cost about as much.

Each count has a process of its own in each round, as a run's collector has: so its memory holds nothing of the others,
and phases are drawn anew. Counts take turns. Our processor time is the whole process's, the benchmark's own record of
completions included, which costs 1 µs a sample or so. Resident memory counts the pages that processes share in each; of
what an added instance takes, some 32 KiB are durations that its law has drawn ahead.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from algorithms.settings import Cell
from benchmarks.acting import Acting
from benchmarks.report import machine, machine_line, table
from benchmarks.supply import Span, env_utilization
from benchmarks.tasks import Task
from envs.gym.adapter import GymEnv
from envs.spec import Array, BehaviorSpec, UserError
from trainer.runtime.collector import Actor, Channel

SUPPLY = 1024.0
"""Samples a second that every count supplies, unless `--step` is given."""
_ROOT = Path(__file__).resolve().parents[1]
_MIB = 2**20


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and prints a table, or one JSON object; 0, or 2 for bad input."""
    options = _parser().parse_args(argv)
    counts = sorted(set(options.instances))
    steps = {count: options.step or count / SUPPLY for count in counts}
    try:
        _check(options, max(steps.values()))
    except UserError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    rounds: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
    for _ in range(options.rounds):
        for count in counts:
            rounds[count].append(_measure_alone(count, steps[count], options))
    figures = [_figures(count, steps[count], rounds[count]) for count in counts]
    result = {
        "units": options.units,
        "spread": options.spread,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "machine": machine(),
        "counts": [_against(figures[0], each) for each in figures],
    }
    print(json.dumps(result) if options.json else _text(result))
    return 0


def measure(instances: int, step: float, spread: float, units: int, seconds: float) -> dict[str, Any]:
    """What `instances` with steps of `step` seconds deliver to this process in `seconds`, and what that costs.

    Returns samples, spans, passes of the policy, seconds of processors' time, and resident bytes; JSON-ready.
    """
    law = {"law": "constant", "seconds": step, "spread": spread}
    env = GymEnv("benchmarks.laws:StepLaw-v0", law, time_scale=1.0)
    crowd = _Crowd(Task(env, instances, 0), Cell["none"], units)
    crowd.start()
    try:
        return crowd.measure(seconds)
    finally:
        crowd.close()


class _Crowd(Acting):
    """Acting, with what a round costs this process and the workers."""

    def measure(self, seconds: float) -> dict[str, Any]:
        """As the function of this name."""
        self._gather()  # else the round would begin with making the environments
        workers = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
        ours, theirs, passes = time.process_time(), _processor_seconds(workers), self._actor.passes
        played = self.round(seconds)
        return {
            "collector_seconds": time.process_time() - ours,
            "workers_seconds": _processor_seconds(workers) - theirs,
            "collector_bytes": psutil.Process().memory_info().rss,
            "workers_bytes": sum(worker.memory_info().rss for worker in workers),
            "layout": self.layout(),
            "passes": self._actor.passes - passes,
            **played._asdict(),
        }

    def _open_channel(self, spec: BehaviorSpec) -> Channel:
        channel = super()._open_channel(spec)
        channel.actor = self._actor = _CountedActor(channel.actor)
        return channel


class _CountedActor:
    """An actor whose passes are counted."""

    def __init__(self, actor: Actor) -> None:
        self._actor, self.passes = actor, 0

    @property
    def version(self) -> int:
        """The actor's."""
        return self._actor.version

    def refresh(self) -> None:
        """As the actor does."""
        self._actor.refresh()

    def act(self, observations: tuple[Array, ...], mask: Array, state: Array) -> tuple[Array, Array, Array, Array]:
        """What the actor does."""
        self.passes += 1
        return self._actor.act(observations, mask, state)

    def state(self) -> Any:
        """The actor's."""
        return self._actor.state()


def _processor_seconds(processes: Sequence[psutil.Process]) -> float:
    """Their user and system time; the system counts it in steps of some 10 ms."""
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def _measure_alone(instances: int, step: float, options: argparse.Namespace) -> dict[str, Any]:
    """One round of `measure`, in a process that has done nothing else."""
    call = f"measure({instances}, {step!r}, {options.spread!r}, {options.units}, {options.seconds / options.rounds!r})"
    code = f"import json; from benchmarks.scaling import measure; print(json.dumps({call}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{call} ended with status {done.returncode}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _figures(instances: int, step: float, rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of all rounds together; of memory, the most that a round took."""
    samples, seconds, passes = (sum(each[name] for each in rounds) for name in ("samples", "seconds", "passes"))
    return {
        "instances": instances,
        "step_seconds": step,
        "layout": rounds[0]["layout"],
        "samples": samples,
        "seconds": seconds,
        "samples_per_second": samples / seconds,
        "env_utilization": env_utilization(Span(*span) for each in rounds for span in each["spans"]),
        "samples_per_pass": samples / passes,
        "collector_microseconds": 1e6 * sum(each["collector_seconds"] for each in rounds) / samples,
        "workers_microseconds": 1e6 * sum(each["workers_seconds"] for each in rounds) / samples,
        "collector_mib": max(each["collector_bytes"] for each in rounds) / _MIB,
        "workers_mib": max(each["workers_bytes"] for each in rounds) / _MIB,
    }


def _against(fewest: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    """The figures, with ours a sample over those of the fewest instances, and the memory of each that was added."""
    over = figures["collector_microseconds"] / fewest["collector_microseconds"]
    added = figures["instances"] - fewest["instances"]
    more = sum(figures[name] - fewest[name] for name in ("collector_mib", "workers_mib"))
    return {**figures, "over_fewest": over, "kib_per_added": 1024 * more / added if added else None}


def _check(options: argparse.Namespace, longest: float) -> None:
    for name in ("seconds", "rounds", "units"):
        if not getattr(options, name) > 0:
            raise UserError(f"--{name} {getattr(options, name)} must be above 0")
    if min(options.instances) < 1:
        raise UserError(f"--instances {min(options.instances)} must be at least 1")
    if options.step is not None and not options.step > 0:
        raise UserError(f"--step {options.step:g} must be above 0")
    if not 0 <= options.spread <= 1:
        raise UserError(f"--spread {options.spread:g} must be 0 to 1")
    if (least := 3 * longest * options.rounds) > options.seconds:
        raise UserError(
            f"--seconds {options.seconds:g} in {options.rounds} rounds are too few for steps of {longest:g} s: "
            f"give at least {least:g}, three steps a round"
        )


def _text(result: dict[str, Any]) -> str:
    columns = {
        "instances": "instances",
        "s a step": "step_seconds",
        "samples/s": "samples_per_second",
        "env utilization": "env_utilization",
        "samples a pass": "samples_per_pass",
        "our µs a sample": "collector_microseconds",
        "x fewest": "over_fewest",
        "workers' µs": "workers_microseconds",
        "our MiB": "collector_mib",
        "workers' MiB": "workers_mib",
        "KiB each added": "kib_per_added",
        "layout": "layout",
    }
    rows = [[figures[name] for name in columns.values()] for figures in result["counts"]]
    title = (
        f"{result['units']} units a layer, steps vary by {result['spread']:.0%}, "
        f"{result['seconds']:g} s each in {result['rounds']} rounds"
    )
    return f"{title}\n{machine_line()}\n\n{table(list(columns), rows)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.scaling", description="What more instances cost.")
    counts = [16, 64, 256, 1024]
    parser.add_argument("--instances", type=int, nargs="+", default=counts, help="counts of them (16 64 256 1024)")
    parser.add_argument("--step", type=float, help="seconds that a step lasts (instances / 1024: equal supply)")
    parser.add_argument("--spread", type=float, default=0.1, help="share by which steps are shorter or longer (0.1)")
    parser.add_argument("--units", type=int, default=64, help="of each of the policy's two layers (64)")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds for each count in all (20)")
    parser.add_argument("--rounds", type=int, default=2, help="turns that each count's seconds are cut into (2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
