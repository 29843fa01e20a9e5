"""What can be set about algorithms and reward signals: plain dataclasses, used as the schema of the configuration.

This file imports no torch, so that commands and spawned processes that only need the settings start quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias

from envs.config import path_field

RewardType = Enum("RewardType", ["signed", "positive", "negative"])
"""What GAIL pays, of the discriminator's D: `signed` log D - log(1 - D), `positive` -log(1 - D), `negative` log D."""

Images = Enum("Images", ["simple", "nature", "impala"])
"""How images are encoded: ML-Agents' `simple` CNN, the `nature` CNN (Mnih 2015), or `impala`'s ResNet (1802.01561)."""


Cell = Enum("Cell", ["none", "lstm", "gru"])
"""What remembers: nothing, an LSTM (doi 10.1162/neco.1997.9.8.1735) or a GRU (arXiv 1406.1078)."""

PolicyClass = Enum("PolicyClass", ["ppo", "sac"])
"""How a policy draws continuous actions: from an unbounded Gaussian as `ppo`, or from a squashed one as `sac`."""


@dataclass
class CloningSettings:
    """Behavioral cloning: the policy also learns to do what was demonstrated, before or beside its own learning."""

    demos: str | None = path_field()
    """Demonstrations: a `.demo` file, a folder of them, or a pattern; null = no cloning."""
    updates_before: int = 0
    """Gradient steps on demonstrations alone, before the first sample. More: closer to them, and to their chances."""
    strength: float = 1.0
    """Weight of the cloning loss beside the algorithm's, at the start. Higher: stays closer to demonstrations."""
    anneal_samples: int = 50_000
    """Samples over which that weight falls to 0, linearly; 0 = no cloning beside."""
    batch_size: int = 128
    """Demonstrated steps of one gradient step."""
    learning_rate: float = 1e-3
    """Step of Adam in the updates before. Beside, the algorithm's own counts."""


@dataclass
class MemorySettings:
    """What policies and critics remember within an episode, beside what they see."""

    cell: Cell = Cell["none"]
    """`none`, `lstm` or `gru`."""
    size: int = 64
    """Units of the recurrent layer. More: remembers more, slower. Usual: 32 to 256."""
    sequence_length: int = 32
    """Steps that are learned from together: how far back an update can tell what should have been remembered."""
    burn_in: int = 8
    """Steps before a sequence that SAC and cloning only go through: they bring an old memory, or none, up to date."""


@dataclass
class NetworkSettings:
    """Networks of actors and critics."""

    hidden: list[int] = field(default_factory=lambda: [256, 256])
    """Units of each hidden layer. More units: richer functions, slower updates and decisions. Usual: 64 to 512."""
    normalize: bool = True
    """Whether float32 vector observations are shifted and scaled by their running mean and deviation."""
    joint_choices: int = 128
    """Discrete branches are chosen together, as one, while they have no more combinations than this: the best choice of
    one may then depend on that of another. 0 = each is chosen by itself."""
    memory: MemorySettings = field(default_factory=MemorySettings)
    """Memory, behind the hidden layers of a policy and before those of SAC's critics."""
    encoder: Images = Images["simple"]
    """What images go through: `simple` (20 pixels a side or more; smaller ones are flattened), `nature` (36 or more) or
    `impala` (8 or more). Later ones see more and take longer."""
    custom: str | None = path_field()
    """A network of your own in place of encoder and hidden layers, `package.module:Class` (see docs/extending.md)."""


@dataclass
class PPOSettings:
    """Proximal policy optimisation (arXiv 1707.06347), decoupled for stale data (arXiv 2110.00641)."""

    name: str = "ppo"
    """Names the algorithm: always `ppo`."""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    """Size of the networks."""
    buffer_capacity: int | None = None
    """Rows that the buffer holds; null = what fits into `buffer_memory_mib`. Rows overwritten before use are lost."""
    buffer_memory_mib: int = 128
    """MiB of memory that the buffer takes."""
    rollout_size: int = 2048
    """Samples of one update. Larger: steadier gradients, fewer updates. Usual: 512 to 16384."""
    minibatch_size: int = 256
    """Samples of one gradient step. Larger: steadier and fewer steps. Usual: 64 to 1024."""
    epochs: int = 4
    """Passes over each rollout. More: more learned from each sample, further from the data's policy. Usual: 3 to 20."""
    discount: float = 0.99
    """Weight of a reward one step later, 0 to 1. Higher: looks further ahead, noisier. Usual: 0.9 to 0.999."""
    gae_lambda: float = 0.95
    """Decay of multi-step advantages, 0 to 1. Higher: less bias, more variance. Usual: 0.9 to 0.98."""
    learning_rate: float = 3e-4
    """Step of Adam. Higher: faster and less steady. Usual: 1e-4 to 1e-3."""
    learning_rate_end: float | None = None
    """Learning rate at the end of the schedule, reached linearly; null = constant."""
    clip: float = 0.2
    """How far the probability ratio may move before its gradient ends. Higher: bolder updates. Usual: 0.1 to 0.3."""
    clip_end: float | None = None
    """Clip at the end of the schedule, reached linearly; null = constant."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus. Higher: explores more and longer. Usual: 0 to 0.02."""
    entropy_coef_end: float | None = None
    """Weight of the entropy bonus at the end of the schedule, reached linearly; null = constant."""
    schedule_samples: int | None = None
    """Samples after which the `*_end` values are reached; needed if any of them is set."""
    value_weight: float = 0.5
    """Weight of the value loss beside the policy's. Matters with a shared trunk."""
    value_clip: float | None = None
    """How far a value may move from the rollout's value, in return units; null = no limit. Lower: slower, steadier."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this global norm. Lower: steadier, slower."""
    shared_trunk: bool = False
    """Whether policy and value share all hidden layers: cheaper, but their gradients interfere."""
    vtrace: bool = True
    """Whether value targets correct for stale data (V-trace, arXiv 1802.01561). Equal to GAE on fresh data."""
    rho_clip: float = 1.0
    """Truncation of the stale data's importance weights. Higher: less bias, more variance. Usual: 1 to 2."""
    max_lag: int = 1
    """Policy versions that a sample may be old; older ones are dropped and counted. At 1, games go on during an update
    as long as it takes no longer than collecting a rollout. Higher: staler data. 0: collection waits for updates."""
    cloning: CloningSettings = field(default_factory=CloningSettings)
    """Cloning of demonstrations, before or beside."""


@dataclass
class SACSettings:
    """Soft actor-critic (arXiv 1801.01290, 1812.05905) for continuous, branched discrete and hybrid actions."""

    name: str = "sac"
    """Names the algorithm: always `sac`."""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    """Size of the networks."""
    buffer_capacity: int | None = None
    """Rows that the replay holds; null = what fits into `buffer_memory_mib`. More: varied, but slow to turn over."""
    buffer_memory_mib: int = 256
    """MiB of memory that the replay takes."""
    batch_size: int = 256
    """Rows of one update. Larger: steadier gradients, slower updates. Usual: 64 to 512."""
    start_samples: int = 1000
    """Samples collected before the first update."""
    updates_per_sample: float = 1.0
    """Updates made for each sample collected. Higher: learns more from each sample, costs time. Usual: 0.1 to 4."""
    discount: float = 0.99
    """Weight of a reward one step later, 0 to 1. Higher: looks further ahead, noisier. Usual: 0.9 to 0.999."""
    n_step: int = 1
    """Steps of the n-step return. More: rewards travel faster, more bias from old policies. Usual: 1 to 5."""
    learning_rate: float = 5e-4
    """Step of Adam for actor, critics and temperatures. Higher: faster and less steady. Usual: 1e-4 to 1e-3."""
    learning_rate_end: float | None = None
    """Learning rate at the end of the schedule, reached linearly; null = constant."""
    schedule_samples: int | None = None
    """Samples after which `learning_rate_end` is reached; needed if it is set."""
    target_rate: float = 0.005
    """Share of the critics that moves into their targets each update. Higher: less steady. Usual: 0.001 to 0.02."""
    temperature: float = 0.1
    """Weight of the entropy at the start, in reward units. Higher: explores more."""
    learn_temperature: bool = True
    """Whether each action block learns its own temperature to hold its target entropy; else `temperature` stays."""
    discrete_entropy: float = 0.3
    """Target entropy of a branch as a share of ln(allowed choices). Higher: explores more. Usual: 0.1 to 0.7."""
    continuous_entropy: float = -1.0
    """Target entropy for each continuous action, in nats. Higher: explores more. Usual: -2 to 0."""
    max_gradient_norm: float | None = None
    """Gradients are scaled down to this global norm; null = never. Lower: steadier, slower."""
    accelerate: bool = True
    """Whether updates of plain MLPs run with gradients written by hand, which changes no result and saves a quarter of
    their time; other networks always do without. False: the update as algorithms/sac/update.py has it."""
    dueling: bool = False
    """Whether critics tell how good a state is apart from how much better one choice of a branch is than others (arXiv
    1511.06581), and begin with all alike: choices not tried keep up with others. For games that have to be explored."""
    demos: str | None = path_field()
    """Demonstrations that fill a part of each batch: a `.demo` file, a folder of them, or a pattern; null = none."""
    demo_share: float = 0.25
    """That part of each batch. Higher: learns more from demonstrations, less from play. Usual: 0.1 to 0.5."""
    cloning: CloningSettings = field(default_factory=CloningSettings)
    """Cloning of demonstrations, before or beside."""


@dataclass
class CustomSettings:
    """An algorithm of the user's own (docs/extending.md)."""

    name: str = "custom"
    """Names the algorithm: always `custom`."""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    """Size of the networks."""
    buffer_capacity: int | None = None
    """Rows that the buffer holds; null = what fits into `buffer_memory_mib`."""
    buffer_memory_mib: int = 128
    """MiB of memory that the buffer takes."""
    path: str | None = path_field()
    """Its class, `package.module:Class`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What that class can be set, by names of its own."""
    policy_class: PolicyClass = PolicyClass["ppo"]
    """Whose kind of policy acts, `ppo` or `sac`: as the class needs it. They differ in continuous actions."""
    discount: float = 0.99
    """Weight of a reward one step later, 0 to 1. Higher: looks further ahead, noisier. Usual: 0.9 to 0.999."""
    cloning: CloningSettings = field(default_factory=CloningSettings)
    """Cloning of demonstrations, before or beside, if the class does that."""


AlgorithmSettings: TypeAlias = PPOSettings | SACSettings | CustomSettings
"""Those of any algorithm."""


@dataclass
class ExtrinsicSettings:
    """The reward that the environment itself gives."""

    strength: float = 1.0
    """Factor on the environment's reward; 0 = ignored."""


@dataclass
class GAILSettings:
    """Generative adversarial imitation (arXiv 1606.03476), off-policy and with absorbing states (arXiv 1809.02925).

    A discriminator learns to tell demonstrated steps from the agent's own; the agent is paid for being taken for a
    demonstrator.
    """

    demos: str | None = path_field()
    """Demonstrations: a `.demo` file, a folder of them, or a pattern; null = no GAIL."""
    strength: float = 0.1
    """Factor on this reward, beside `extrinsic.strength` on the environment's."""
    strength_end: float | None = None
    """Strength at the end of the schedule, reached linearly; null = constant."""
    schedule_samples: int | None = None
    """Samples after which `strength_end` is reached; needed if it is set."""
    reward_type: RewardType = RewardType["signed"]
    """`signed`, `positive` or `negative`: what is paid. None of them pays for living or dying by itself."""
    use_actions: bool = False
    """Whether the discriminator sees actions too: imitates closely. Without: what was reached counts, not how."""
    hidden: list[int] = field(default_factory=lambda: [128, 128])
    """Units of each hidden layer of the discriminator. Too many: it learns few demonstrations by heart."""
    learning_rate: float = 3e-4
    """Step of Adam. Higher: the discriminator follows the agent faster, and is harder to convince."""
    updates_per_sample: float = 0.05
    """Gradient steps of the discriminator for each sample collected."""
    batch_size: int = 128
    """Demonstrated steps, and as many of the agent's own, of one gradient step; for SAC no more than its own batch."""
    gradient_penalty: float = 10.0
    """Weight of the penalty on gradients that differ from 1 (arXiv 1704.00028), over all inputs. Higher: smoother."""
    bound: float = 5.0
    """Largest size of the discriminator's logit that is paid: bounds the reward."""


@dataclass
class IntrinsicSettings:
    """What pays agents for what is new to them has in common."""

    strength: float = 0.0
    """Factor on this reward, whose root mean square over the run is 1 before it; 0 = none. Usual: 0.005 to 0.5."""
    strength_end: float | None = None
    """Strength at the end of the schedule, reached linearly; null = constant."""
    schedule_samples: int | None = None
    """Samples after which `strength_end` is reached; needed if it is set."""
    hidden: list[int] = field(default_factory=lambda: [128, 128])
    """Units of each hidden layer of its networks."""
    encoding_size: int = 64
    """Numbers in which its networks describe an observation. More: finer differences count as new."""
    learning_rate: float = 3e-4
    """Step of Adam. Higher: what has been seen gets familiar sooner, and pays less."""
    updates_per_sample: float = 0.05
    """Gradient steps of its networks for each sample collected. Higher: familiar sooner."""
    batch_size: int = 128
    """Steps of the agent of one gradient step; for SAC no more than its own batch."""
    bound: float = 5.0
    """Largest reward for novelty before the strength."""


@dataclass
class CuriositySettings(IntrinsicSettings):
    """Curiosity (ICM, arXiv 1705.05363): pays for what a model of the agent's actions' effects foretells wrongly."""

    forward_share: float = 0.2
    """Weight of the forward model's loss, between 0 and 1; the inverse model's has the rest (the paper's beta)."""


@dataclass
class RNDSettings(IntrinsicSettings):
    """RND (arXiv 1810.12894): pays for observations for which a fixed random network's output is foretold wrongly."""


@dataclass
class RewardSettings:
    """The reward signals, whose weighted sum is learned from."""

    extrinsic: ExtrinsicSettings = field(default_factory=ExtrinsicSettings)
    """The environment's own reward."""
    gail: GAILSettings = field(default_factory=GAILSettings)
    """Reward for being like demonstrations."""
    curiosity: CuriositySettings = field(default_factory=CuriositySettings)
    """Reward for what is new: effects that are not foretold."""
    rnd: RNDSettings = field(default_factory=RNDSettings)
    """Reward for what is new: observations unlike those seen before."""


def demo_paths(algorithm: AlgorithmSettings, reward: RewardSettings) -> dict[str, str]:
    """Where demonstrations are taken from, by the keys that say so, relative to a behavior's settings."""
    paths = {"reward.gail.demos": reward.gail.demos, "algorithm.cloning.demos": algorithm.cloning.demos}
    if isinstance(algorithm, SACSettings):
        paths["algorithm.demos"] = algorithm.demos
    return {key: path for key, path in paths.items() if path is not None}


def policy_kind(settings: AlgorithmSettings) -> Literal["ppo", "sac"]:
    """Which kind of policy acts."""
    if isinstance(settings, CustomSettings):
        return "ppo" if settings.policy_class is PolicyClass["ppo"] else "sac"
    return "ppo" if isinstance(settings, PPOSettings) else "sac"


def pays(settings: IntrinsicSettings) -> bool:
    """Whether novelty is paid for at any time."""
    return settings.strength > 0 or (settings.strength_end or 0) > 0


def least_rows(settings: AlgorithmSettings) -> int:
    """Rows that a buffer has to hold. A step that is cut off takes two: its own and that of its last observation."""
    if isinstance(settings, CustomSettings):
        return 1  # what its class needs, that says once it is made
    if isinstance(settings, PPOSettings):
        # What waits while the lag allows it, the rollout in hand, and what is still open.
        return 2 * (settings.max_lag + 2) * settings.rollout_size
    return 2 * max(settings.start_samples, settings.batch_size, sequence_rows(settings))


def remembers(settings: AlgorithmSettings) -> bool:
    """Whether the policy has a memory."""
    return settings.network.memory.cell is not Cell["none"]


def memory_size(settings: MemorySettings) -> int:
    """Numbers carried from step to step: an LSTM's output and its cell, a GRU's output, nothing without memory."""
    if settings.cell is Cell["none"]:
        return 0
    return settings.size * (2 if settings.cell is Cell["lstm"] else 1)


def sequence_length(settings: AlgorithmSettings) -> int:
    """Steps that are learned from together: 1 without memory."""
    return settings.network.memory.sequence_length if remembers(settings) else 1


def batch_sequences(settings: SACSettings) -> int:
    """Sequences of each batch, as many as make up `batch_size` rows."""
    return -(-settings.batch_size // sequence_length(settings))


def demo_sequences(settings: SACSettings) -> int:
    """Demonstrated sequences among them."""
    return 0 if settings.demos is None else max(1, round(settings.demo_share * batch_sequences(settings)))


def sequence_rows(settings: SACSettings) -> int:
    """Rows of a sequence: what leads up to a sequence, the sequence, and what its last return looks ahead."""
    return sequence_length(settings) + settings.network.memory.burn_in * remembers(settings) + settings.n_step


def scheduled(initial: float, end: float | None, horizon: int | None, samples: int) -> float:
    """Value after `samples` samples on the line from `initial` to `end` (None: constant) over `horizon` samples."""
    if end is None or horizon is None:
        return initial
    return initial + (end - initial) * min(samples / horizon, 1.0)
