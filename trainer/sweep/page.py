"""The page of a study: what mattered, curves over each other, settings beside scores, and all trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from trainer.sweep.plan import Plan
from trainer.sweep.space import Parameter
from trainer.sweep.study import Study, trial_folder
from trainer.sweep.view import heading, ordered, score_of, table, value_text
from trainer.telemetry.metrics_file import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE = "sweep.html"
_FEWEST = 4
"""Whole trials from which on something can be said of what mattered."""
_POINTS = 200
"""Points of a curve."""
_BEST = 0.25
"""Share of the trials that are shown in colour."""


def write_sweep_page(plan: Plan, study: Study) -> None:
    """Writes the page into the study's folder, if the libraries are there that draw it."""
    if any(find_spec(library) is None for library in ("matplotlib", "jinja2")):
        return
    from trainer.report.output import write_page

    write_page(study.folder / PAGE, sweep_page(plan, study))


def sweep_page(plan: Plan, study: Study) -> str:
    """Returns the page of a study, as HTML."""
    from trainer.report.drawing import painted
    from trainer.report.page import templates

    trials = study.trials()
    headings, rows = table(trials, plan)
    names = (f"chart-{place}" for place in itertools.count())
    charts: list[dict[str, Any]] = []
    for title, note, wide, paint in _charts(plan, study, trials):
        charts.append({"title": title, "note": note, "wide": wide, "svg": painted(paint, next(names), _SIZES[wide])})
    best = study.best()
    page: str = (
        templates(lambda _: "")
        .get_template("sweep.html")
        .render(
            title=plan.folder.name,
            heading=heading(trials, plan),
            charts=charts,
            headings=[*headings, "folder"],
            rows=[
                [*row, str(trial_folder(plan.folder, trial.number))]
                for row, trial in zip(rows, ordered(trials, plan.maximize))
            ],
            best=None if best is None else {name: value_text(value) for name, value in best.params.items()},
            words=plan.words,
            folder=plan.folder,
            made_at=datetime.now().strftime("%Y-%m-%d %H:%M"),
        )
    )
    return page


def importances(study: optuna.Study) -> dict[str, float]:
    """Returns how much each setting mattered, as shares (PED-ANOVA, arXiv 2304.10255); empty if too little is known."""
    whole = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(whole) < _FEWEST or len({trial.value for trial in whole}) < 2:
        return {}
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


_SIZES = {False: (4.2, 2.3), True: (9.0, 3.2)}
_Chart = tuple[str, str, bool, Callable[["Axes"], None]]


def _charts(plan: Plan, study: Study, trials: Sequence[FrozenTrial]) -> list[_Chart]:
    metric = plan.settings.metric
    judged = [trial for trial in trials if score_of(trial) is not None]
    found: list[_Chart] = []
    if judged:
        note = f"{metric} of each trial, hollow if it was ended early; the line is the best so far"
        found.append(("Trials", note, False, lambda axes: _paint_history(axes, judged, plan)))
    if shares := importances(study.study):
        note = "share of what tells the best trials from the others (PED-ANOVA)"
        found.append(("What mattered", note, False, lambda axes: _paint_importances(axes, shares)))
    if judged:
        colours = "the best quarter in colour"
        found.append(("Curves", f"{metric}, {colours}", True, lambda axes: _paint_curves(axes, judged, plan)))
        note = f"one line a trial, {colours}"
        found.append(("Settings and scores", note, True, lambda axes: _paint_parallel(axes, judged, plan)))
    return found


def _paint_history(axes: Axes, judged: Sequence[FrozenTrial], plan: Plan) -> None:
    from trainer.report.drawing import MUTED, colour

    for trial in judged:
        whole = trial.state is TrialState.COMPLETE
        face = colour(0) if whole else "none"
        axes.plot(trial.number, float(score_of(trial) or 0.0), "o", ms=4, mfc=face, mec=colour(0) if whole else MUTED)
    whole_ones = [trial for trial in judged if trial.state is TrialState.COMPLETE]
    if whole_ones:
        best = np.maximum.accumulate if plan.maximize else np.minimum.accumulate
        scores = best([float(trial.value or 0.0) for trial in whole_ones])
        axes.step([trial.number for trial in whole_ones], scores, where="post", color=colour(1), lw=1.2)
    axes.set_xlabel("trial")
    _plain(axes)


def _paint_importances(axes: Axes, shares: dict[str, float]) -> None:
    from trainer.report.drawing import colour

    names = list(shares)[::-1]
    axes.barh(
        [name.rpartition(".")[2] for name in names], [shares[name] for name in names], color=colour(0), height=0.6
    )
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.tick_params(length=0)


def _paint_curves(axes: Axes, judged: Sequence[FrozenTrial], plan: Plan) -> None:
    from matplotlib.ticker import EngFormatter

    from trainer.report.drawing import MUTED, colour

    good = _good(judged, plan)
    for trial in sorted(judged, key=lambda trial: trial.number in good):
        place = good.get(trial.number)
        label = None if place is None else f"trial {trial.number}"
        for folder in sorted(trial_folder(plan.folder, trial.number).glob("*/metrics.jsonl")):
            metrics = read_metrics(folder.parent)
            if plan.settings.metric not in metrics.found:
                continue
            samples, _, values = metrics.points(plan.settings.metric)
            kept = np.unique(np.linspace(0, len(samples) - 1, _POINTS).round().astype(int))
            style: dict[str, Any] = (
                {"color": MUTED, "alpha": 0.35, "lw": 0.8} if place is None else {"color": colour(place), "lw": 1.5}
            )
            marker = "o" if len(kept) == 1 else ""
            axes.plot(samples[kept], values[kept], label=label, marker=marker, ms=3, **style)
            label = None
    axes.set_xlabel("samples")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, ncols=3)
    _plain(axes)


def _paint_parallel(axes: Axes, judged: Sequence[FrozenTrial], plan: Plan) -> None:
    from trainer.report.drawing import LINE, MUTED, colour

    scales = [_scale(parameter, judged) for parameter in plan.parameters]
    scores = [float(score_of(trial) or 0.0) for trial in judged]
    scales.append(_number_scale(min(scores), max(scores), False))
    good = _good(judged, plan)
    for trial, score in sorted(zip(judged, scores), key=lambda each: each[0].number in good):
        values = [*(trial.params.get(each.name) for each in plan.parameters), score]
        heights = [math.nan if value is None else scale[0](value) for scale, value in zip(scales, values)]
        place = good.get(trial.number)
        style: dict[str, Any] = (
            {"color": MUTED, "alpha": 0.3, "lw": 0.8} if place is None else {"color": colour(place), "lw": 1.6}
        )
        axes.plot(range(len(heights)), heights, **style)
    for place, (_, marks) in enumerate(scales):
        axes.axvline(place, color=LINE, lw=1)
        for height, text in marks:
            axes.annotate(text, (place, height), xytext=(3, 0), textcoords="offset points", fontsize=7.5, va="center")
    names = [each.name.rpartition(".")[2] for each in plan.parameters]
    axes.set_xticks(range(len(scales)), [*names, plan.settings.metric])
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(scales) - 0.55)
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.tick_params(length=0)


_Scale = tuple[Callable[[Any], float], list[tuple[float, str]]]
"""Where a value stands, 0 to 1, and what is written where."""


def _scale(parameter: Parameter, judged: Sequence[FrozenTrial]) -> _Scale:
    if not parameter.choices:
        return _number_scale(parameter.low, parameter.high, parameter.log)
    used = [each for each in parameter.choices if any(trial.params.get(parameter.name) == each for trial in judged)]
    heights = dict(zip(used, np.linspace(0.05, 0.95, len(used)).tolist() if len(used) > 1 else [0.5]))
    return heights.__getitem__, [(height, value) for value, height in heights.items()]


def _number_scale(low: float, high: float, log: bool) -> _Scale:
    if high <= low:
        return lambda _: 0.5, [(0.5, value_text(low))]
    bend: Callable[[float], float] = math.log if log else float
    begin, width = bend(low), bend(high) - bend(low)
    middle = math.sqrt(low * high) if log else (low + high) / 2
    marks = [(0.0, value_text(float(low))), (0.5, value_text(float(f"{middle:.2g}"))), (1.0, value_text(float(high)))]
    return lambda value: (bend(value) - begin) / width, marks


def _good(judged: Sequence[FrozenTrial], plan: Plan) -> dict[int, int]:
    """Returns the places of the best whole trials by their numbers, as many as there are colours at most."""
    from trainer.report.drawing import SERIES

    whole = [trial for trial in judged if trial.state is TrialState.COMPLETE]
    best = sorted(whole, key=lambda trial: trial.value or 0.0, reverse=plan.maximize)
    count = min(SERIES, math.ceil(len(best) * _BEST))
    return {trial.number: place for place, trial in enumerate(best[:count])}


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
