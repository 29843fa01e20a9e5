"""What can be set about SAC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from algorithms.settings import OffPolicySettings, PolicyKind
from envs.config import setting


@dataclass
class SACSettings(OffPolicySettings):
    """Soft actor-critic (arXiv 1801.01290, 1812.05905) for continuous, branched discrete and hybrid actions."""

    policy_kind: ClassVar[PolicyKind] = "sac"
    user_code: ClassVar[bool] = False

    name: str = "sac"
    """Name of the algorithm, which the choice of `algorithm` sets."""
    learning_rate: float = setting(5e-4, above=0)
    """Step of Adam for actor, critics and temperatures. Higher: faster and less steady. Usual: 1e-4 to 1e-3."""
    temperature: float = setting(0.1, above=0)
    """Weight of the entropy at the start, in deviations of returns (in the rewards' unit without `normalize_returns`).
    Higher: explores more. Usual: 0.01 to 0.5."""
    learn_temperature: bool = True
    """Whether each action block learns its own temperature to hold its target entropy; else `temperature` stays."""
    discrete_entropy: float = setting(0.3, at_least=0, at_most=1)
    """Target entropy of a branch as a share of ln(allowed choices). Higher: explores more. Usual: 0.1 to 0.7."""
    continuous_entropy: float = -1.0
    """Target entropy for each continuous action, in nats. Higher: explores more. Usual: -2 to 0."""
    accelerate: bool = True
    """Whether updates of plain MLPs run with gradients written by hand, which changes no result and saves a quarter of
    their time; other networks always do without. False: the update as algorithms/sac/update.py has it."""
    dueling: bool = False
    """Whether critics tell how good a state is apart from how much better one choice of a branch is than others (arXiv
    1511.06581), and begin with all alike: choices not tried keep up with others. For games that have to be explored."""

    @property
    def algorithm(self) -> str:
        """The import path of SAC."""
        return "algorithms.sac.sac:SAC"
