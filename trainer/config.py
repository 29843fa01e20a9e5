"""What can be set: the schema of each command's configuration, one line and a unit for each field.

This file imports no torch, so that commands refuse bad input quickly and spawned processes start quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from algorithms.settings import RewardSettings

# Made by call because `async`, the word that users write, cannot be a name in Python.
Stepping = Enum("Stepping", ["async", "lockstep"])
"""`async`: no instance waits for another. `lockstep`: all step together, for comparison."""
Mode = Enum("Mode", ["async", "inline"])
"""`async`: collector and learner in processes of their own. `inline`: in one, in a fixed order, reproducible."""
Device = Enum("Device", ["auto", "cpu", "cuda"])
"""Where updates run; `auto`: on a GPU if there is one."""
Which = Enum("Which", ["best", "last"])
"""Which checkpoint of a run: the one with the best mean episode reward, or the newest."""


def path_field() -> Any:
    """A field, null by default, that takes any string on the command line, without quotes for Hydra."""
    return field(default=None, metadata={"path": True})


@dataclass(frozen=True)
class EnvConfig:
    """The environment and how its instances are stepped."""

    id: str = MISSING
    """Gymnasium id, with its module if it needs importing: `CartPole-v1`, `envs.games:BubbleShooter-v0`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    wrappers: list[Any] = field(default_factory=list)
    """Gymnasium wrappers, innermost first: import paths (`package.module:Class`)."""
    instances: int = 16
    """Running environments. More: more samples a second, until cores run out."""
    workers: int | None = None
    """Processes that host the instances; null = chosen from how long a step takes."""
    time_scale: float = 20.0
    """How much faster than real time games run that tell their steps' durations; 0 = they never wait."""
    stepping: Stepping = Stepping["async"]
    """`async` or `lockstep`."""
    step_timeout: float = 60.0
    """Seconds after which an instance that does not answer is restarted."""
    restarts: int = 10
    """Restarts that each instance may have before the run ends."""


@dataclass(frozen=True)
class RunConfig:
    """Where a run leaves its files, and how it goes about."""

    dir: str | None = path_field()
    """The run's folder; null = `runs/<name>/<time>`."""
    name: str | None = None
    """What runs of this kind are called; null = the experiment, or `<env>_<algorithm>`."""
    mode: Mode = Mode["async"]
    """`async` or `inline`."""
    log_seconds: float = 10.0
    """Seconds between two lines of progress and two points in TensorBoard."""
    picture_minutes: float = 5.0
    """Minutes between two pictures of play in TensorBoard; 0 = none."""
    choices: dict[str, Any] = field(default_factory=dict)
    """The config groups that were chosen; filled in by the trainer."""


@dataclass(frozen=True)
class StopConfig:
    """What ends a run; whichever comes first. A run without any goes on until it is interrupted."""

    samples: int | None = None
    """Samples in all, earlier parts of a resumed run included."""
    seconds: float | None = None
    """Seconds of training in all, earlier parts of a resumed run included."""
    reward: float | None = None
    """Mean reward of the last 100 episodes."""


@dataclass(frozen=True)
class GoalConfig:
    """A figure to be reached, which ends the run: the mean over the episodes that ended in the last samples."""

    metric: str | None = None
    """A number that the environment reports in `info` at an episode's end, or `reward` or `length`; null = no goal."""
    at_most: float | None = None
    """Reached when the mean is at or below this."""
    at_least: float | None = None
    """Reached when the mean is at or above this."""
    window_samples: int = 5000
    """Samples that the mean looks back. Longer: harder to reach by luck."""
    also_window_samples: list[int] = field(default_factory=lambda: [1000])
    """Further windows, whose first moments are logged but end nothing."""


@dataclass(frozen=True)
class CheckpointConfig:
    """What is saved, and when."""

    every_seconds: float = 300.0
    """Seconds between two checkpoints; one more is written at the end."""
    keep: int = 3
    """Newest checkpoints that are kept, beside the best."""
    replay: bool = True
    """Whether checkpoints hold the buffer. Without: smaller, but a resumed run has to collect anew."""


@dataclass(frozen=True)
class TrainConfig:
    """`python -m trainer`."""

    env: EnvConfig = field(default_factory=EnvConfig)
    """Config group: gym, basic, bubble_shooter."""
    algorithm: Any = MISSING
    """Config group: ppo, sac. `PPOSettings` or `SACSettings`."""
    reward: RewardSettings = field(default_factory=RewardSettings)
    """Config group: extrinsic."""
    run: RunConfig = field(default_factory=RunConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    goal: GoalConfig = field(default_factory=GoalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    seed: int = 0
    """Seeds networks, actions and episodes."""
    device: Device = Device["auto"]
    """`auto`, `cpu` or `cuda`."""
    resume: str | None = path_field()
    """Folder of a run that goes on where it stopped, in that folder."""
    init: str | None = path_field()
    """Folder of a run whose weights, and nothing else, this run starts with."""


@dataclass(frozen=True)
class EvaluateConfig:
    """`python -m trainer.evaluate`."""

    run: str = field(default=MISSING, metadata={"path": True})
    """Folder of the run."""
    episodes: int = 5
    """Episodes to play."""
    checkpoint: Which = Which["best"]
    """`best` or `last`."""
    deterministic: bool = True
    """Whether the likeliest action is taken, or one is drawn."""
    seed: int = 1_000_000
    """Seeds the episodes; far from the seeds of training."""
