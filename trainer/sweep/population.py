"""Population based training (Jaderberg 2017, arXiv 1711.09846), with a trial for each part of a member's training.

A member that has ended a part goes on at once, compared with what the others have reached last: the worst quarter go on
with the weights of one of the best, and settings near its own; all others simply go on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from trainer.sweep.plan import Plan

_QUANTILE = 0.25


@dataclass(frozen=True)
class Part:
    """What a trial is of a population."""

    member: int
    generation: int
    """0 for a member's first part."""
    stop: int
    """Samples at which its run stops: those of the parts before count if it goes on with its own run."""
    parent: int | None = None
    """The trial that it goes on from; None for a first one."""
    takes_over: bool = False
    """Whether that was another member's: then its weights begin a new run."""
    values: dict[str, float | str] = field(default_factory=dict)
    """The settings, by name; empty for a first part, which the sampler chooses."""

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Part:
        """Returns what `to_dict` made a dict of."""
        return cls(**saved)


def next_part(trials: Sequence[tuple[FrozenTrial, Part | None]], plan: Plan) -> Part | None:
    """Returns what the next trial is to be; None while it has to wait for others.

    Args:
        trials: all so far, in the order of their numbers, with what they are.
        plan: how many members and parts there are.
    """
    length = -(-(plan.config.stop.samples or 0) // plan.settings.generations)
    latest: dict[int, tuple[FrozenTrial, Part]] = {part.member: (trial, part) for trial, part in trials if part}
    if len(latest) < plan.settings.population:
        return Part(len(latest), 0, length)
    waiting = [
        (trial, part)
        for trial, part in latest.values()
        if trial.state.is_finished() and part.generation + 1 < plan.settings.generations
    ]
    if not waiting:
        return None
    trial, part = min(waiting, key=lambda each: (each[1].generation, each[0].number))
    ranking = _ranking(trials, plan.maximize)
    count = max(1, int(len(ranking) * _QUANTILE))
    draw = random.Random(f"{plan.config.seed} {len(trials)}")
    best, worst = ranking[:count], ranking[-count:] if len(ranking) > count else []
    failed = trial.value is None
    if best and (failed or any(each is trial for each in worst)):
        source = draw.choice(best)
        values = {each.name: each.perturbed(_value(source, each.name), draw) for each in plan.parameters}
        return Part(part.member, part.generation + 1, length, source.number, True, values)
    if failed:  # and nobody has got anywhere yet: it begins again
        return Part(part.member, part.generation + 1, length)
    values = {each.name: _value(trial, each.name) for each in plan.parameters}
    return Part(part.member, part.generation + 1, part.stop + length, trial.number, False, values)


def _ranking(trials: Sequence[tuple[FrozenTrial, Part | None]], maximize: bool) -> list[FrozenTrial]:
    """Returns what each member has reached last, the best first."""
    reached = {part.member: trial for trial, part in trials if part and trial.value is not None}
    return sorted(reached.values(), key=lambda trial: trial.value or 0.0, reverse=maximize)


def _value(trial: FrozenTrial, name: str) -> float | str:
    value: float | str = trial.params[name]
    return value
