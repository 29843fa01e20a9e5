"""What is measured: an environment under a step-time law, and what a contender delivers in one round of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from benchmarks.supply import Span
from envs.gym.adapter import GymEnv


@dataclass(frozen=True)
class Law:
    """A step-time law: the environment whose steps follow it."""

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    instances: int = 16
    """Used unless another number is asked for."""
    time_scale: float = 1.0
    """Durations are divided by this unless another is asked for; 0 = steps return no duration."""


_STEPS = "benchmarks.laws:StepLaw-v0"
LAWS = {
    "snoopy": Law("envs.games:BubbleShooter-v0", time_scale=20.0),
    "lognormal": Law(_STEPS, {"law": "lognormal"}),
    "reset": Law(_STEPS, {"law": "reset"}),
    "game_engine": Law(_STEPS, {"law": "game_engine"}, instances=32),
    "none": Law("CartPole-v1", time_scale=0.0),
}


@dataclass(frozen=True)
class Task:
    """What every contender of one benchmark gets."""

    env: GymEnv
    instances: int
    seed: int

    @property
    def waits(self) -> bool:
        """Whether steps last as long as they say; else there is no supply to compare with."""
        return self.env.time_scale > 0


class Round(NamedTuple):
    """What a contender delivered in one round."""

    samples: int
    """True samples only."""
    seconds: float
    """Start-up left out, resets included."""
    spans: list[Span]
    """By instance; empty where steps do not wait."""


class Contender(Protocol):
    """A way to step the instances of a task."""

    def start(self) -> None:
        """Starts everything; not timed."""

    def round(self, seconds: float) -> Round:
        """Steps for `seconds`."""

    def layout(self) -> str:
        """Instances and processes, in words."""

    def close(self) -> None:
        """Ends every process that `start` made."""
