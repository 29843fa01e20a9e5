"""Settings that all algorithms share: networks, cloning, and what each algorithm's settings class answers for itself.

This file imports no torch, so that commands and spawned processes that only need the settings start quickly.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, ClassVar, Literal, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs.config import check_ranges, path_field, setting
from envs.imports import Registry, imported
from envs.spec import UserError

PolicyKind = Literal["ppo", "sac", "deterministic"]
"""How a policy draws continuous actions: from an unbounded Gaussian (`ppo`), from a squashed one (`sac`), or not at all
but for exploration noise (`deterministic`)."""

Cell = Enum("Cell", ["none", "lstm", "gru"])
"""The recurrent cell: none, an LSTM (doi 10.1162/neco.1997.9.8.1735) or a GRU (arXiv 1406.1078)."""

Activation = Enum("Activation", ["relu", "silu", "tanh"])
"""What follows a hidden layer: ReLU, SiLU (x * sigmoid(x), arXiv 1702.03118, also called Swish) or tanh."""

Goal = Enum("Goal", ["input", "hyper"])
"""What a goal signal is to a network: an input like any other, or besides what makes the weights of its last layer."""

_ROOM_BYTES = 128 * 2**20
"""So much a buffer may take for rows beyond those needed: thousands of agents may end a step at once."""

ENCODERS: Registry[Any] = Registry(
    "encoder",
    "outstep.encoders",
    {
        "simple": "algorithms.networks.encoders:SimpleCNN",
        "nature": "algorithms.networks.encoders:NatureCNN",
        "impala": "algorithms.networks.encoders:ImpalaResNet",
        "match3": "algorithms.networks.encoders:Match3CNN",
        "fully_connected": "algorithms.networks.encoders:FullyConnected",
    },
)
"""Encoders of images: ML-Agents' `simple` CNN, the `nature` CNN (Mnih 2015), `impala`'s ResNet (1802.01561), and for
images of a few pixels ML-Agents' `match3` and `fully_connected`."""


@dataclass
class CloningSettings:
    """Behavioral cloning: the policy also learns to do what was demonstrated, before or beside its own learning."""

    demos: str | None = path_field()
    """Demonstrations: a `.demo` file, a folder of them, or a pattern; null = no cloning."""
    updates_before: int = setting(0, at_least=0)
    """Gradient steps on demonstrations alone, before the first sample. More: closer to them, and to their chances.
    Usual: 0 to 10000."""
    strength: float = setting(1.0, at_least=0)
    """Weight of the cloning loss beside the algorithm's, at the start. Higher: stays closer to demonstrations. Usual:
    0.1 to 1."""
    anneal_samples: int = setting(50_000, at_least=0)
    """Samples over which the weight of cloning falls to 0, linearly; 0 = no cloning beside. Usual: 1e4 to 1e6."""
    batch_size: int = setting(128, at_least=1)
    """Demonstrated steps of one gradient step. Usual: 64 to 512."""
    learning_rate: float = setting(1e-3, above=0)
    """Step of Adam in the updates before, and with `epochs`. Else, beside, the algorithm's own counts. Usual: 1e-4 to
    1e-3."""
    epochs: int | None = setting(None, at_least=1)
    """Passes over the demonstrations after each update, as in ML-Agents: with an optimiser of its own, whose rate is
    `learning_rate` times the weight, and on drawn actions. null = the loss is added to the algorithm's instead."""
    epoch_samples: int | None = setting(None, at_least=1)
    """Demonstrated steps of such a pass; null = all."""


@dataclass
class MemorySettings:
    """The recurrent state of policies and critics: what they remember within an episode."""

    cell: Cell = Cell["none"]
    """What remembers: `none`, an `lstm` or a `gru` (cheaper than an LSTM, often as good)."""
    size: int = setting(64, at_least=1)
    """Units of the recurrent layer. More: remembers more, slower. Usual: 32 to 256."""
    sequence_length: int = setting(32, at_least=2)
    """Steps that are learned from together: how far back an update can see what should have been remembered. Usual: 16
    to 128."""
    burn_in: int = setting(8, at_least=0)
    """Steps before a sequence that SAC and cloning only pass through, to bring an old recurrent state up to date.
    Usual: 0 to 40."""

    @property
    def numbers(self) -> int:
        """Numbers carried from step to step: an LSTM's output and its cell, a GRU's output, none without a cell."""
        if self.cell is Cell["none"]:
            return 0
        return self.size * (2 if self.cell is Cell["lstm"] else 1)


@dataclass
class AttentionSettings:
    """Attention over entities: of Unity's BufferSensors, and of Gymnasium's sequences."""

    size: int = setting(64, at_least=1)
    """Numbers that stand for an entity. More: tells more apart, slower. Usual: 32 to 128."""
    heads: int = setting(4, at_least=1)
    """Parts of these that attend to others separately; they divide `size`. Usual: 2 to 8."""
    layers: int = setting(1, at_least=1)
    """How often entities look at each other. More: sees what depends on several of them. Usual: 1 to 3."""


@dataclass
class NetworkSettings:
    """Networks of actors and critics."""

    hidden: list[int] = setting(default_factory=lambda: [256, 256], at_least=1)
    """Units of each hidden layer. More units: richer functions, slower updates and decisions. Usual: 64 to 512."""
    activation: Activation = Activation["relu"]
    """What follows each hidden layer of policy, value, critics and reward signals: `relu`, `silu` (smooth; ML-Agents'
    choice) or `tanh` (bounded). Encoders of images keep their own."""
    initial_deviation: float | None = setting(None, at_least=1e-4, at_most=7)
    """Standard deviation of continuous actions (-1 to 1) at the start, before tanh for SAC; null = 0.61 for PPO, 1 for
    SAC. Higher: explores more at first. Usual: 0.3 to 1."""
    normalize: bool = True
    """Whether float32 vector observations are shifted and scaled by their running mean and deviation."""
    joint_choices: int = setting(128, at_least=0)
    """Discrete branches are chosen together, as one, while they have no more combinations than this: the best choice of
    one may then depend on that of another. 0 = each is chosen by itself."""
    memory: MemorySettings = field(default_factory=MemorySettings)
    """Recurrent layer, behind the hidden layers of a policy and of PPO's value, and before those of SAC's critics."""
    encoder: str = "simple"
    """What images go through: `simple` (5 pixels a side or more), `nature` (36 or more), `impala` (8 or more), or one
    of your own. Later ones see more and take longer. For images of few pixels also `match3` (5 or more) and
    `fully_connected`."""
    flatten_below: int = setting(5, at_least=5)
    """With `simple`, images of fewer pixels a side are flattened instead. Higher: faster, but what lies side by side is
    no longer seen as such."""
    custom: str | None = path_field()
    """A network of your own in place of encoder and hidden layers, `package.module:Class` (see docs/extending.md)."""
    action_scale: float = setting(1.0, above=0)
    """What PPO's means of continuous actions are multiplied with. Lower: an update moves them less. ML-Agents: 1/3."""
    clip_inputs: float = setting(10.0, above=0)
    """Normalised observations are clipped at so many deviations. Lower: outliers count less. ML-Agents: 5."""
    encoder_units: int | None = setting(None, at_least=1)
    """Features of each image, the units of the encoder's last layer; null = its own (`nature` 512, `impala` 256, those
    of few pixels 128; `simple` and yours have no such layer). ML-Agents: as many as `hidden`."""
    attention: AttentionSettings = field(default_factory=AttentionSettings)
    """What sets of entities go through, before all that is observed goes through the hidden layers."""
    goal: Goal = Goal["input"]
    """What Unity's goal signals are: an `input` like any other, or `hyper`, as ML-Agents has it: also what makes the
    weights of the last hidden layer, in the policy and in PPO's value. That has up to 128 times the weights then."""

    @property
    def recurrent(self) -> bool:
        """Whether networks have a recurrent state."""
        return self.memory.cell is not Cell["none"]

    @property
    def sequence_length(self) -> int:
        """Steps that are learned from together: 1 without a recurrent state."""
        return self.memory.sequence_length if self.recurrent else 1

    @property
    def is_plain(self) -> bool:
        """Whether all networks are ours and fit every observation."""
        return self.custom is None and self.encoder == "simple"

    def validate(self, prefix: str) -> None:
        """Checks that a user's own network and encoder exist; raises UserError if not."""
        ENCODERS.check(self.encoder, f"{prefix}.encoder")
        size, heads = self.attention.size, self.attention.heads
        if size % heads:
            raise UserError(
                f"{prefix}.attention.size={size} must be divisible by {prefix}.attention.heads={heads}: each head has "
                "an equal part"
            )
        if self.custom is not None:
            check = imported("algorithms.networks.custom:network_class", f"{prefix}.custom")  # imports torch
            check(self.custom, f"{prefix}.custom")


@dataclass
class AlgorithmSettings:
    """What every algorithm can be set, and what a run asks of any settings. Those of an algorithm derive from it."""

    policy_kind: ClassVar[PolicyKind] = "ppo"
    """The kind of policy that these settings ask for."""
    user_code: ClassVar[bool] = True
    """Whether the algorithm is not one of ours: it is then made once before a run starts, to see whether it can be."""
    few_rows: ClassVar[int] = 0
    """A run warns of a buffer that holds fewer rows."""
    heavier: ClassVar[str] = "algorithm.network.hidden"
    """What to raise where the learner waits for samples."""

    name: str = ""
    """Name of the algorithm, which the choice of `algorithm` sets."""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    """Size of the networks."""
    buffer_capacity: int | None = None
    """Rows that the buffer holds; null = what fits into `buffer_memory_mib` or, if that is null too, as many as the
    algorithm needs, in at most half of the memory that is free."""
    buffer_memory_mib: int | None = setting(None, at_least=1)
    """MiB of memory that the buffer may take; null = what its rows need. Usual: 64 to 4096."""
    discount: float = setting(0.99, at_least=0, at_most=1)
    """Weight of a reward one step later, 0 to 1. Higher: looks further ahead, noisier. Usual: 0.9 to 0.999."""
    normalize_returns: bool = True
    """Whether the returns of each reward signal are divided by their running deviation, so that nothing depends on the
    unit of a reward. False: values are learned in the rewards' own units."""
    cloning: CloningSettings = field(default_factory=CloningSettings)
    """Cloning of demonstrations, before or beside."""

    @property
    def algorithm(self) -> str:
        """The import path of the class that learns by these settings, or the name of its entry point."""
        return self.name

    @property
    def kind(self) -> PolicyKind:
        """The kind of policy that acts."""
        return self.policy_kind

    def own(self, prefix: str = "algorithm") -> AlgorithmSettings:
        """Returns the settings that the algorithm is made with."""
        return self

    @property
    def mates(self) -> int:
        """Teammates of an agent that each of its rows names at most."""
        return 0

    @property
    def lighter(self) -> str:
        """What makes updates take less time where games wait for them, as advice."""
        return "make algorithm.network.hidden smaller"

    def min_rows(self) -> int:
        """Returns the rows that a buffer has to hold. A step that is cut off takes two: also its last observation."""
        return 1

    def fresh_rows(self) -> int | None:
        """Returns how many rows may be under way to the learner before they are too old for it; None = any number."""
        return None

    def default_rows(self, row_bytes: int) -> int:
        """Returns the rows that a buffer holds if nothing is set: twice the least, or more where rows are small."""
        return max(2 * self.min_rows(), _ROOM_BYTES // row_bytes)

    def demo_paths(self) -> dict[str, str | None]:
        """Returns where demonstrations are taken from, by the keys that say so."""
        return {"cloning.demos": self.cloning.demos}

    def validate(self, prefix: str = "algorithm") -> None:
        """Checks ranges and what has to go together; `prefix` is where the settings stand in the configuration.

        Raises UserError if something is wrong; the message names its key.
        """
        check_ranges(self, prefix)
        self.network.validate(f"{prefix}.network")
        least = self.min_rows()
        if self.buffer_capacity is not None and self.buffer_capacity < least:
            raise UserError(f"{prefix}.buffer_capacity={self.buffer_capacity} has to be {least} or more here")


@dataclass
class GradientSettings(AlgorithmSettings):
    """What an algorithm can be set that learns by gradients, as all of ours do."""

    learning_rate: float = setting(3e-4, above=0)
    """Step of Adam. Higher: faster and less steady. Usual: 1e-4 to 1e-3."""
    learning_rate_end: float | None = setting(None, at_least=0)
    """Learning rate at the end of the schedule, reached linearly; null = constant."""
    schedule_samples: int | None = setting(None, at_least=1)
    """Samples after which the `*_end` values are reached; needed if any of them is set."""
    max_gradient_norm: float | None = setting(None, above=0)
    """Gradients of each network are scaled down to this norm; null = never. Lower: steadier, slower. Usual: 0.5 to
    10."""

    def validate(self, prefix: str = "algorithm") -> None:
        """Checks as the base does, and that schedules have an end; raises UserError."""
        super().validate(prefix)
        check_schedules(self, prefix)


@dataclass
class OffPolicySettings(GradientSettings):
    """What an algorithm can be set that draws batches from a replay buffer, again and again."""

    few_rows: ClassVar[int] = 50_000
    heavier: ClassVar[str] = "algorithm.updates_per_sample"

    batch_size: int = setting(256, at_least=1)
    """Rows of one update. Larger: steadier gradients, slower updates. Usual: 64 to 512."""
    start_samples: int = setting(1000, at_least=1)
    """Samples collected before the first update. More: the first updates see more. Usual: 100 to 10000."""
    updates_per_sample: float = setting(1.0, above=0)
    """Updates made for each sample collected. Higher: learns more from each sample, costs time. Usual: 0.1 to 4."""
    n_step: int = setting(1, at_least=1)
    """Steps of the n-step return. More: rewards travel faster, more bias from old policies. Usual: 1 to 5."""
    target_rate: float = setting(0.005, above=0, at_most=1)
    """Share of the networks that moves into their targets each update. Higher: less steady. Usual: 0.001 to 0.02."""
    demos: str | None = path_field()
    """Demonstrations that fill a part of each batch: a `.demo` file, a folder of them, or a pattern; null = none."""
    demo_share: float = setting(0.25, above=0, below=1)
    """Share of each batch that is demonstrations, 0 to 1. Higher: learns more from them, less from play. Usual: 0.1 to
    0.5."""

    @property
    def lighter(self) -> str:
        """What makes updates fewer or smaller."""
        return "lower algorithm.updates_per_sample or algorithm.batch_size"

    @property
    def burn_in(self) -> int:
        """Steps that lead up to each sequence."""
        return self.network.memory.burn_in if self.network.recurrent else 0

    @property
    def batch_sequences(self) -> int:
        """Sequences of each batch, as many as make up `batch_size` rows."""
        return -(-self.batch_size // self.network.sequence_length)

    @property
    def demo_sequences(self) -> int:
        """Demonstrated sequences among them."""
        return 0 if self.demos is None else max(1, round(self.demo_share * self.batch_sequences))

    @property
    def sequence_rows(self) -> int:
        """Rows of a sequence: what leads up to it, the sequence, and what its last return looks ahead."""
        return self.network.sequence_length + self.burn_in + self.n_step

    def min_rows(self) -> int:
        """Returns as many rows as the start, a batch or a sequence asks for."""
        return 2 * max(self.start_samples, self.batch_size, self.sequence_rows)

    def default_rows(self, row_bytes: int) -> int:
        """Returns 100,000, or what it needs at least: more is more varied, but slower to turn over."""
        return max(100_000, self.min_rows())

    def demo_paths(self) -> dict[str, str | None]:
        """Returns those of cloning, and of the demonstrations in batches."""
        return {**super().demo_paths(), "demos": self.demos}

    def validate(self, prefix: str = "algorithm") -> None:
        """Checks as the base does, and that demonstrations and sequences leave room; raises UserError."""
        memory = self.network.memory
        if self.network.recurrent and self.buffer_capacity is not None and self.sequence_rows > self.buffer_capacity:
            raise UserError(
                f"{prefix}.network.memory.sequence_length={memory.sequence_length}, burn_in={memory.burn_in} and "
                f"{prefix}.n_step={self.n_step} make sequences of {self.sequence_rows} rows, longer than "
                f"{prefix}.buffer_capacity={self.buffer_capacity}: shorten them, or hold more rows"
            )
        super().validate(prefix)
        if self.demos is not None and self.demo_sequences == self.batch_sequences:
            unit = "sequence" if self.network.recurrent else "row"
            raise UserError(
                f"{prefix}.demo_share={self.demo_share} of {prefix}.batch_size={self.batch_size} leaves no {unit} of "
                "the agent's own: lower the share, or raise the batch size"
            )


def scheduled(initial: float, end: float | None, horizon: int | None, samples: int) -> float:
    """Returns the value after `samples` samples on the line from `initial` to `end` over `horizon` samples.

    Without an `end` it is constant.
    """
    if end is None or horizon is None:
        return initial
    return initial + (end - initial) * min(samples / horizon, 1.0)


def check_schedules(settings: Any, prefix: str) -> None:
    """Refuses a `*_end` value without `schedule_samples`, by a UserError."""
    for each in fields(settings):
        end = getattr(settings, each.name)
        if each.name.endswith("_end") and end is not None and settings.schedule_samples is None:
            raise UserError(f"{prefix}.{each.name}={end} needs {prefix}.schedule_samples: when it is to be reached")


S = TypeVar("S")


def settings_class(found: Any, base: type[S], about: str) -> type[S]:
    """Returns the settings class that a registry or an import path leads to: `found` itself, or its `Settings`.

    Raises UserError if that is no dataclass derived from `base`; `about` says what it is.
    """
    kind = found if isinstance(found, type) and issubclass(found, base) else getattr(found, "Settings", base)
    if not (isinstance(kind, type) and issubclass(kind, base) and "__dataclass_fields__" in vars(kind)):
        raise UserError(
            f"{about}: its Settings must be a dataclass that derives from {base.__module__}.{base.__name__}"
        )
    return kind


def typed(kind: type[S], values: Mapping[str, Any], given: Mapping[str, Any], key: str) -> S:
    """Returns settings of a class from `values`, and from what was `given` below `key` of the configuration.

    Raises UserError if an unknown key or a value of the wrong type is among those given.
    """
    known = [each.name for each in fields(cast(Any, kind)) if each.name not in values]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {key}.{close[0]}?" if close else f"{key} holds {', '.join(known) or 'no keys'}"
            raise UserError(f"unknown key {key}.{name}; {hint}")
    try:
        return cast(S, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind(**values)), given)))
    except OmegaConfBaseException as error:
        seen = OmegaConf.select(OmegaConf.create(dict(given)), error.full_key or "", default=given)
        raise UserError(f"{key}.{error.full_key}={seen}: {str(error).splitlines()[0]}") from error
