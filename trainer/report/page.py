"""The page of a run: its content. `page.html` says how it looks."""

from __future__ import annotations

import itertools
import math
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from envs.config import Stepping
from trainer.config.aliases import current_figure
from trainer.config.saved import FILE, as_written, read_config
from trainer.config.schema import Cluster, TrainConfig
from trainer.data_files import read_data, read_json
from trainer.evaluate.results import Evaluation, load_evaluations
from trainer.report.curves import Chart, History, read_history, sections
from trainer.report.drawing import SERIES, draw
from trainer.report.settings import chosen_settings, differences
from trainer.runtime.run_lock import is_occupied
from trainer.telemetry.bottleneck import GOOD_UTILIZATION, bottleneck
from trainer.telemetry.metrics import EPISODES
from trainer.telemetry.names import named
from trainer.telemetry.statistics import Statistics
from trainer.telemetry.status import PROCESSES, clock

EMBEDDED_BYTES = 24 * 2**20
"""How large all moving pictures on a page may be; further ones are only named."""


def page_of(run: Path, trust: bool = False) -> str:
    """Returns the page of the run in a folder, as HTML; UserError if it is no run's.

    The folder may be anybody's: nothing that it names is run, and only pictures that lie in it are embedded. `trust` is
    as in `read_config`.
    """
    config, history, evaluations = read_config(run, trust), read_history(run), load_evaluations(run)
    running = is_occupied(run)
    summary = None if running else _summary(run, history)
    names = (f"chart-{number}" for number in itertools.count())
    page: str = (
        templates(lambda chart: draw(chart, next(names)))
        .get_template("page.html")
        .render(
            run=run,
            title=config.run.name or run.resolve().name,
            running=running,
            stopped_by=summary and summary["stopped_by"],
            facts=_facts(config, history, summary),
            cards=_cards(config, history, summary),
            diagnosis=(summary or {}).get("diagnosis", {}),
            films=_films(run, evaluations),
            evaluations=[_table(evaluation, config) for _, evaluation in evaluations],
            sections=sections(history, config),
            behaviors=_behaviors(summary),
            hosts=_hosts(config, summary),
            settings=chosen_settings(config),
            config=read_data(run / FILE).decode("utf-8-sig", "replace"),
            series=SERIES,
            made_at=datetime.now().strftime("%Y-%m-%d %H:%M"),
        )
    )
    return page


def templates(drawn: Callable[[Chart], str]) -> Environment:
    """Returns the templates of pages, in which `chart | draw` becomes what `drawn` returns."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"number": number, "percent": percent, "draw": drawn}
    return environment


def number(value: float | None) -> str:
    """Returns a figure for readers: whole numbers with commas, others with four significant digits."""
    if value is None:
        return "-"
    if math.isfinite(value) and (float(value).is_integer() or abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def spread(values: Sequence[float]) -> str:
    """Returns the mean of values and, of several, their standard deviation."""
    if not values:
        return "-"
    mean = number(float(f"{np.mean(values):.4g}"))
    return mean if len(values) == 1 else f"{mean} ± {number(float(f'{np.std(values, ddof=1):.2g}'))}"


def percent(share: float) -> str:
    """Returns a share for readers, with two significant digits if it is small."""
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.2g}%"


def _summary(run: Path, history: History) -> dict[str, Any] | None:
    """Returns `summary.json`; None if the run has gone on since it was written."""
    try:
        read = read_json(run / "summary.json")
        summary = {current_figure(name): value for name, value in read.items()}
        _check_summary(summary)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    return None if summary["samples"] < history.samples else summary


def _check_summary(summary: Mapping[str, Any]) -> None:
    """Raises an error of data if a summary does not hold what the page shows of it."""
    words = [summary["stopped_by"], summary.get("layout", ""), *summary.get("diagnosis", {}).values()]
    if not all(isinstance(word, str) for word in words):
        raise TypeError("a figure stands where words should")
    figures = [summary[name] for name in ("seconds", "samples_per_second", "env_utilization", "episode_reward_mean")]
    figures += [summary.get(name) for name in ("episodes", "goal_samples", "goal_seconds")]
    if instances := summary.get("instances"):
        games = np.array([instances[name] for name in ("samples", "spans", "busy")], float)
        if games.ndim != 2 or not np.isfinite(games).all():
            raise ValueError("figures of instances that are none")
    by_behavior = [summary.get("updates", {}), summary.get("updates_achieved", {}), summary.get("dropped", {})]
    for value in [summary["samples"], *(each for counts in by_behavior for each in counts.values()), *figures]:
        if value is not None:
            float(f"{float(value):,.0f}".replace(",", ""))


def _facts(config: TrainConfig, history: History, summary: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Returns what was trained, on what, and when."""
    env = config.env
    algorithms = {config.algorithm.name, *(each.algorithm.name for each in config.behaviors.values())}
    instances = (summary or {}).get("layout") or f"{env.instances} instances"
    lockstep = ", in lock-step" if env.stepping is Stepping["lockstep"] and "lock-step" not in instances else ""
    facts = [
        ("environment", env.label),
        ("algorithm", ", ".join(sorted(name.upper() for name in algorithms))),
        ("games", instances + lockstep),
        ("seed", str(config.seed)),
    ]
    if history.began is not None:
        with suppress(OSError, OverflowError, ValueError):  # of what somebody has written, no year of ours
            facts.append(("began", datetime.fromtimestamp(history.began).strftime("%Y-%m-%d %H:%M")))
    return facts


def _cards(config: TrainConfig, history: History, summary: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """Returns names, values and notes: the figures of `summary.json`, or without one the latest of the curves."""
    latest = {
        "samples": history.samples,
        "episode_reward_mean": history.last("episode/reward"),
        **{name: history.last(f"run/{name}") for name in ("seconds", "samples_per_second", "env_utilization")},
    }
    values = latest if summary is None else summary
    utilization = values["env_utilization"]
    cards = [
        ("reward", number(values["episode_reward_mean"]), f"mean of the last {EPISODES} episodes"),
        _goal_card(config, history, summary) if config.goal.metric is not None else None,
        ("samples", number(values["samples"]), ""),
        ("time", clock(values["seconds"]), "") if values["seconds"] is not None else None,
        ("samples a second", number(values["samples_per_second"]), ""),
        (
            "env utilization",
            "-" if utilization is None else percent(utilization),
            _utilization(config, history, utilization),
        ),
        ("episodes", number(values["episodes"]), "") if "episodes" in values else None,
    ]
    return [card for card in cards if card is not None]


def _utilization(config: TrainConfig, history: History, utilization: float | None) -> str:
    """Returns what the env utilization is of and, if it is low, what games waited for and what to set then."""
    note = "of what the games could deliver"
    if utilization is None or utilization >= GOOD_UTILIZATION:
        return note
    names = {word: f"time/{word.replace(' ', '_')}" for words in PROCESSES.values() for word in words}
    shares = {
        word: float(np.mean(history.curves[name].values)) for word, name in names.items() if name in history.curves
    }
    return f"{note}. {bottleneck(config, shares, utilization)}"


def _goal_card(config: TrainConfig, history: History, summary: Mapping[str, Any] | None) -> tuple[str, str, str]:
    goal = config.goal
    wanted = f"at most {goal.at_most:g}" if goal.at_least is None else f"at least {goal.at_least:g}"
    note = f"goal: {wanted} over {goal.window_samples:,} samples"
    if summary is not None and summary["goal_samples"] is not None:
        note += f"; reached after {summary['goal_samples']:,} samples and {clock(summary['goal_seconds'])}"
    return str(goal.metric), number(history.last(f"goal/{goal.metric}")), note


def _behaviors(summary: Mapping[str, Any] | None) -> list[tuple[str, int, float | None, int]]:
    """By behavior: updates, updates for each sample, samples that were too old to learn from."""
    known = summary or {}
    return [
        (name, updates, known["updates_achieved"].get(name), known["dropped"].get(name, 0))
        for name, updates in known.get("updates", {}).items()
    ]


def _hosts(config: TrainConfig, summary: Mapping[str, Any] | None) -> list[tuple[int, float, float | None]]:
    """By collector of a cluster: samples, and what share that is of those that its games could have delivered."""
    instances = (summary or {}).get("instances", {})
    if config.cluster.name is Cluster.none or not instances:
        return []
    rows = []
    for collector in range(len(instances["samples"]) // config.env.instances):
        games = slice(collector * config.env.instances, (collector + 1) * config.env.instances)
        samples, spans, busy = (np.array(instances[name][games], float) for name in ("samples", "spans", "busy"))
        made, could = Statistics(samples, spans, busy, 0.0, {}, "").supply()
        rows.append((collector, float(samples.sum()), made / could if could else None))
    return rows


def _table(evaluation: Evaluation, config: TrainConfig) -> dict[str, Any]:
    best = "best " if evaluation.checkpoint.startswith("best") else ""
    chosen = "the likeliest actions" if evaluation.deterministic else "actions drawn from the policy"
    wins = [
        f"{each.won} of {each.episodes} won ({each.low:.0%} to {each.high:.0%})" for each in evaluation.wins.values()
    ]
    count = len(evaluation.episodes)
    notes = [f"{count} episode{'s' * (count != 1)}", *wins, chosen, f"seed {evaluation.seed:,}"]
    notes += [f"{key}={value}" for key, value, _ in differences(evaluation.env, as_written(config)["env"])]
    several = len(evaluation.figures) > 1
    rows = [
        (f"{behavior}: {named(f'episode/{name}').title}" if several else named(f"episode/{name}").title, figure)
        for behavior, figures in evaluation.figures.items()
        for name, figure in figures.items()
    ]
    title = f"The {best}checkpoint after {evaluation.samples:,} samples"
    return {"title": title, "note": ", ".join(notes), "rows": rows}


def _films(run: Path, evaluations: Sequence[tuple[Path, Evaluation]]) -> list[dict[str, str]]:
    """Returns the newest evaluation's videos, and the first and the last picture of play from training.

    Each has its `caption`, its `file` in the run's folder, its MIME type `kind`, and as `source` a data URL, empty if
    there is no room for it.
    """
    films, room = [], EMBEDDED_BYTES
    for caption, file in _moving_pictures(run, evaluations):
        try:
            if run.resolve() not in file.resolve().parents:  # a link or a name that leads to some other file
                continue
            size = file.stat().st_size
            kind = "video/mp4" if file.suffix == ".mp4" else "image/gif"
            source = f"data:{kind};base64,{b64encode(read_data(file, room)).decode()}" if size <= room else ""
        except (OSError, ValueError, RuntimeError):  # RuntimeError: of a link to itself
            continue
        room -= size if source else 0
        films.append({"caption": caption, "file": str(file.relative_to(run)), "kind": kind, "source": source})
    return films


def _moving_pictures(run: Path, evaluations: Sequence[tuple[Path, Evaluation]]) -> Iterator[tuple[str, Path]]:
    filmed = next((each for each in evaluations if any(episode.video for episode in each[1].episodes)), None)
    if filmed:
        folder, evaluation = filmed
        for place, episode in enumerate(evaluation.episodes, start=1):
            if episode.video:
                figures = {"reward": episode.reward, "length": episode.length, **episode.metrics}
                caption = ", ".join(f"{name} {number(value)}" for name, value in figures.items())
                yield f"Evaluation, episode {place}: {caption}", folder / episode.video
    numbered = [file for file in run.glob("pictures/*.gif") if file.stem.isdecimal()]
    pictures = sorted(numbered, key=lambda file: int(file.stem))
    for picture in [*pictures[:1], *pictures[1:][-1:]]:
        yield f"In training, after {int(picture.stem):,} samples", picture
