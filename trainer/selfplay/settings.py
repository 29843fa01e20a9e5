"""The settings of self-play. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from envs.config import setting

TEAM_CHANGE_SAVES = 5
"""A team learns for so many snapshots, unless `team_change_samples` says for how long."""
_SAVE_SAMPLES = 20_000
"""Where nothing is saved, `team_change_samples` is what it would be with this."""


class Sampling(Enum):
    """How a snapshot is drawn from the pool."""

    uniform = "uniform"
    """All alike."""
    prioritised = "prioritised"
    """The more often, the fewer of the last matches against it were won: weights are (1 - win rate)^2."""


@dataclass(frozen=True)
class SelfPlayConfig:
    """Play against earlier versions: one team learns at a time, all others act with snapshots of their policies."""

    save_samples: int | None = setting(None, above=0)
    """Samples of the behavior between two snapshots of its policy; null = no self-play, or only against `fixed`. More:
    opponents differ more from each other. Usual: 1e4 to 1e5."""
    team_change_samples: int | None = setting(None, above=0)
    """Samples after which another team learns; null = 5 times `save_samples`. More: each team learns longer against the
    same opponents. Usual: 3 to 10 times `save_samples`."""
    window: int = setting(10, at_least=1, at_most=1000)
    """How many of the newest snapshots are played against. More: what has beaten older ones is not forgotten. Usual: 5
    to 30."""
    latest_ratio: float = setting(0.5, at_least=0, at_most=1)
    """Share of the episodes in which a team that does not learn acts with the newest weights, as they change; these are
    not rated. More: stronger opponents, which are all alike. Usual: 0.2 to 0.8."""
    sampling: Sampling = Sampling.uniform
    """How other opponents are drawn: `uniform`, or `prioritised`, more often those that are seldom beaten."""
    opponents: int = setting(4, at_least=2, at_most=64)
    """How many opponents act at a time, in all instances together. More: more varied, and a forward pass for each.
    Usual: 2 to 8."""
    fixed: list[str] = field(default_factory=list)
    """Opponents that are drawn besides snapshots: folders of runs, `.onnx` files, or import paths of bots
    (`package.module:Class`)."""
    result: str = "reward"
    """What says who has won, above 0, lost, below 0, or drawn: `reward`, the last one of the episode with the group's;
    `return`, their sum; or a number that the game reports at an episode's end."""
    rating: float = setting(1200.0)
    """Elo rating to begin with."""
    k: float = setting(16.0, above=0)
    """The most that a match changes a rating. More: it follows the play faster, and varies more by chance. Usual: 4 to
    32."""

    @property
    def enabled(self) -> bool:
        """Whether the behavior plays against others than itself."""
        return self.save_samples is not None or bool(self.fixed)

    @property
    def team_samples(self) -> int:
        """Samples after which another team learns."""
        return self.team_change_samples or TEAM_CHANGE_SAVES * (self.save_samples or _SAVE_SAMPLES)
