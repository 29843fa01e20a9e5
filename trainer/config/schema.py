"""What can be set: the schema of each command's configuration, one line and a unit for each field.

This file imports no torch, so that commands refuse bad input quickly and spawned processes start quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from algorithms.rewards.registry import RewardSettings
from algorithms.settings import AlgorithmSettings
from envs.config import EnvConfig, path_field
from envs.spec import UserError

# Made by call because `async`, the word that users write, cannot be a name in Python.
Mode = Enum("Mode", ["async", "inline"])
"""`async`: collector and learner in processes of their own. `inline`: in one, in a fixed order, reproducible."""
Device = Enum("Device", ["auto", "cpu", "cuda"])
"""Where updates run; `auto`: on a GPU if torch can compute on one. Unless it is `cpu`, agents act where that is
faster."""
Which = Enum("Which", ["best", "last"])
"""Which checkpoint of a run: the one with the best mean episode reward, or the newest."""
DEFAULT_BEHAVIOR = "default"
"""The entry of `behaviors` that serves all that are not named."""


@dataclass(frozen=True)
class BehaviorConfig:
    """What is set for one behavior. What is not given is inherited."""

    algorithm: Any = MISSING
    """`AlgorithmSettings`, from the top level's, or from the defaults of another algorithm if `name` says so."""
    reward: dict[str, Any] = field(default_factory=dict)
    """From the top level's, by the name of each signal."""


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
    """Seconds between two lines of progress and two points of each metric."""
    loggers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Where metrics go: `tensorboard`, or writers of one's own (`package.module:Class`); [] = only `train.log`."""
    picture_minutes: float = 5.0
    """Minutes between two pictures of play; 0 = none."""
    profile: bool = False
    """Whether a short stretch of learner and collector is traced, for Perfetto or TensorBoard: files in `profile/`."""
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
    """`outstep train`."""

    env: EnvConfig = MISSING
    """Config group: gym, basic, bubble_shooter, corridor, recall, unity, or the import path of a kind of one's own."""
    algorithm: Any = MISSING
    """Config group: ppo, sac, custom, and those of installed packages. `AlgorithmSettings`."""
    reward: dict[str, Any] = field(default_factory=dict)
    """Config group: extrinsic. By the name of each signal of `algorithms.rewards.registry`, its `SignalSettings`;
    `reward.<name>.path` adds one of your own."""
    behaviors: dict[str, Any] = field(default_factory=dict)
    """By behavior, and `default` for all others, a `BehaviorConfig`; empty = the above serves every behavior."""
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
    """`outstep evaluate`."""

    run: str = field(default=MISSING, metadata={"path": True})
    """Folder of the run."""
    env: EnvConfig | None = None
    """Config group: null = the run's own, of which single keys may be given: `env.instances=4`."""
    episodes: int = 5
    """Episodes to play of each behavior."""
    checkpoint: Which = Which["best"]
    """`best` or `last`."""
    deterministic: bool = True
    """Whether the likeliest action is taken, or one is drawn."""
    video: bool = False
    """Whether a video of each episode is written; of Gymnasium environments that can draw `rgb_array`."""
    seed: int = 1_000_000
    """Seeds the episodes; far from the seeds of training."""


@dataclass(frozen=True)
class ReportConfig:
    """`outstep report`."""

    run: str = field(default=MISSING, metadata={"path": True})
    """Folder of the run."""
    to: str | None = path_field()
    """The `.html` file to write, in place of what is there; null = `report.html` in the run's folder."""


@dataclass(frozen=True)
class ExportConfig:
    """`outstep export`."""

    run: str = field(default=MISSING, metadata={"path": True})
    """Folder of the run."""
    to: str = field(default=MISSING, metadata={"path": True})
    """The `.onnx` file to write, or a folder for a file of each behavior; what is there is replaced."""
    checkpoint: Which = Which["best"]
    """`best` or `last`."""


@dataclass(frozen=True)
class ServeConfig:
    """`outstep serve`."""

    model: str = field(default=MISSING, metadata={"path": True})
    """The `.onnx` file that `trainer.export` wrote."""
    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` lets every machine in that reaches this one."""
    port: int = 8080
    """The port to listen on; 0 = one that the system picks."""
    max_body_mib: float = 8.0
    """MiB of the largest request."""
    request_seconds: float = 10.0
    """Seconds that a request may take to arrive."""


@dataclass(frozen=True)
class LaunchConfig:
    """`outstep sagemaker train`."""

    image: str = MISSING
    """Address of our image in ECR."""
    role: str = MISSING
    """ARN of the role that the job has."""
    output: str = MISSING
    """Folder in S3 (`s3://…`) for the model, what the run tells of itself, and checkpoints."""
    name: str | None = None
    """The job's; null = `outstep-<time>`."""
    channels: dict[str, Any] = field(default_factory=dict)
    """By name, folders in S3 that the job is given: a game, demonstrations."""
    instance: str = "ml.c5.4xlarge"
    """Kind of machine."""
    volume_gib: int = 30
    """GiB of its disk."""
    hours: float = 24.0
    """The most that the job may train."""
    spot: bool = False
    """Whether it runs on spare machines, which are cheaper and may be taken away: it goes on on the next."""
    wait_hours: float = 24.0
    """The most that it may wait for spare machines."""
    checkpoints: str | None = None
    """Folder in S3 of a job's checkpoints, from which this one goes on; null = one of its own."""
    region: str | None = None
    """AWS region; null = that of the AWS configuration."""


@dataclass(frozen=True)
class DeployConfig:
    """`outstep sagemaker deploy`."""

    job: str = MISSING
    """The training job whose model it serves."""
    name: str | None = None
    """The endpoint's; null = the job's."""
    instance: str = "ml.t2.medium"
    """Kind of machine."""
    region: str | None = None
    """AWS region; null = that of the AWS configuration."""


@dataclass(frozen=True)
class RecordConfig:
    """`outstep record`."""

    env: EnvConfig | None = None
    """Config group; null = that of the run that plays. Gymnasium: one instance, which does not wait."""
    player: str | None = path_field()
    """`bot` (the game's own), `package.module:Name` (makes one), `human`, or the folder of a run."""
    to: str | None = path_field()
    """The `.demo` file to write."""
    episodes: int = 1
    """Episodes to record."""
    overwrite: bool = False
    """Whether a file that is there may be replaced."""
    deterministic: bool = False
    """Whether a run's policy takes the likeliest action, or draws one."""
    seed: int = 2_000_000
    """Seeds the episodes and the player; far from the seeds of training and evaluation."""
    keys: dict[str, Any] = field(default_factory=dict)
    """A person's keys: `keys.left=1 keys.space-right=[0,1]`, `keys.none=0` for no key. Empty = the game's own."""
    fps: float | None = None
    """Steps a second while a person plays; null = the game waits for each action."""


def settings_of(config: TrainConfig, behavior: str) -> tuple[AlgorithmSettings, RewardSettings]:
    """The settings of the algorithm and the reward that serve `behavior`.

    Raises:
        UserError: `behaviors` names others only.
    """
    if not config.behaviors:
        return config.algorithm, config.reward
    chosen = config.behaviors.get(behavior) or config.behaviors.get(DEFAULT_BEHAVIOR)
    if chosen is None:
        raise UserError(
            f"behavior {behavior!r} appeared, but behaviors names only {', '.join(map(repr, config.behaviors))}: "
            f"add behaviors.{behavior} or behaviors.{DEFAULT_BEHAVIOR}"
        )
    return chosen.algorithm, chosen.reward
