"""`python -m benchmarks.sample_throughput --law snoopy --instances 16 --seconds 20 --json`: true samples a second.

Ours, asynchronous and in lock-step, against Gymnasium's AsyncVectorEnv and Stable-Baselines3's SubprocVecEnv (when it
is installed), in one run and in turns. All get the same instances, episode seeds, random actions, and so the same drawn
durations. Ours counts rows in its buffer; of AsyncVectorEnv a call that only resets is no sample. Start-up is not
timed, resets are. `supply.py` says what supply is.

With a learner, ours is `python -m trainer`: it acts with its policy and learns. Such a run is not cut into rounds; its
figures are those of its `summary.json`, less the samples that were dropped as too old.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from benchmarks.libraries import GymnasiumAsync, StableBaselines
from benchmarks.ours import Ours
from benchmarks.report import machine, machine_line, table
from benchmarks.supply import Span, env_utilization
from benchmarks.tasks import LAWS, Contender, Task
from benchmarks.training import learn
from envs.gym.adapter import GymEnv
from envs.spec import UserError

OURS = ("async", "lockstep")
LIBRARIES = ("gymnasium_async", "sb3_subproc")
NAMES = {
    "async": "Outstep, asynchronous",
    "lockstep": "Outstep, lock-step",
    "gymnasium_async": "Gymnasium AsyncVectorEnv",
    "sb3_subproc": "Stable-Baselines3 SubprocVecEnv",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and prints a table, or one JSON object; 0, or 2 for bad input."""
    options = _parser().parse_args(argv)
    law = LAWS[options.law]
    try:
        _check(options)
        time_scale = law.time_scale if options.time_scale is None else options.time_scale
        env = GymEnv(law.id, law.kwargs, time_scale=time_scale)
        env.check()
        task = Task(env, options.instances or law.instances, options.seed)
        names = _contenders(options.contenders)
        figures = contest(task, [n for n in names if options.learner == "none" or n in LIBRARIES], options)
        if options.learner != "none":
            for name in OURS:
                if name in names:
                    figures[name] = learn(task, options.learner, options.seconds, lockstep=name == "lockstep")
    except UserError as error:
        print(f"sample_throughput: {error}", file=sys.stderr)
        return 2
    result = {
        "law": options.law,
        "instances": task.instances,
        "time_scale": time_scale,
        "learner": options.learner,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "seed": options.seed,
        "machine": machine(),
        **{name: figures[name] for name in names},
    }
    if "gymnasium_async" in names:
        base = figures["gymnasium_async"]["samples_per_second"]
        result["over_gymnasium_async"] = {name: figures[name]["samples_per_second"] / base for name in names}
    print(json.dumps(result) if options.json else _text(result, names))
    return 0


@dataclass
class Score:
    """One contender's rounds."""

    samples: int = 0
    seconds: float = 0.0
    spans: list[Span] = field(default_factory=list)

    def figures(self, layout: str) -> dict[str, Any]:
        """As they stand in the JSON."""
        return {
            "samples_per_second": self.samples / self.seconds,
            "env_utilization": env_utilization(self.spans),
            "samples": self.samples,
            "seconds": self.seconds,
            "layout": layout,
        }


def contest(task: Task, names: list[str], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Lets the contenders step the task in turns, none while another does; figures by name."""
    scores = {name: Score() for name in names}
    layouts = {}
    with ExitStack() as stack:
        contenders = {}
        for name in names:
            contenders[name] = _contender(name, task)
            contenders[name].start()
            stack.callback(contenders[name].close)
            layouts[name] = contenders[name].layout()
        for _ in range(options.rounds):
            for name, contender in contenders.items():
                samples, seconds, spans = contender.round(options.seconds / options.rounds)
                score = scores[name]
                score.samples, score.seconds = score.samples + samples, score.seconds + seconds
                score.spans += spans
    return {name: score.figures(layouts[name]) for name, score in scores.items()}


def _check(options: argparse.Namespace) -> None:
    if options.seconds <= 0:
        raise UserError(f"--seconds {options.seconds:g} must be above 0")
    for name, value in (("--rounds", options.rounds), ("--instances", options.instances)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    if options.time_scale is not None and (options.time_scale <= 0 or options.law == "none"):
        raise UserError(f"--time-scale {options.time_scale:g} must be above 0, and law none has no durations to scale")


def _contenders(asked: list[str] | None) -> list[str]:
    """The names asked for; by default all whose library is installed."""
    installed = find_spec("stable_baselines3") is not None
    if asked is None:
        return [name for name in NAMES if installed or name != "sb3_subproc"]
    if "sb3_subproc" in asked and not installed:
        raise UserError("--contenders sb3_subproc needs stable-baselines3: pip install 'outstep[bench]'")
    return [name for name in NAMES if name in asked]


def _contender(name: str, task: Task) -> Contender:
    if name in OURS:
        return Ours(task, lockstep=name == "lockstep")
    return GymnasiumAsync(task) if name == "gymnasium_async" else StableBaselines(task)


def _text(result: dict[str, Any], names: list[str]) -> str:
    over = result.get("over_gymnasium_async", {})
    learns = result["learner"] != "none"
    header = ["contender", "samples/s", "env utilization", "x AsyncVectorEnv", "layout"]
    header += ["updates of those asked", "dropped"] if learns else []
    rows = []
    for name in names:
        figures = result[name]
        row = [
            NAMES[name],
            figures["samples_per_second"],
            figures["env_utilization"],
            over.get(name),
            figures["layout"],
        ]
        row += [figures.get("achieved_updates_ratio"), figures.get("dropped")] if learns else []
        rows.append(row)
    scale = f", time scale {result['time_scale']:g}" if result["time_scale"] else ""
    title = (
        f"law {result['law']}{scale}, {result['instances']} instances, learner {result['learner']}, "
        f"{result['seconds']:g} s each in {result['rounds']} rounds, seed {result['seed']}"
    )
    return f"{title}\n{machine_line()}\n\n{table(header, rows)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.sample_throughput", description="True samples a second.")
    parser.add_argument("--law", choices=LAWS, default="snoopy", help="step-time law (snoopy)")
    parser.add_argument("--instances", type=int, help="running environments (16; law game_engine: 32)")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds for each contender in all (20)")
    parser.add_argument("--rounds", type=int, default=2, help="turns that each contender's seconds are cut into (2)")
    parser.add_argument(
        "--learner", choices=("none", "ppo", "sac"), default="none", help="what ours learns with (none)"
    )
    parser.add_argument("--contenders", nargs="+", choices=NAMES, help="who takes part (all that are installed)")
    parser.add_argument("--time-scale", type=float, help="durations are divided by this (snoopy: 20; others: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of episodes and actions (0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
