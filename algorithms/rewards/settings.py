"""What can be set about reward signals, and what a run asks of each signal's settings. This file imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from algorithms.settings import check_schedules
from envs.config import check_ranges, path_field, setting

RewardType = Enum("RewardType", ["signed", "positive", "negative"])
"""What GAIL pays, of the discriminator's D: `signed` log D - log(1 - D), `positive` -log(1 - D), `negative` log D."""


@dataclass
class SignalSettings:
    """What every reward signal can be set, and what a run asks of any. Those of a signal derive from it."""

    signal: ClassVar[str] = ""
    """The import path of its class; empty = that of its entry point."""

    strength: float = setting(1.0, at_least=0)
    """What this reward counts beside others; 0 = nothing. Returns of all are brought to one size before, unless
    `algorithm.normalize_returns` is false. Usual: 0.1 to 2."""
    discount: float | None = setting(None, at_least=0, at_most=1)
    """Weight of this reward one step later, 0 to 1; null = `algorithm.discount`. Higher: its effect reaches further.
    Usual: 0.9 to 0.999."""

    @property
    def pays(self) -> bool:
        """Whether anything is paid at any time."""
        return self.strength > 0

    def own(self, prefix: str) -> SignalSettings:
        """Returns the settings that the signal is made with."""
        return self

    def demo_paths(self) -> dict[str, str | None]:
        """Returns where demonstrations are taken from, by the keys that say so."""
        return {}

    def validate(self, prefix: str) -> None:
        """Checks ranges and what has to go together; `prefix` is where the settings stand in the configuration.

        Raises UserError if something is wrong; the message names its key.
        """
        check_ranges(self, prefix)
        check_schedules(self, prefix)


@dataclass
class ExtrinsicSettings(SignalSettings):
    """The reward that the environment itself gives."""


@dataclass
class LearnedSignalSettings(SignalSettings):
    """What signals can be set whose networks learn beside the policy."""

    strength_end: float | None = setting(None, at_least=0)
    """Strength at the end of the schedule, reached linearly; null = constant."""
    schedule_samples: int | None = setting(None, at_least=1)
    """Samples after which `strength_end` is reached; needed if it is set."""
    hidden: list[int] = setting(default_factory=lambda: [128, 128], at_least=1)
    """Units of each hidden layer of its networks. Usual: 64 to 256."""
    learning_rate: float = setting(3e-4, above=0)
    """Step of Adam for its networks. Higher: they follow what agents do sooner. Usual: 1e-4 to 1e-3."""
    updates_per_sample: float = setting(0.05, above=0)
    """Gradient steps of its networks for each sample collected. Usual: 0.01 to 0.5."""
    batch_size: int = setting(128, at_least=1)
    """Steps of the agent of one gradient step; for SAC no more than its own batch. Usual: 64 to 512."""
    bound: float = setting(5.0, above=0)
    """Largest reward that it pays, before the strength. Usual: 1 to 10."""

    @property
    def pays(self) -> bool:
        """Whether anything is paid at any time."""
        return self.strength > 0 or (self.strength_end or 0) > 0


@dataclass
class GAILSettings(LearnedSignalSettings):
    """Generative adversarial imitation (arXiv 1606.03476), off-policy and with absorbing states (arXiv 1809.02925).

    A discriminator learns to tell demonstrated steps from the agent's own; the agent is paid for being taken for a
    demonstrator. Too many hidden units: it learns few demonstrations by heart. A higher learning rate: it follows the
    agent faster, and is harder to convince. A batch has as many demonstrated steps as the agent's own.
    """

    signal: ClassVar[str] = "algorithms.rewards.gail:GAIL"

    demos: str | None = path_field()
    """Demonstrations: a `.demo` file, a folder of them, or a pattern; null = no GAIL."""
    strength: float = setting(0.1, at_least=0)
    """What this reward counts beside `extrinsic.strength` for the environment's. Usual: 0.01 to 1."""
    reward_type: RewardType = RewardType["signed"]
    """`signed`, `positive` or `negative`: what is paid. None of them pays for living or dying by itself."""
    use_actions: bool = False
    """Whether the discriminator sees actions too: imitates closely. Without: what was reached counts, not how."""
    gradient_penalty: float = setting(10.0, at_least=0)
    """Weight of the penalty on gradients that differ from 1 (arXiv 1704.00028), over all inputs. Higher: smoother.
    Usual: 1 to 20."""

    @property
    def pays(self) -> bool:
        """Whether there are demonstrations."""
        return self.demos is not None

    def demo_paths(self) -> dict[str, str | None]:
        """Returns that of its demonstrations."""
        return {"demos": self.demos}


@dataclass
class IntrinsicSettings(LearnedSignalSettings):
    """What signals have in common that pay agents for what is new to them."""

    strength: float = setting(0.0, at_least=0)
    """What this reward counts beside `extrinsic.strength` for the environment's; 0 = none. Returns of both are brought
    to one size before. Usual: 0.1 to 2."""
    encoding_size: int = setting(64, at_least=2)
    """Numbers in which its networks describe an observation. More: finer differences count as new.
    Usual: 16 to 256."""


@dataclass
class CuriositySettings(IntrinsicSettings):
    """Curiosity (ICM, arXiv 1705.05363): pays for what a model of the agent's actions' effects predicts wrongly."""

    signal: ClassVar[str] = "algorithms.rewards.curiosity:Curiosity"

    forward_share: float = setting(0.2, above=0, below=1)
    """Weight of the forward model's loss, between 0 and 1; the inverse model's has the rest (the paper's beta).
    Usual: 0.1 to 0.5."""


@dataclass
class RNDSettings(IntrinsicSettings):
    """RND (arXiv 1810.12894): pays for observations for which a fixed random network's output is predicted wrongly."""

    signal: ClassVar[str] = "algorithms.rewards.rnd:RND"
