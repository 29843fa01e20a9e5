"""`python -m benchmarks.learners --json`: updates a second of several learners against those of one, in turns.

One and several learn from the same random steps with the same settings, each process with one torch thread; games,
acting and writing rows are left out. While one learns alone, the other processes wait. `ms` is what an update takes,
and `step_ms` what a gradient step takes (SAC's updates have one), alone. `ratio` is updates a second of several over
those of one, round by round; `cpu_ratio` the same of the processor time of the first learner's process, which a busy
machine spoils less: what the ratio can be at most where each learner has a core. Before anything is timed, both have
made the same update: what their policies then differ by is `difference`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from contextlib import closing
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from algorithms.ppo.settings import PPOSettings
from algorithms.sac.settings import SACSettings
from algorithms.settings import NetworkSettings
from benchmarks.report import machine, machine_line, table
from benchmarks.update_contenders import NUMBERS, PIXELS, OurPPO, OurSAC, Settings, ours
from envs.spec import UserError
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.learners import Learners

CASES: dict[str, tuple[Settings, tuple[int, ...]]] = {
    "sac_256": (SACSettings(network=NetworkSettings([256, 256]), batch_size=256), (NUMBERS,)),
    "sac_512": (SACSettings(network=NetworkSettings([512, 512]), batch_size=1024), (NUMBERS,)),
    "sac_pixels": (SACSettings(network=NetworkSettings([256]), batch_size=256), PIXELS),
    "ppo_64": (PPOSettings(network=NetworkSettings([64, 64]), epochs=2), (NUMBERS,)),
    "ppo_512": (
        PPOSettings(network=NetworkSettings([512, 512]), rollout_size=8192, minibatch_size=2048, epochs=4),
        (NUMBERS,),
    ),
    "ppo_pixels": (
        PPOSettings(network=NetworkSettings([256]), rollout_size=512, minibatch_size=128, epochs=4),
        PIXELS,
    ),
}
"""By name, the settings of an update and the shape of what is observed."""


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and prints a table, or one JSON object; 0, or 2 for bad input."""
    options = _parser().parse_args(argv)
    try:
        for name in ("seconds", "rounds"):
            if not 0 < getattr(options, name) < math.inf:
                raise UserError(f"--{name} {getattr(options, name):g} must be above 0")
        if options.learners < 2:
            raise UserError(f"--learners {options.learners} must be at least 2")
    except UserError as error:
        print(f"learners: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    result: dict[str, Any] = {"learners": options.learners, "seconds": options.seconds, "rounds": options.rounds}
    result["machine"] = machine()
    result["load"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result["cases"] = [
        {"case": name, **contest(*CASES[name], options.learners, options.rounds, options.seconds)}
        for name in options.cases
    ]
    print(json.dumps(result) if options.json else _text(result))
    return 0


def contest(settings: Settings, shape: tuple[int, ...], learners: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Lets one and several learn in turns, for `seconds` each in all; returns figures of both."""
    composed = compose(["env=gym", "env.id=CartPole-v1", f"learners={learners}"], TrainConfig, "config")
    config = replace(composed, algorithm=settings)
    alone, together = ours(settings, "cpu", shape), ours(settings, "cpu", shape)
    with closing(Learners(config)) as others:
        others.share(together.algorithm)
        for side in (alone, together):
            _update(side)
        difference = (alone.algorithm.policy.flat - together.algorithm.policy.flat).abs().max().item()
        times = [(_seconds(alone, seconds / rounds), _seconds(together, seconds / rounds)) for _ in range(rounds)]
        if together.algorithm.shared is None:
            raise RuntimeError("a learner was lost")
    ratios, cpu_ratios = zip(*((one[0] / several[0], one[1] / several[1]) for one, several in times))
    ms = {side: 1e3 * median(each[i][0] for each in times) for i, side in enumerate(("one", "several"))}
    return {
        "ms": ms,
        "step_ms": ms["one"] / (1 if isinstance(settings, SACSettings) else alone.gradient_steps),
        "ratio": {"median": median(ratios), "least": min(ratios), "most": max(ratios)},
        "cpu_ratio": median(cpu_ratios),
        "difference": difference,
    }


def _update(side: OurSAC | OurPPO) -> tuple[float, float]:
    """Makes one update; returns the seconds that it took, and those of the processor."""
    side.refill()
    start, processor = time.perf_counter(), time.process_time()
    side.algorithm.update()
    return time.perf_counter() - start, time.process_time() - processor


def _seconds(side: OurSAC | OurPPO, seconds: float) -> tuple[float, float]:
    """Makes updates for so many seconds; returns the seconds of one, and those of the processor."""
    made: list[tuple[float, float]] = []
    while sum(each[0] for each in made) < seconds:
        made.append(_update(side))
    busy, processor = zip(*made)
    return sum(busy) / len(made), sum(processor) / len(made)


def _text(result: dict[str, Any]) -> str:
    title = f"{result['learners']} learners against one, {result['seconds']:g} s each in {result['rounds']} rounds"
    header = ("case", "ms", "ms together", "ms a step", "ratio", "least", "most", "of CPU", "difference")
    rows = [
        [
            *(case["case"], case["ms"]["one"], case["ms"]["several"], case["step_ms"]),
            *(case["ratio"][key] for key in ("median", "least", "most")),
            case["cpu_ratio"],
            f"{case['difference']:.1e}",
        ]
        for case in result["cases"]
    ]
    return "\n".join([f"{title}, load {result['load']}", machine_line(result["machine"]), "", table(header, rows)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.learners", description="Several learners against one.")
    parser.add_argument("--cases", nargs="+", choices=[*CASES], default=[*CASES], help="what is measured (all)")
    parser.add_argument("--learners", type=int, default=2, help="how many learn together (2)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds for each side of a case in all (10)")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each side's seconds are cut into (5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
