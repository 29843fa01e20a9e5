"""What can be set about PPO."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from algorithms.settings import GradientSettings
from envs.config import setting
from envs.spec import UserError

EntropyPer = Enum("EntropyPer", ["joint", "branch"])
"""Whether an action counts as a whole, or each continuous number and each branch by itself."""


@dataclass
class PPOSettings(GradientSettings):
    """Proximal policy optimisation (arXiv 1707.06347), decoupled for stale data (arXiv 2110.00641)."""

    user_code: ClassVar[bool] = False
    heavier: ClassVar[str] = "algorithm.epochs"

    name: str = "ppo"
    """Name of the algorithm, which the choice of `algorithm` sets."""
    rollout_size: int = setting(2048, at_least=2)
    """Samples of one update. Larger: steadier gradients, fewer updates. Usual: 512 to 16384."""
    minibatch_size: int = setting(64, at_least=1)
    """Samples of one gradient step. Larger: steadier and fewer steps. Usual: 64 to 1024."""
    epochs: int = setting(10, at_least=1)
    """Passes over each rollout. More: more learned from each sample, further from the data's policy. Usual: 3 to 20."""
    gae_lambda: float = setting(0.95, at_least=0, at_most=1)
    """Decay of multi-step advantages, 0 to 1. Higher: less bias, more variance. Usual: 0.9 to 0.98."""
    clip: float = setting(0.2, above=0)
    """How far the probability ratio may move before its gradient ends. Higher: bolder updates. Usual: 0.1 to 0.3."""
    clip_end: float | None = setting(None, at_least=0)
    """Clip at the end of the schedule, reached linearly; null = constant."""
    target_kl: float | None = setting(0.02, above=0)
    """KL divergence of an update that the learning rate aims at: it falls where an update moves the policy by more than
    twice as much, and rises below half of it. Higher: bolder updates. null = the rate stays. Usual: 0.005 to 0.03."""
    entropy_coef: float | None = setting(None, at_least=0)
    """Weight of the entropy bonus. Higher: explores more and longer. null = 0.01 for choices, and 0 for continuous
    actions. Usual: 0 to 0.02."""
    entropy_coef_end: float | None = setting(None, at_least=0)
    """Weight of the entropy bonus at the end of the schedule, reached linearly; null = constant."""
    entropy_per: EntropyPer = EntropyPer["joint"]
    """`joint`: entropies add up beside the ratio of whole actions. `branch`, as in ML-Agents: each continuous number
    and each branch has a ratio of its own, whose mean counts; beside it stand the entropies of the branches and the
    mean of the continuous ones. With 4 branches the entropy then weighs 4 times as much."""
    value_weight: float = setting(0.5, at_least=0)
    """Weight of the value loss beside the policy's. Matters with a shared trunk. Usual: 0.25 to 1."""
    value_clip: float | None = setting(None, above=0)
    """How far a value may move from the rollout's value, in deviations of its returns (in their own unit without
    `normalize_returns`); null = no limit. Lower: slower, steadier. Usual: 0.1 to 1."""
    max_gradient_norm: float | None = setting(0.5, above=0)
    """Gradients of policy and value are each scaled down to this norm; null = never. Lower: steadier, slower.
    Usual: 0.3 to 1."""
    shared_trunk: bool = False
    """Whether policy and value share all layers before their heads, a recurrent one too: cheaper, but their gradients
    interfere."""
    vtrace: bool = True
    """Whether value targets correct for stale data (V-trace, arXiv 1802.01561). Equal to GAE on fresh data."""
    rho_clip: float = setting(1.0, above=0)
    """Truncation of the stale data's importance weights. Higher: less bias, more variance. Usual: 1 to 2."""
    max_lag: int = setting(1, at_least=0)
    """Policy versions that a sample may be old; older ones are dropped and counted. At 1, games go on during an update
    as long as it takes no longer than collecting a rollout. Higher: staler data. 0: collection waits for updates.
    Usual: 0 to 3."""

    @property
    def algorithm(self) -> str:
        """The import path of PPO."""
        return "algorithms.ppo.ppo:PPO"

    @property
    def lighter(self) -> str:
        """What makes updates shorter, or lets games go on meanwhile."""
        if self.max_lag == 0:
            return "with algorithm.max_lag=0 they wait during each update, so raise it"
        return "lower algorithm.epochs or raise algorithm.minibatch_size"

    def min_rows(self) -> int:
        """Returns what waits while the lag allows it, the rollout in hand, and what is still open."""
        return 2 * (self.max_lag + 2) * self.rollout_size

    def fresh_rows(self) -> int:
        """Returns those of the rollouts that the lag allows."""
        return self.max_lag * self.rollout_size

    def validate(self, prefix: str = "algorithm") -> None:
        """Checks as the base does, and that a rollout holds what is cut from it; raises UserError."""
        super().validate(prefix)
        if self.minibatch_size > self.rollout_size:
            raise UserError(
                f"{prefix}.minibatch_size={self.minibatch_size} is larger than "
                f"{prefix}.rollout_size={self.rollout_size}: a minibatch is a part of a rollout"
            )
        if self.network.sequence_length > self.rollout_size:
            raise UserError(
                f"{prefix}.network.memory.sequence_length={self.network.memory.sequence_length} is longer than "
                f"{prefix}.rollout_size={self.rollout_size}: a sequence is a part of a rollout"
            )
