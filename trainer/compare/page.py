"""The table and the page of several runs: what differs in their settings, and their curves over each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime

import numpy as np

from trainer.compare.groups import Group, common_metrics
from trainer.report.curves import Chart, Curve, Section
from trainer.report.drawing import SERIES, draw
from trainer.report.page import number, percent, spread, templates
from trainer.telemetry.metrics import DEVIATION
from trainer.telemetry.names import named

_LEARNING, _SPEED = ("episode/", "goal/", "evaluation/", "game/"), ("run/",)
_HIDDEN = ("instances/", "time/", "run/seconds", "update/count")


def table(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """Returns headings and rows of what the groups have reached: means over their runs, with the spread."""
    headings = ["runs", "seeds", "samples", "reward", "best reward", "samples a second", "env utilization"]
    rows = []
    for group in groups:
        best = [
            max(run.history.curves["episode/reward"].values) for run in group.runs if _has_reward(run.history.curves)
        ]
        rows.append(
            [
                group.label,
                ", ".join(str(run.config.seed) for run in group.runs),
                number(float(np.mean([run.history.samples for run in group.runs]))),
                spread(group.last("episode/reward")),
                spread(best),
                spread(group.means("run/samples_per_second")),
                _shares(group.means("run/env_utilization")),
            ]
        )
    return headings, rows


def comparison_page(groups: Sequence[Group]) -> str:
    """Returns the page of these runs, as HTML."""
    names = (f"chart-{place}" for place in itertools.count())
    headings, rows = table(groups)
    page: str = (
        templates(lambda chart: draw(chart, next(names)))
        .get_template("compare.html")
        .render(
            title=" and ".join(sorted({run.config.env.label for group in groups for run in group.runs})),
            headings=headings,
            rows=rows,
            groups=groups,
            keys=list(groups[0].chosen),
            sections=_sections(groups),
            series=SERIES,
            several_seeds=any(len(group.runs) > 1 for group in groups),
            made_at=datetime.now().strftime("%Y-%m-%d %H:%M"),
        )
    )
    return page


def _sections(groups: Sequence[Group]) -> list[Section]:
    """Returns charts of all metrics that the groups have in common."""
    shown = [name for name in common_metrics(groups) if not name.startswith(_HIDDEN) and not name.endswith(DEVIATION)]
    learning = [name for name in shown if name.startswith(_LEARNING)]
    speed = [name for name in shown if name.startswith(_SPEED)]
    rest = [name for name in shown if name not in learning and name not in speed]
    parts = {"Learning": learning, "Speed": speed, "Algorithm": rest}
    found = {title: [chart for name in names if (chart := _chart(name, groups))] for title, names in parts.items()}
    return [Section(title, charts, folded=title == "Algorithm") for title, charts in found.items() if charts]


def _chart(name: str, groups: Sequence[Group]) -> Chart | None:
    curves, bands = {}, {}
    for group in groups:
        if (found := group.mean_curve(name)) is not None:
            samples, mean, low, high = found
            curves[group.label] = Curve(samples.tolist(), mean.tolist())
            if len(group.runs) > 1:
                bands[group.label] = (low.tolist(), high.tolist())
    title, note, percent = named(name)
    if len(curves) < len(groups):
        return None
    return Chart(title, note, curves, percent=percent, bands=bands, metric=name)


def _has_reward(curves: dict[str, Curve]) -> bool:
    return "episode/reward" in curves


def _shares(values: Sequence[float]) -> str:
    return percent(float(np.mean(values))) if values else "-"
