"""What the ladder comes to: figures by rung and claims, as JSON and as text, with the reference's beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from benchmarks.report import machine_line, table
from trainer.config.aliases import current_figure


@dataclass(frozen=True)
class Reference:
    """ML-Agents on Snoopy Pop's level 25: sixteen instances on sixteen cores and a K80, means of three runs."""

    time: str
    """To human performance over 1000 steps, as h:mm."""
    samples_per_second: float

    @property
    def seconds(self) -> int:
        """The same time."""
        hours, minutes = map(int, self.time.split(":"))
        return 3600 * hours + 60 * minutes

    @property
    def samples(self) -> float:
        """Time x samples/s: what the reference does not tell itself."""
        return self.seconds * self.samples_per_second


RUNGS = {
    "snoopy_ppo_lockstep": Reference("34:03", 10.83),
    "snoopy_ppo": Reference("31:08", 14.81),
    "snoopy_ppo_gail": Reference("23:18", 14.51),
    "snoopy_sac": Reference("5:58", 15.04),
    "snoopy_sac_gail": Reference("4:44", 15.28),
}
"""The ladder from its first rung to its last, by the experiments' names."""


@dataclass(frozen=True)
class Run:
    """One run of one rung. What it did not reach is None."""

    seed: int
    samples: int | None
    """To mastery, over the goal's window."""
    seconds: float | None
    """To mastery, from when the trainer begins to start its processes; whatever learns before the games is included."""
    command_seconds: float | None
    """Of the whole command, imports and the last checkpoint included."""
    samples_1000: int | None
    """To the first crossing over the reference's window of 1000 samples."""
    seconds_1000: float | None
    samples_per_second: float
    """Less the samples that were dropped as too old; the same goes for the env utilization."""
    env_utilization: float | None
    stopped_by: str
    all_samples: int
    dropped: int

    @classmethod
    def of(cls, seed: int, summary: Mapping[str, Any], command_seconds: float) -> Run:
        """From a run's `summary.json` and the wall clock of its command."""
        summary = {current_figure(name): value for name, value in summary.items()}
        samples, dropped = summary["samples"], sum(summary["dropped"].values())
        kept = 1.0 - dropped / max(1, samples)
        supply, short = summary["env_utilization"], summary["goal_windows"].get("1000") or {}
        mastered = summary["goal_samples"] is not None
        return cls(
            seed=seed,
            samples=summary["goal_samples"],
            seconds=summary["goal_seconds"],
            command_seconds=command_seconds if mastered else None,
            samples_1000=short.get("samples"),
            seconds_1000=short.get("seconds"),
            samples_per_second=summary["samples_per_second"] * kept,
            env_utilization=None if supply is None else supply * kept,
            stopped_by=summary["stopped_by"],
            all_samples=samples,
            dropped=dropped,
        )


SPREAD = (
    *("seconds", "command_seconds", "samples", "samples_1000", "seconds_1000"),
    *("samples_per_second", "env_utilization"),
)
"""Figures of a `Run` of which a rung shows median and range."""


def rung_figures(name: str, runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """A rung as it stands in the JSON, beside the first of those in `runs`."""
    first, this, reference = next(iter(runs)), runs[name], RUNGS[name]
    return {
        "mastered": sum(run.samples is not None for run in this),
        **{key: spread([getattr(run, key) for run in this]) for key in SPREAD},
        "first_over_this": compare(runs[first], this, "seconds"),
        "reference": {
            **asdict(reference),
            "seconds": reference.seconds,
            "samples": round(reference.samples),
            "first_over_this": RUNGS[first].seconds / reference.seconds,
        },
        "runs": [asdict(run) for run in this],
    }


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Median, lowest and highest; what was not reached counts as later than everything, and is None if it comes out."""
    late = [math.inf if value is None else value for value in values] or [math.inf]
    return {"median": _finite(median(late)), "low": _finite(min(late)), "high": _finite(max(late))}


def compare(over: Sequence[Run], under: Sequence[Run], key: str) -> dict[str, Any]:
    """`over` / `under` over the seeds that both have: the ratio of medians, and the median of the seeds' own ratios.

    A ratio with a run that did not reach the figure is None, and so is then the median of the seeds' own.
    """
    above, below = ({run.seed: getattr(run, key) for run in runs} for runs in (over, under))
    seeds = sorted(above.keys() & below.keys())
    own = {seed: _ratio(above[seed], below[seed]) for seed in seeds}
    known = [ratio for ratio in own.values() if ratio is not None]
    middle = [spread([values[seed] for seed in seeds])["median"] for values in (above, below)]
    return {
        "of_medians": _ratio(*middle),
        "by_seed": median(known) if own and len(known) == len(own) else None,
        "seeds": {str(seed): ratio for seed, ratio in own.items()},
    }


class Claim(NamedTuple):
    """That one rung's figure over another's is at least so high; or, as `fewer`, what is missing to 1."""

    text: str
    over: str
    under: str
    key: str
    asked: float
    reference: float | None
    seeds: int
    """Pairs of runs that it takes."""
    fewer: bool = False


_SEEDS = 3
_FIRST, _SECOND, _PPO_GAIL, _SAC, _LAST = RUNGS
CLAIMS = (
    Claim("async over lock-step, samples/s", _SECOND, _FIRST, "samples_per_second", 1.33, 1.37, _SEEDS),
    Claim("PPO + GAIL: fewer samples than PPO", _PPO_GAIL, _SECOND, "samples", 0.26, 0.26, 5, fewer=True),
    Claim("SAC: fewer samples than PPO", _SAC, _SECOND, "samples", 0.81, 0.81, _SEEDS, fewer=True),
    Claim("SAC + GAIL over lock-step PPO, in time", _FIRST, _LAST, "seconds", 7.2, 7.2, _SEEDS),
    Claim("the same, by the commands' clock", _FIRST, _LAST, "command_seconds", 7.2, 7.2, _SEEDS),
    Claim("the same, the moonshot", _FIRST, _LAST, "seconds", 20.0, 7.2, _SEEDS),
)


def claims(runs: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """Every claim about rungs that are in `runs`: asked and seen, and whether it holds both ways of pairing."""
    found = [_mastery(runs)]
    for claim in CLAIMS:
        if claim.over not in runs or claim.under not in runs:
            continue
        ratios = compare(runs[claim.over], runs[claim.under], claim.key)
        seen = [_less(ratios[way]) if claim.fewer else ratios[way] for way in ("of_medians", "by_seed")]
        pairs = len(ratios["seeds"])
        found.append(
            {
                "claim": claim.text,
                "asked": claim.asked,
                "of_medians": seen[0],
                "by_seed": seen[1],
                "pairs": pairs,
                "pairs_asked": claim.seeds,
                "reference": claim.reference,
                "met": pairs >= claim.seeds and all(each is not None and each >= claim.asked for each in seen),
            }
        )
    return [*found, _order(runs)] if len(runs) > 1 else found


def text(result: Mapping[str, Any]) -> str:
    """The result, as it stands in the JSON, for people."""
    rungs, demos = result["rungs"], result["demonstrations"]
    goal = result["goal"]
    lines = [
        f"law {result['law']}, time scale {result['time_scale']:g}, {result['instances']} instances",
        f"mastered: {goal['metric']} <= {goal['at_most']} over {goal['window']:,} samples",
        f"a run is given up after {result['cap_seconds']:g} s",
        machine_line(),
    ]
    if result["overrides"]:
        lines.append(f"every rung with {' '.join(result['overrides'])}")
    if demos:
        lines.append(
            f"demonstrations: {demos['episodes']} episodes, {demos['steps']:,} steps, "
            f"{demos['mean_bubbles']:.4g} bubbles a game"
        )
    if not result["complete"]:
        lines.append("NOT COMPLETE: what is there so far")
    lines += [
        "",
        _measured(rungs),
        "",
        _beside(rungs),
        "",
        _claims(result["claims"]),
        "",
        "Settings that are no defaults:",
    ]
    lines += [f"  {name}: {_settings(rung['settings'])}" for name, rung in rungs.items()]
    lines += ["Tuning before this:", *(f"  {name}: {rung['tuning']}" for name, rung in rungs.items())]
    return "\n".join(lines)


def _measured(rungs: Mapping[str, Any]) -> str:
    header = ["median (range) over seeds", "mastered", "seconds", "samples", "samples/s", "env utilization"]
    header += ["seconds of the command", "over 1000: seconds", "samples"]
    rows = []
    for name, rung in rungs.items():
        ranges = [_range(rung[key]) for key in ("seconds", "samples", "samples_per_second", "env_utilization")]
        middle = [_number(rung[key]["median"]) for key in ("command_seconds", "seconds_1000", "samples_1000")]
        rows.append([name, f"{rung['mastered']} of {len(rung['runs'])}", *ranges, *middle])
    return table(header, rows)


def _beside(rungs: Mapping[str, Any]) -> str:
    header = [
        "first over this, in time",
        "here",
        "by seed",
        "reference",
        "its time, h:mm",
        "its samples/s",
        "its samples",
    ]
    rows = []
    for name, rung in rungs.items():
        ours, theirs = rung["first_over_this"], rung["reference"]
        row = [name, _number(ours["of_medians"]), _number(ours["by_seed"]), _number(theirs["first_over_this"])]
        rows.append([*row, theirs["time"], theirs["samples_per_second"], theirs["samples"]])
    return table(header, rows)


def _claims(found: Sequence[Mapping[str, Any]]) -> str:
    header = ["claim", "asked", "of medians", "by seed", "reference", "seeds", "met"]
    rows = []
    for claim in found:
        seeds = f"{claim['pairs']} of {claim['pairs_asked']}"
        seen = [claim.get("of_medians", claim.get("seen")), claim.get("by_seed"), claim.get("reference")]
        met = "yes" if claim["met"] else "NO"
        rows.append([claim["claim"], claim["asked"], *seen, seeds, met])
    return table(header, rows)


def _mastery(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    failed = [f"{name} {run.seed}" for name, each in runs.items() for run in each if run.samples is None]
    total, fewest = sum(map(len, runs.values())), min(map(len, runs.values()))
    return {
        "claim": "every rung masters the level",
        "asked": f"{total} of {total}",
        "seen": f"{total - len(failed)} of {total}",
        "not_mastered": failed,
        "pairs": fewest,
        "pairs_asked": _SEEDS,
        "met": fewest >= _SEEDS and not failed,
    }


def _order(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    shared = set.intersection(*({run.seed for run in each} for each in runs.values()))
    times = {
        name: spread([run.seconds for run in runs[name] if run.seed in shared])["median"]
        for name in RUNGS
        if name in runs
    }
    late = {name: math.inf if seconds is None else seconds for name, seconds in times.items()}
    names = list(late)
    wrong = [f"{later} behind {earlier}" for earlier, later in pairwise(names) if late[later] >= late[earlier]]
    return {
        "claim": "rungs in the reference's order, by time",
        "asked": "all",
        "seen": "; ".join(wrong) or "all",
        "out_of_order": wrong,
        "pairs": len(shared),
        "pairs_asked": _SEEDS,
        "met": len(shared) >= _SEEDS and not wrong,
    }


def _ratio(over: float | None, under: float | None) -> float | None:
    return None if over is None or not under else over / under


def _less(ratio: float | None) -> float | None:
    return None if ratio is None else 1.0 - ratio


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _range(figures: Mapping[str, float | None]) -> str | None:
    if figures["low"] is None:
        return None
    return f"{_number(figures['median'])} ({_number(figures['low'])} to {_number(figures['high'])})"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items()) or "none"
