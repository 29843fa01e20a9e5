"""What a game shows while it is played by chance, and how that is told.

Shapes: N agents that ask, C continuous actions, B discrete branches, A mask entries.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import psutil

from envs.api import Manager
from envs.spec import Array, BehaviorSpec, Decisions, ObservationSpec

_TURN_SECONDS = 0.5


@dataclass
class Survey:
    """What was seen of one instance."""

    specs: dict[str, BehaviorSpec] = field(default_factory=dict)
    samples: Counter[str] = field(default_factory=Counter)
    """By behavior, completed steps of agents."""
    episodes: Counter[str] = field(default_factory=Counter)
    """By behavior, those that ended."""
    forbidden: set[str] = field(default_factory=set)
    """Behaviors whose masks have forbidden anything."""
    statistics: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    """What has happened to the instance, and what is left out of what it sends."""
    seconds: float = 0.0
    """Of play."""
    turns: int = 0
    """Answers of the instance, of all its agents together."""
    busy_seconds: float = 0.0
    """Of play, those in which the instance stepped."""
    own_cpu: float = 0.0
    games_cpu: float = 0.0
    """CPU seconds of this process, and of the game's processes, where they can be seen."""


def play(manager: Manager, survey: Survey, seed: int, seconds: float, until: float) -> None:
    """Plays by chance for some seconds from the first step on; none is waited for beyond `until` (monotonic).

    Raises UserError if the game cannot be trained on, or fails too often.
    """
    rng = np.random.default_rng(seed)
    began: tuple[float, float, float, float] | None = None
    try:
        while time.monotonic() < (until if began is None else began[0] + seconds):
            ready = manager.recv(_TURN_SECONDS)
            for behavior, seen in ready.items():
                spec = survey.specs[behavior] = manager.specs[behavior]
                if began is not None:
                    survey.samples[behavior] += len(seen.results.agent)
                    survey.episodes[behavior] += int(np.count_nonzero(seen.results.terminated | seen.results.truncated))
                if not seen.decisions.mask.all():
                    survey.forbidden.add(behavior)
                if len(seen.decisions.agent):
                    manager.send(behavior, seen.decisions.agent, *by_chance(spec, seen.decisions, rng))
            if ready:
                survey.turns += began is not None
                began = began or (time.monotonic(), float(manager.busy_seconds.sum()), *_cpu_seconds())
            survey.statistics.update(each[0] for each in manager.take_statistics())
            survey.notes += [event.text for event in manager.events]
            manager.events.clear()
    finally:
        survey.notes += [event.text for event in manager.events]
        if began is not None:
            own, games = _cpu_seconds()
            survey.seconds = time.monotonic() - began[0]
            survey.busy_seconds = float(manager.busy_seconds.sum()) - began[1]
            survey.own_cpu, survey.games_cpu = own - began[2], games - began[3]


def by_chance(spec: BehaviorSpec, decisions: Decisions, rng: np.random.Generator) -> tuple[Array, Array]:
    """Returns random actions, continuous (N, C) and discrete (N, B), of those that the mask allows."""
    count = len(decisions.agent)
    continuous = rng.uniform(-1, 1, (count, spec.continuous_size)).astype(np.float32)
    chances = rng.random((count, sum(spec.branches)))
    if spec.masked:
        chances[~decisions.mask] -= 1
    branches = np.split(chances, np.cumsum(spec.branches)[:-1], axis=1) if spec.branches else []
    choices = [branch.argmax(1) for branch in branches]
    return continuous, np.array(choices, np.int32).reshape(len(branches), count).T.copy()


def describe(survey: Survey, about: Callable[[], list[str]]) -> list[str]:
    """Returns the lines that tell of a survey; `about` returns those of the environment's kind."""
    lines = [""]
    for name, spec in survey.specs.items():
        seen = ", ".join(map(_observation, spec.observations)) or "nothing"
        lines += [
            f"behavior {name!r}",
            f"  observes  {seen}",
            f"  does      {_actions(spec, name in survey.forbidden)}",
        ]
        lines.append(f"  has made  {survey.samples[name]:,} steps, {survey.episodes[name]:,} episodes")
    if survey.statistics:
        lines.append(f"statistics: {', '.join(sorted(survey.statistics))}")
    lines += [*about(), *(f"note: {note}" for note in survey.notes)]
    return [*lines, *_speed(survey)]


def _observation(each: ObservationSpec) -> str:
    if each.entities:
        return f"{each.name} up to {each.shape[0]} entities of {each.shape[1]} numbers"
    return f"{each.name} {'x'.join(map(str, each.shape))} {each.dtype}{' (goal signal)' if each.goal else ''}"


def _actions(spec: BehaviorSpec, forbids: bool) -> str:
    parts = [f"{spec.continuous_size} continuous actions"] if spec.continuous_size else []
    if spec.branches:
        masks = ", with masks" + ("" if forbids else " that have forbidden nothing so far") if spec.masked else ""
        parts.append(f"choices of {' x '.join(map(str, spec.branches))}{masks}")
    return " and ".join(parts)


def _speed(survey: Survey) -> list[str]:
    if not survey.turns:
        return []
    samples = sum(survey.samples.values())
    rates = f"{samples / survey.seconds:,.0f} samples/s, {survey.turns / survey.seconds:,.0f} steps/s"
    lines = [
        "",
        f"one instance: {rates}, of which one takes the game {1000 * survey.busy_seconds / survey.turns:.3g} ms",
    ]
    share = (survey.own_cpu + survey.games_cpu) / survey.seconds
    if share > 0:
        fed = f"about {1 / share:.0f}" if share < 1 else "less than one"
        game, own = (100 * cpu / survey.seconds for cpu in (survey.games_cpu, survey.own_cpu))
        lines.append(
            f"one core feeds {fed} of them: the game takes {game:.0f} % of a core, and Outstep {own:.0f} % "
            "without a policy and without learning"
        )
    return lines


def _cpu_seconds() -> tuple[float, float]:
    """Returns those of this process, and of all that it has started."""
    own = psutil.Process()
    games = 0.0
    for child in own.children(recursive=True):
        with suppress(psutil.Error):
            games += sum(child.cpu_times()[:2])
    return sum(own.cpu_times()[:2]), games
