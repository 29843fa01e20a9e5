"""What the runs of `defaults.py` come to: figures by task and over all, as text, as Markdown and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.aggregate import interquartile_mean, interval, ratio_interval
from benchmarks.defaults_tasks import CONTENDERS, FAMILIES, SIDES, TASKS
from benchmarks.report import cell, machine_line, table
from envs.spec import UserError

ASKED_RATIO = {"sb3": 1.3, "zoo": 1.0}
"""Interquartile mean of our scores over theirs, at least."""
ASKED_SCALE = 0.05
"""How far the median of a task in other units may be from the task's own, as a part of the way from random to mark."""
FAILED = 0.1
"""A run whose last evaluation scores below this has not learned at all."""
Row = Mapping[str, Any]
_COLORS = {"ours": "tab:blue", "sb3": "tab:orange", "zoo": "tab:green"}


def figures(rows: Sequence[Row], tasks: Sequence[str], missing: int) -> dict[str, Any]:
    """Returns all figures of runs of one kind and of these tasks, as JSON can hold them; some may be `missing` yet."""
    runs = {
        (task, contender): [row for row in rows if row["task"] == task and row["contender"] == contender]
        for task in tasks
        for contender in CONTENDERS
    }
    runs = {key: sorted(each, key=lambda row: row["seed"]) for key, each in runs.items() if each}
    machines = {machine_line(row["machine"]): None for row in rows}
    return {
        "tasks": [_of_task(task, contender, each) for (task, contender), each in runs.items()],
        "overall": {family: _overall(family, runs) for family in FAMILIES},
        "scale": [each for family in FAMILIES for each in _scale(family, runs)],
        "commits": sorted({row["commit"] for row in rows if row["contender"].startswith("ours") and row.get("commit")}),
        "machines": list(machines),
        "at_a_time": sorted({row["jobs"] for row in rows}),
        "missing": missing,
        "kinds": sorted({row["kind"] for row in rows}),
    }


def score_of(row: Row) -> float:
    """Returns the area under a run's evaluations: the mean of their scores, as they are evenly spaced."""
    return float(np.mean([_scores(row)]))


def text(found: Mapping[str, Any]) -> str:
    """Returns the figures as tables of text."""
    return _pages(found, table)


def markdown(found: Mapping[str, Any], title: str, picture: str) -> str:
    """Returns the figures as a page with a picture."""
    command = "`python -m benchmarks.defaults` (its first lines say what is measured, and how)"
    return f"# {title}\n\n{command}.\n\n{_pages(found, _markdown_table)}\n\n![Learning curves]({picture})\n"


def draw(rows: Sequence[Row], tasks: Sequence[str], picture: Path) -> None:
    """Draws mean returns of the evaluations: medians of seeds, and their ranges.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("matplotlib is missing: pip install 'outstep[bench]'") from error
    shown = [task for task in tasks if any(row["task"] == task for row in rows)]
    figure = Figure(figsize=(10, 3 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), len(FAMILIES), squeeze=False)
    for line, task in zip(grid, shown):
        for axes, family in zip(line, FAMILIES):
            for side in SIDES:
                runs = [row for row in rows if row["task"] == task and row["contender"] == f"{side}-{family}"]
                if runs:
                    samples, returns = np.median([row["evaluations"] for row in runs], axis=0).T
                    every = np.array([row["evaluations"] for row in runs])[:, :, 1]
                    axes.plot(samples, returns, color=_COLORS[side], label=f"{side} {runs[0]['algorithm']}")
                    axes.fill_between(samples, every.min(0), every.max(0), color=_COLORS[side], alpha=0.15, linewidth=0)
            mark = TASKS[task].budget(family).mark
            if mark is not None:
                axes.axhline(mark, color="black", linestyle="--", linewidth=1, label="mark")
            axes.axhline(TASKS[task].random, color="gray", linestyle=":", linewidth=1, label="random")
            axes.set_title(f"{task}, {family}", fontsize=9)
            axes.set_xlabel("samples")
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=8)
    figure.savefig(picture, dpi=100)


def _scores(row: Row) -> list[float]:
    family = row["contender"].split("-")[1]
    return [TASKS[row["task"]].score(family, mean) for _, mean in row["evaluations"]]


def _of_task(task: str, contender: str, runs: Sequence[Row]) -> dict[str, Any]:
    scores = [score_of(row) for row in runs]
    finals = [row["evaluations"][-1][1] for row in runs]
    budget = TASKS[task].budget(contender.split("-")[1])
    medians = np.median([row["evaluations"] for row in runs], axis=0)
    above = [int(samples) for samples, mean in medians if budget.mark is not None and mean >= budget.mark]
    return {
        "task": task,
        "contender": contender,
        "algorithm": runs[0]["algorithm"],
        "samples": runs[0]["samples"],
        "mark": budget.mark,
        "seeds": [row["seed"] for row in runs],
        "scores": scores,
        "score": interquartile_mean([scores]),
        "interval": interval([scores]),
        "finals": finals,
        "final": median(finals),
        "reached": None if budget.mark is None else median(finals) >= budget.mark,
        "first_at": above[0] if above else None,
        "failed": sum(_scores(row)[-1] < FAILED for row in runs) if budget.mark is not None else 0,
        "mean_lag": _mean([row.get("mean_lag") for row in runs]),
        "env_utilization": _mean([row.get("env_utilization") for row in runs]),
        "seconds": median(row["seconds"] for row in runs),
    }


def _overall(family: str, runs: Mapping[tuple[str, str], Sequence[Row]]) -> dict[str, Any]:
    """Returns the figures over all tasks that have a mark and are in their own units."""
    judged = [task for task in TASKS if TASKS[task].like is None and TASKS[task].budget(family).mark is not None]

    def scores(side: str, other: str, task: str) -> list[float]:
        """Of the seeds that both have."""
        known = {row["seed"] for row in runs.get((task, f"{other}-{family}"), ())}
        return [score_of(row) for row in runs.get((task, f"{side}-{family}"), ()) if row["seed"] in known]

    compared = {}
    for side, asked in ASKED_RATIO.items():
        tasks = [task for task in judged if scores("ours", side, task)]
        ours, theirs = ([scores(*pair, task) for task in tasks] for pair in (("ours", side), (side, "ours")))
        if not tasks:
            continue
        means = interquartile_mean(ours), interquartile_mean(theirs)
        compared[side] = {
            "tasks": tasks,
            "ours": means[0],
            "ours_interval": interval(ours),
            "theirs": means[1],
            "theirs_interval": interval(theirs),
            "ratio": means[0] / means[1] if means[1] > 0 else None,
            "ratio_interval": ratio_interval(ours, theirs),
            "asked": asked,
        }
    return compared


def _scale(family: str, runs: Mapping[tuple[str, str], Sequence[Row]]) -> list[dict[str, Any]]:
    """Returns how far our medians in other units are from those in the game's own."""

    def middle(task: str) -> float:
        return median(_scores(row)[-1] for row in runs[task, f"ours-{family}"])

    return [
        {"task": name, "family": family, "median": middle(name), "own_units": middle(task.like)}
        for name, task in TASKS.items()
        if task.like and (name, f"ours-{family}") in runs and (task.like, f"ours-{family}") in runs
    ]


def _pages(found: Mapping[str, Any], as_table: Callable[[Sequence[str], Sequence[Sequence[object]]], str]) -> str:
    header = ["task", "contender", "algorithm", "samples", "seeds", "score", "95 %", "final", "range", "mark"]
    header += ["reached", "first at", "failed", "lag", "utilization", "seconds"]
    rows = [
        [
            *(each["task"], each["contender"], each["algorithm"], each["samples"], len(each["seeds"])),
            *(
                each["score"],
                _range(each["interval"]),
                each["final"],
                _range((min(each["finals"]), max(each["finals"]))),
            ),
            *(each["mark"], _answer(each["reached"]), each["first_at"], each["failed"]),
            *(each["mean_lag"], each["env_utilization"], each["seconds"]),
        ]
        for each in found["tasks"]
    ]
    parts = [*found["machines"], f"Runs at a time: {', '.join(map(str, found['at_a_time'])) or '-'}, one core each."]
    parts += [f"These runs are of the kind {kind!r} and enter no table." for kind in found["kinds"] if kind != "table"]
    parts += [f"NOT COMPLETE: {found['missing']} runs are missing."] if found["missing"] else []
    parts += [f"Ours are of several commits: {', '.join(found['commits'])}."] if len(found["commits"]) > 1 else []
    return "\n\n".join([*parts, as_table(header, rows), *_judged(found, as_table)])


def _judged(found: Mapping[str, Any], as_table: Callable[..., str]) -> list[str]:
    """Returns what was asked, and what is."""
    ratios = [
        [
            *(family, side, len(each["tasks"]), each["ours"], _range(each["ours_interval"]), each["theirs"]),
            *(_range(each["theirs_interval"]), each["ratio"], _range(each["ratio_interval"]), each["asked"]),
        ]
        for family, compared in found["overall"].items()
        for side, each in compared.items()
    ]
    ours = [each for each in found["tasks"] if each["contender"].startswith("ours") and each["mark"] is not None]
    marks = f"Marks reached by our medians: {sum(each['reached'] for each in ours)} of {len(ours)}."
    failed = sum(each["failed"] for each in ours)
    header = ["family", "over", "tasks", "ours", "95 %", "theirs", "95 %", "ratio", "95 %", "asked"]
    parts = [as_table(header, ratios)] if ratios else []
    parts.append(f"{marks} Our runs that did not learn at all: {failed} of {sum(len(each['seeds']) for each in ours)}.")
    if found["scale"]:
        rows = [
            [each["task"], each["family"], each["median"], each["own_units"], _answer(_near(each))]
            for each in found["scale"]
        ]
        parts.append(as_table(["task", "family", "last score", "in own units", f"within {ASKED_SCALE:g}"], rows))
    return parts


def _near(each: Mapping[str, Any]) -> bool:
    return bool(abs(each["median"] - each["own_units"]) <= ASKED_SCALE)


def _answer(value: bool | None) -> str:
    return {None: "-", True: "yes", False: "no"}[value]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _range(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.3g} to {ends[1]:.3g}"


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = [[cell(value) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *cells])
