"""The schema of each command's configuration: every field with its range, its meaning and its unit.

This file imports no torch, so that commands refuse bad input quickly and spawned processes start quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from algorithms.rewards.registry import RewardSettings
from algorithms.settings import AlgorithmSettings
from envs.config import EnvConfig, path_field, setting
from envs.spec import UserError
from trainer.selfplay.settings import SelfPlayConfig
from trainer.sweep.settings import SweepBestConfig, SweepConfig

LARGEST_SEED = 2**63 - 1
"""The largest seed that torch takes."""
DEFAULT_BEHAVIOR = "default"
"""The entry of `behaviors` that serves all behaviors without an entry of their own."""
_FILLED_IN = {"filled_in": True}
"""Marks fields that the trainer fills in: they are saved with the others, and are nobody's to set."""

# Made by a call, because `async`, the word that users write, is a keyword of Python.
Mode = Enum("Mode", ["async", "inline"])
"""`async`: collector and learner are processes of their own. `inline`: they share one process and take turns in a fixed
order, so that a run can be reproduced exactly."""


class Device(Enum):
    """Where updates run, and where agents act if that is faster."""

    auto = "auto"
    """The GPU if torch can compute on one, else the CPU."""
    cpu = "cpu"
    cuda = "cuda"


class Which(Enum):
    """A checkpoint of a run."""

    best = "best"
    """The one with the best mean episode reward, in training or, with `evaluate.every_samples`, in evaluations."""
    last = "last"
    """The newest."""


class Tags(Enum):
    """The names of metrics that metric writers get."""

    outstep = "outstep"
    mlagents = "mlagents"
    """Those of ML-Agents' trainer, where it has the metric."""


@dataclass(frozen=True)
class RunConfig:
    """Where a run writes its files, and how it runs."""

    dir: str | None = path_field()
    """The run's folder; null = `runs/<name>/<time>`, behind it what was overridden."""
    name: str | None = None
    """Name of runs of this kind; null = the experiment's, or `<env>_<algorithm>`."""
    mode: Mode = Mode["async"]
    """`async`: games and learning go on at once, in processes of their own. `inline`: they take turns in one process,
    so that a run can be reproduced exactly."""
    log_seconds: float = setting(10.0, above=0)
    """Seconds between two lines of progress, and between two points of each metric. Usual: 5 to 60."""
    log_samples: int | None = setting(None, above=0)
    """Samples between them instead; null = by time. A run in mode inline then logs at the same samples every time."""
    loggers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Where metrics go besides `metrics.jsonl`: `tensorboard`, `csv`, `wandb`, `mlflow`, or your own writers
    (`package.module:Class`); [] = nowhere."""
    tags: Tags = Tags.outstep
    """Names of metrics in what `loggers` write: `outstep`, or `mlagents` for those of ML-Agents' trainer."""
    picture_minutes: float = setting(5.0, at_least=0)
    """Minutes between two pictures of play; 0 = none. Usual: 1 to 30."""
    profile: bool = False
    """Whether a few seconds of learner and collector are traced, for Perfetto or TensorBoard: files in `profile/`."""
    choices: dict[str, Any] = field(default_factory=dict, metadata=_FILLED_IN)
    """The chosen config groups."""
    overrides: list[str] = field(default_factory=list, metadata=_FILLED_IN)
    """What was given besides, as `key=value`."""


@dataclass(frozen=True)
class StopConfig:
    """What ends a run, whichever comes first. Without any of them a run goes on until it is interrupted."""

    samples: int | None = setting(None, above=0)
    """Samples in all; those from before a resume count; null = no limit. Usual: 5e4 to 5e7."""
    seconds: float | None = setting(None, above=0)
    """Seconds of training in all; those from before a resume count; null = no limit."""
    reward: float | None = None
    """Mean reward of the last 100 episodes that is enough; null = none is."""
    rating: float | None = None
    """Elo rating that is enough, of each behavior with self-play; null = none is."""


@dataclass(frozen=True)
class GoalConfig:
    """A figure that ends the run once it is reached: a mean over the episodes that ended within the last samples."""

    metric: str | None = None
    """`reward`, `length`, or a number in the `info` of an episode's last step; null = no goal."""
    at_most: float | None = None
    """The goal is reached when the mean is at or below this; null = no such bound."""
    at_least: float | None = None
    """The goal is reached when the mean is at or above this; null = no such bound."""
    window_samples: int = setting(5000, above=0)
    """Samples over which the mean is taken. More: harder to reach by luck. Usual: 1000 to 50000."""
    also_window_samples: list[int] = setting(default_factory=lambda: [1000], above=0)
    """Samples of further windows: when the goal is first reached over them is logged, but ends nothing."""


@dataclass(frozen=True)
class BehaviorStopConfig:
    """What ends the learning of one behavior, whichever is first. Its agents act on; a run ends once all are done."""

    samples: int | None = setting(None, above=0)
    """Samples of this behavior, those from before a resume included; null = no such end. More: learns longer."""
    reward: float | None = None
    """Mean reward of its last 100 episodes; null = no such end."""
    rating: float | None = None
    """Its Elo rating in self-play; null = no such end."""


@dataclass(frozen=True)
class BehaviorConfig:
    """The settings of one behavior. Those that are not given are inherited."""

    algorithm: Any = MISSING
    """Keys of `algorithm`. Those that are not given are inherited from the top level; if `name` chooses another
    algorithm, they are its defaults."""
    reward: dict[str, Any] = field(default_factory=dict)
    """Keys of `reward`. Those that are not given are inherited from the top level."""
    stop: BehaviorStopConfig = field(default_factory=BehaviorStopConfig)
    """What ends its learning."""
    goal: GoalConfig = field(default_factory=GoalConfig)
    """A figure of its episodes that ends its learning, too."""
    self_play: SelfPlayConfig = field(default_factory=SelfPlayConfig)
    """Keys of `self_play`. Those that are not given are inherited from the top level."""
    init: str | None = path_field()
    """What its weights start from; null = the run's `init`."""


@dataclass(frozen=True)
class CheckpointConfig:
    """What is saved, and when."""

    every_seconds: float = setting(300.0, above=0)
    """Seconds between two checkpoints; one more is written at the end. Usual: 60 to 3600."""
    every_samples: int | None = setting(None, above=0)
    """Samples between two checkpoints instead; null = by time. Their names end in the samples that they hold."""
    keep: int = setting(3, above=0)
    """Number of newest checkpoints that are kept, beside the best. Usual: 1 to 10."""
    replay: bool = True
    """Whether checkpoints hold the buffer. Without: smaller, but a resumed run has to fill its buffer again."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation while training, by a process of its own that holds up nobody. `best` is then by its mean reward."""

    every_samples: int | None = setting(None, above=0)
    """Samples between two evaluations; null = none. One that is due while another is under way is left out."""
    episodes: int = setting(20, at_least=1)
    """Episodes of each behavior, the same ones every time, with the likeliest actions. More: less chance in what they
    score. Usual: 10 to 100."""
    instances: int = setting(1, at_least=1)
    """Instances that play them, besides those that are trained on."""


class Cluster(Enum):
    """What starts collectors on other hosts."""

    none = "none"
    """Nothing: games run on this machine."""
    ray = "ray"
    """A Ray cluster: that of `RAY_ADDRESS`, else the one that runs here, else one of this machine alone."""


class Transport(Enum):
    """How rows of other hosts travel."""

    auto = "auto"
    """By TCP, or by calls of Ray's where a host cannot connect to the learner's."""
    tcp = "tcp"
    ray = "ray"


@dataclass(frozen=True)
class ClusterConfig:
    """More than one machine (docs/cluster.md): `cluster=ray`."""

    name: Cluster = Cluster.none
    """What starts collectors on other hosts: `none`, or `ray`; written `cluster=ray`."""
    collectors: int = setting(1, at_least=1, at_most=1024)
    """Collectors, each with `env.instances` games of its own. More: more samples a second. Usual: 2 to 64."""
    min_collectors: int = setting(1, at_least=1)
    """So many begin together, and others join as there is room for them; and if so many live, others may fail for
    good."""
    cpus: float = setting(1.0, at_least=0)
    """Cores that a collector asks Ray for. As many as its games need: more collectors than cores would share them."""
    resources: dict[str, Any] = field(default_factory=dict)
    """Further resources that it asks for, by Ray's names: `{GPU: 0.5}`, or a label of yours that hosts have."""
    silent_seconds: float = setting(30.0, at_least=2.0)
    """A collector that has not been heard of for so long is given up, and another takes its place. Usual: 10 to 60."""
    publish_per_second: float = setting(10.0, above=0, at_most=1000)
    """Weights are sent to hosts at most so often, always the newest. Higher: fresher policies, more traffic."""
    transport: Transport = Transport.auto
    """How rows travel: `tcp`; `ray`, by its calls, which cost four times as much; `auto` takes what works."""
    insecure: bool = False
    """Whether a Ray cluster on a network may be used that asks for no token: whoever reaches it runs code on it."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `outstep train`."""

    env: EnvConfig = MISSING
    """What is played, a config group: `gym`, `factory`, `unity`, `basic`, `bubble_shooter`, `corridor`, `gather`,
    `recall`, or the import path of a kind of your own."""
    algorithm: Any = MISSING
    """What learns, a config group: `ppo`, `sac`, `poca` (groups), `custom` (a class of your own), or what an
    installed package adds."""
    reward: dict[str, Any] = field(default_factory=dict)
    """What is paid, a config group: `extrinsic`. Below it stand the settings of all signals by name, of which
    `strength` turns one on; `reward.<name>.path` adds one of your own."""
    behaviors: dict[str, Any] = field(default_factory=dict)
    """Settings of single behaviors by name, as `behaviors.<name>.algorithm.clip`, and `behaviors.default` for all
    others; empty = the settings above serve all behaviors."""
    self_play: SelfPlayConfig = field(default_factory=SelfPlayConfig)
    """Play of teams against earlier versions of their policies."""
    run: RunConfig = field(default_factory=RunConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    goal: GoalConfig = field(default_factory=GoalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluate: EvaluationConfig = field(default_factory=EvaluationConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    learners: int = setting(1, at_least=1, at_most=64)
    """Processes that compute each gradient step together, on this machine's cores; for PPO, SAC and POCA where updates
    are the limit (docs/learners.md). More: shorter updates with large batches or networks. Usual: 1 to 4."""
    seed: int = setting(0, at_least=0, at_most=LARGEST_SEED)
    """Seed of networks, actions and episodes: runs of another seed show what is chance."""
    device: Device = Device["auto"]
    """Where updates run, and where agents act if that is faster; `auto` is the GPU if torch can compute on one."""
    resume: str | None = path_field()
    """Folder of a run to go on with from where it stopped, or `latest`; null = a new run."""
    init: str | None = path_field()
    """From whose weights, and nothing else of it, this run starts: the folder of a run or of one of its checkpoints,
    `latest`, the folder of an ML-Agents run, or a `.pt` file of ML-Agents; null = random weights."""
    trust: bool = False
    """Whether a run to resume or to start from may be another's: what its settings name is run (SECURITY.md)."""
    interpolations: dict[str, Any] = field(default_factory=dict, metadata=_FILLED_IN)
    """What was written as `${...}`, by key."""

    @property
    def instances(self) -> int:
        """The games of the whole run, on all hosts."""
        return self.env.instances * (1 if self.cluster.name is Cluster.none else self.cluster.collectors)


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of `outstep evaluate`."""

    run: str = path_field(MISSING)
    """Folder of the run, or `latest`; with `against` also of a checkpoint. A folder of several runs, or of a run's
    checkpoints: all play against each other."""
    against: str | None = path_field()
    """Who plays the other side: the folder of a run or of a checkpoint, an `.onnx` file, or a bot
    (`package.module:Class`); null = the run plays all agents."""
    env: EnvConfig | None = None
    """What is played, a config group; null = what the run was trained on, of which single keys may be given:
    `env.instances=4`."""
    episodes: int = setting(20, at_least=1)
    """Episodes to play of each behavior, or matches of each pair. More: the mean is surer. Usual: 20 to 100."""
    checkpoint: Which = Which["best"]
    """Which of its checkpoints: the `best` by mean episode reward, or the `last`."""
    deterministic: bool = True
    """Whether the likeliest action is taken; else actions are drawn."""
    video: bool = False
    """Whether a video of each episode is written; only of Gymnasium environments that render `rgb_array`."""
    seed: int = setting(1_000_000, at_least=0, at_most=LARGEST_SEED)
    """Seed of the episodes; far from the seeds of training."""
    trust: bool = False
    """Whether the run may be another's: what its settings name is run (SECURITY.md)."""
    interpolations: dict[str, Any] = field(default_factory=dict, metadata=_FILLED_IN)
    """What was written as `${...}`, by key."""


@dataclass(frozen=True)
class ReportConfig:
    """Settings of `outstep report`."""

    run: str = path_field(MISSING)
    """Folder of the run, or `latest`."""
    to: str | None = path_field()
    """The `.html` file to write, which replaces an earlier one; null = `report.html` in the run's folder."""
    trust: bool = False
    """Whether a kind of environment that another's run names is imported, to tell its settings from the defaults."""


@dataclass(frozen=True)
class CompareConfig:
    """Settings of `outstep compare`."""

    runs: list[str] = field(default_factory=list)
    """Folders of runs, at least two; on the command line without a key."""
    to: str = path_field("comparison.html")
    """The `.html` file to write, which replaces an earlier one."""
    trust: bool = False
    """Whether kinds of environments that somebody else's run names are imported: see SECURITY.md."""


@dataclass(frozen=True)
class ExportConfig:
    """Settings of `outstep export`."""

    run: str = path_field(MISSING)
    """Folder of the run, or `latest`."""
    to: str = path_field(MISSING)
    """The `.onnx` file to write, or a folder for one file a behavior; earlier files are replaced."""
    checkpoint: Which = Which["best"]
    """Which of its checkpoints: the `best` by mean episode reward, or the `last`."""
    trust: bool = False
    """Whether the run may be another's: what its settings name is run (SECURITY.md)."""


@dataclass(frozen=True)
class PushConfig:
    """`outstep push`."""

    run: str = path_field(MISSING)
    """Folder of the run."""
    to: str = path_field(MISSING)
    """The folder to write, which nothing else is in; files of an earlier push are replaced."""
    repo: str | None = None
    """Where on the Hugging Face Hub the folder is uploaded to: `user/name`; null = nowhere."""
    private: bool = False
    """Whether others cannot see the repository, if it is new."""
    checkpoint: Which = Which["best"]
    """`best` or `last`."""
    trust: bool = False
    """Whether the run may be another's: what its settings name is run (SECURITY.md)."""


@dataclass(frozen=True)
class ServeConfig:
    """Settings of `outstep serve`."""

    model: str = path_field(MISSING)
    """The `.onnx` file that `outstep export` has written."""
    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` admits every machine that can reach this one."""
    port: int = setting(8080, at_least=0, at_most=65535)
    """Port to listen on; 0 = one that the system picks."""
    allowed_hosts: list[str] = field(default_factory=list)
    """Names by which clients may address the server (the `Host` of a request), besides `host` and this machine as
    `localhost`; `*.example.com` = any below; `*` = any. If `host` is no loopback address, all numeric addresses too."""
    max_rows: int = setting(1024, at_least=1)
    """Rows of the largest request. A model with a large memory takes fewer: a reply is at most `max_body_mib` long."""
    max_body_mib: float = setting(8.0, above=0)
    """Size of the largest request in MiB. Once it is parsed it may take five times as much."""
    request_seconds: float = setting(10.0, above=0)
    """Seconds that a request may take to arrive, from the connection or its first byte on, and its reply to be read."""
    access_log: bool = False
    """Whether a line is printed for each request: thousands a second fill a disk, and `/metrics` sums them up."""


@dataclass(frozen=True)
class LaunchConfig:
    """Settings of `outstep sagemaker train`."""

    image: str = MISSING
    """Address of our image in ECR."""
    role: str = MISSING
    """ARN of the job's role."""
    output: str = MISSING
    """Folder in S3 (`s3://…`) for the model, logs and checkpoints."""
    name: str | None = None
    """Name of the job; null = `outstep-<time>`."""
    channels: dict[str, Any] = field(default_factory=dict)
    """Folders in S3 that the job can read, by name: a game, demonstrations."""
    instance: str = "ml.c5.4xlarge"
    """SageMaker's name of the kind of machine."""
    machines: int = setting(1, at_least=1, at_most=1024)
    """How many. The first one learns and collects, the others collect (docs/cluster.md)."""
    volume_gib: int = setting(30, above=0)
    """Size of its disk in GiB."""
    hours: float = setting(24.0, above=0)
    """Hours that the job may train; then it saves and ends."""
    spot: bool = False
    """Whether it runs on spot machines, which are cheaper and may be taken away; the job then goes on on another."""
    wait_hours: float = setting(24.0, above=0)
    """Hours that it may wait for spot machines."""
    checkpoints: str | None = None
    """Folder in S3 with the checkpoints of an earlier job to go on with; null = a new folder."""
    region: str | None = None
    """AWS region; null = the one of the AWS configuration."""


@dataclass(frozen=True)
class DeployConfig:
    """Settings of `outstep sagemaker deploy`."""

    job: str = MISSING
    """The training job whose model is served."""
    name: str | None = None
    """Name of the endpoint; null = the job's."""
    instance: str = "ml.t2.medium"
    """SageMaker's name of the kind of machine."""
    region: str | None = None
    """AWS region; null = the one of the AWS configuration."""


@dataclass(frozen=True)
class RecordConfig:
    """Settings of `outstep record`."""

    env: EnvConfig | None = None
    """What is played, a config group; null = the env of the run that plays. A Gymnasium environment runs once, as fast
    as it can."""
    player: str | None = path_field()
    """`bot` (the game's own), `package.module:Name` (makes a bot), `human`, the folder of a run, or an `.onnx` file, of
    ML-Agents too."""
    to: str | None = path_field()
    """The `.demo` file to write."""
    episodes: int = setting(1, at_least=1)
    """Episodes to record."""
    overwrite: bool = False
    """Whether an earlier file may be replaced."""
    deterministic: bool = False
    """Whether a run's policy takes the likeliest action; else actions are drawn."""
    seed: int = setting(2_000_000, at_least=0, at_most=LARGEST_SEED)
    """Seed of the episodes and the player; far from the seeds of training and evaluation."""
    keys: dict[str, Any] = field(default_factory=dict)
    """Actions by key: `keys.left=1 keys.space-right=[0,1]`, `keys.none=0` for no key. Empty = the game's own."""
    fps: float | None = setting(None, above=0)
    """Steps a second while a person plays; null = the game waits for each key."""
    trust: bool = False
    """Whether a run that plays may be another's: what its settings name is run (SECURITY.md)."""


@dataclass(frozen=True)
class CheckConfig:
    """Settings of `outstep check`."""

    env: EnvConfig = MISSING
    """What is looked at, a config group: one instance of it."""
    seconds: float = setting(10.0, above=0)
    """Seconds of play, from the first step on. More: figures of speed that are less by luck. Usual: 5 to 60."""
    seed: int = setting(0, at_least=0, at_most=LARGEST_SEED)
    """Seed of the episodes and of the actions, which are drawn by chance."""


SCHEMAS: dict[str, type] = {
    "train": TrainConfig,
    "check": CheckConfig,
    "evaluate": EvaluateConfig,
    "report": ReportConfig,
    "compare": CompareConfig,
    "sweep": SweepConfig,
    "sweep best": SweepBestConfig,
    "export": ExportConfig,
    "push": PushConfig,
    "serve": ServeConfig,
    "record": RecordConfig,
    "sagemaker train": LaunchConfig,
    "sagemaker deploy": DeployConfig,
}
"""The settings of each command that has any."""


def overridden_settings(run: RunConfig) -> dict[str, str]:
    """Returns by key what a run was started with in place of defaults: its choices, and single settings."""
    given = (override.partition("=") for override in run.overrides)
    return {**{group: str(choice) for group, choice in run.choices.items()}, **{key: value for key, _, value in given}}


def settings_of(config: TrainConfig, behavior: str) -> tuple[AlgorithmSettings, RewardSettings]:
    """Returns the settings of a behavior's algorithm and reward; UserError if `behaviors` names others only."""
    chosen = behavior_config(config, behavior)
    return chosen.algorithm, chosen.reward


def behavior_config(config: TrainConfig, behavior: str) -> BehaviorConfig:
    """Returns all settings of a behavior; UserError if `behaviors` names others only."""
    if not config.behaviors:
        return BehaviorConfig(config.algorithm, config.reward, self_play=config.self_play)
    chosen: BehaviorConfig | None = config.behaviors.get(behavior) or config.behaviors.get(DEFAULT_BEHAVIOR)
    if chosen is None:
        raise UserError(
            f"behavior {behavior!r} appeared, but behaviors names only {', '.join(map(repr, config.behaviors))}: "
            f"add behaviors.{behavior} or behaviors.{DEFAULT_BEHAVIOR}"
        )
    return chosen
