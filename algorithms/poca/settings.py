"""What can be set about POCA."""

from __future__ import annotations

from dataclasses import dataclass

from algorithms.ppo.settings import PPOSettings
from envs.config import setting
from envs.spec import UserError


@dataclass
class POCASettings(PPOSettings):
    """MA-POCA (arXiv 2111.05992): PPO for agents that are paid as a group and may leave before it."""

    name: str = "poca"
    """Name of the algorithm, which the choice of `algorithm` sets."""
    max_group: int = setting(16, at_least=2, at_most=256)
    """Agents of a group that are learned from together; of a larger one, each row tells of so many. More: rows take 8
    bytes for each."""

    @property
    def algorithm(self) -> str:
        """The import path of POCA."""
        return "algorithms.poca.poca:POCA"

    @property
    def mates(self) -> int:
        """Teammates of an agent that each of its rows names at most."""
        return self.max_group - 1

    def validate(self, prefix: str = "algorithm") -> None:
        """Checks as PPO does, and that the critic is a network of its own; raises UserError."""
        super().validate(prefix)
        if self.shared_trunk:
            raise UserError(
                f"{prefix}.shared_trunk=true: POCA's critic sees the whole group and its policy one agent, so they "
                f"share no layers; leave {prefix}.shared_trunk out, or choose algorithm=ppo"
            )
