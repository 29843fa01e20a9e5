"""Two hosts of eight games against sixteen games here: env utilization, and how old rows are that are learned from.

    python -m benchmarks.hosts [--seconds 120] [--rounds 3] [--json]

Steps last log-normal durations of 50 ms, PPO learns, and both kinds of runs take turns. The hosts are actors of a Ray
cluster of this machine, so they share its cores with each other and with the learner. Rows that PPO has dropped as too
old are no samples here.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.report import machine, machine_line, table
from benchmarks.training import train

RUNS = {"16 here": ["env.instances=16"], "2 x 8": ["cluster=ray", "cluster.collectors=2", "env.instances=8"]}
_GAME = [
    "env=gym",
    "env.time_scale=1",
    "env.id=benchmarks.laws:StepLaw-v0",
    "+env.kwargs.law=lognormal",
    "run.picture_minutes=0",
]
_LEARNER = ["algorithm=ppo", "algorithm.network.hidden=[64,64]", "algorithm.max_lag=1", "checkpoint.replay=false"]


def measure(words: list[str], seconds: float, seed: int) -> dict[str, Any]:
    """Returns the figures of one run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        summary = train([*_GAME, *_LEARNER, *words, f"stop.seconds={seconds}", f"seed={seed}"], folder)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lags = [value for line in lines for key, value in line.items() if key.endswith("ppo/lag") and value is not None]
    kept = 1 - sum(summary["dropped"].values()) / max(1, summary["samples"])
    return {
        "utilization": summary["env_utilization"] * kept,
        "samples_per_second": summary["samples_per_second"] * kept,
        "dropped": 1 - kept,
        "lag_mean": fmean(lags) if lags else None,
        "lag_largest_mean": max(lags, default=None),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Prints a table, or one JSON object."""
    parser = argparse.ArgumentParser("python -m benchmarks.hosts", description=str(__doc__).splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="of each run (120)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind (3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
    for seed in range(given.rounds):
        for name, words in RUNS.items():
            found[name].append(measure(words, given.seconds, seed))
    ratios = [two["utilization"] / one["utilization"] for one, two in zip(*found.values())]
    if given.json:
        print(json.dumps({"machine": machine(), "seconds": given.seconds, **found, "ratios": ratios}))
        return
    names = list(found["2 x 8"][0])
    print(machine_line(), "\n", table(["", *names], [[name, *each.values()] for name in found for each in found[name]]))
    print(f"2 x 8 over 16 here: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
