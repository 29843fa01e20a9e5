"""How a sweep goes: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.text import Text

from trainer.sweep.plan import POINTS, Plan
from trainer.sweep.study import best_of
from trainer.sweep.trial import RunningTrial
from trainer.telemetry.console import live_display
from trainer.telemetry.tables import table_of

STATES = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
    TrialState.COMPLETE: "ended",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_SHOWN = 20
"""Trials of the live table."""
_GOING_ON = "Ctrl+C saves and ends all; the same command goes on."
_LEFT = ("trial", "state", "settings")


class View:
    """What a sweep shows on standard error. A context manager."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan, self._console = plan, console
        self._live = live_display(console) if console.is_terminal else None

    def __enter__(self) -> View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begins(self, trial: RunningTrial) -> None:
        """Says that a trial is begun, or gone on with."""
        self._say(f"trial {trial.claimed.number}: {settings_text(trial.claimed.values)}")

    def ends(self, trial: RunningTrial, state: TrialState, score: float | None, error: str) -> None:
        """Says how a trial has ended."""
        reached = score if score is not None else trial.reading.latest
        figure = "" if reached is None else f", {self._plan.settings.metric} {reached:.4g}"
        self._say(f"trial {trial.claimed.number} {STATES[state]}{figure}{f': {error}' if error else ''}")

    def show(self, trials: Sequence[FrozenTrial], running: Sequence[RunningTrial], ending: bool = False) -> None:
        """Refreshes the live table."""
        if not self._live:
            return
        shares = {each.claimed.number: each.reading.share for each in running}
        headings, rows = table(trials, self._plan, shares)
        room = max(3, min(_SHOWN, self._console.height - 6))
        words = "Runs are being saved. Ctrl+C again kills them." if ending else _GOING_ON
        lines: list[RenderableType] = [
            Text(heading(trials, self._plan), style="bold cyan", no_wrap=True, overflow="ellipsis"),
            Text(),
            table_of(headings, rows[:room], _LEFT),
            Text(words, style="dim"),
            Text(),
        ]
        self._live.update(Group(*lines), refresh=True)

    def _say(self, line: str) -> None:
        if not self._live:
            self._console.print(Text(line), soft_wrap=True)


def heading(trials: Sequence[FrozenTrial], plan: Plan) -> str:
    """Returns in one line how far a study has come."""
    counts = {word: sum(trial.state is state for trial in trials) for state, word in STATES.items()}
    parts = [f"{count} {word}" for word, count in counts.items() if count]
    best = best_of(trials, plan.maximize)
    reached = "" if best is None else f"; best {best.value:.4g} (trial {best.number})"
    return f"{plan.folder}: {plan.trials} trials: {', '.join(parts) or 'none yet'}{reached}"


def table(
    trials: Sequence[FrozenTrial], plan: Plan, shares: dict[int, float] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Returns headings and rows of all trials: those under way first, then the best first.

    `shares` are how far runs of this process have come.
    """
    headings = ["trial", "state", "done", plan.settings.metric, "settings"]
    rows = [
        [
            str(trial.number),
            STATES[trial.state],
            f"{_done(trial, plan, shares or {}):.0%}",
            "-" if (score := score_of(trial)) is None else f"{score:.4g}",
            settings_text(trial.params),
        ]
        for trial in ordered(trials, plan.maximize)
    ]
    return headings, rows


def ordered(trials: Sequence[FrozenTrial], maximize: bool) -> list[FrozenTrial]:
    """Returns trials as tables have them: those under way, those that were made whole, and the others, best first."""

    def place(trial: FrozenTrial) -> tuple[int, float]:
        score = score_of(trial)
        worse = float("inf") if score is None else -score if maximize else score
        return (_ORDER.index(trial.state), worse)

    return sorted(trials, key=place)


def score_of(trial: FrozenTrial) -> float | None:
    """Returns what a trial has reached, or a trial under way has last."""
    if trial.value is not None:
        return trial.value
    last = trial.last_step
    return None if last is None else trial.intermediate_values[last]


def settings_text(values: dict[str, float | str]) -> str:
    """Returns the settings of a trial in one line, by the last parts of their keys."""
    return " ".join(f"{key.rpartition('.')[2]}={value_text(value)}" for key, value in values.items())


def value_text(value: float | str) -> str:
    """Returns a value for readers."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _done(trial: FrozenTrial, plan: Plan, shares: dict[int, float]) -> float:
    if trial.state is TrialState.COMPLETE:
        return 1.0
    points, runs = trial.last_step or 0, plan.settings.seeds
    own = (points // POINTS + shares[trial.number]) if trial.number in shares else points / POINTS
    return min(1.0, max(points / POINTS, own) / runs)


_ORDER = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING)
