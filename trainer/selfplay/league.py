"""What the learner's process keeps of self-play: snapshots, ratings, and whose turn it is to learn.

Like the curriculum it outlives collectors, and what it decides is a message to the one that plays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from envs.spec import Array
from trainer.config.schema import TrainConfig, behavior_config
from trainer.runtime.learner import Learner
from trainer.selfplay.matches import FIXED, Match, learning_team
from trainer.selfplay.ratings import Opponent, Ratings
from trainer.selfplay.settings import Sampling
from trainer.selfplay.snapshots import Snapshots


class Turn(NamedTuple):
    """What a collector has to know; sent whenever it changes."""

    turn: int
    """How often another team has begun to learn."""
    pools: Mapping[str, Mapping[int, float]]
    """By behavior, how likely each opponent is to be drawn."""


class Pool(NamedTuple):
    """One behavior with self-play."""

    learner: Learner
    snapshots: Snapshots
    ratings: Ratings


class League:
    """All behaviors with self-play; without any, it does nothing.

    `saved` is what `state` returned in the run that goes on.
    """

    def __init__(self, config: TrainConfig, saved: Mapping[str, Any] | None = None) -> None:
        self._config = config
        saved = saved or {}
        self.turn: int = saved.get("turn", 0)
        self._since: dict[str, int] = dict(saved.get("since", {}))
        """By behavior, its samples when the team began to learn."""
        self._snapshot_at: dict[str, int] = dict(saved.get("snapshot_at", {}))
        """By behavior, its samples when the last snapshot was made."""
        self._teams = [(behavior, team) for behavior, team in saved.get("teams", [])]
        self._ratings: Mapping[str, Any] = saved.get("ratings", {})
        self._pools: dict[str, Pool] = {}

    def add(self, learner: Learner) -> None:
        """Takes in the learner of a behavior, if that has self-play: the first snapshot is what it begins with."""
        name, snapshots = learner.spec.name, learner.snapshots
        settings = behavior_config(self._config, name).self_play
        if snapshots is None:
            return
        ratings = learner.ratings = Ratings(settings)
        self._pools[name] = Pool(learner, snapshots, ratings)
        if name in self._ratings:
            ratings.load_state(self._ratings[name])
        for place, path in enumerate(settings.fixed):
            ratings.opponents.setdefault(FIXED - place, Opponent(path, settings.rating))
        if name not in self._snapshot_at:
            self._since[name] = self._snapshot_at[name] = learner.samples()
            if settings.save_samples is not None:
                self._save(name)

    @property
    def learning(self) -> tuple[str, int] | None:
        """The behavior and the team that learn; None before any was seen."""
        return learning_team(self._teams, self.turn)

    @property
    def now(self) -> Turn:
        """What a collector has to know."""
        return Turn(self.turn, {name: pool.ratings.chances() for name, pool in self._pools.items()})

    def see(self, teams: Sequence[tuple[str, int]], matches: Sequence[Match]) -> bool:
        """Takes in the teams that play, and matches that have ended; returns whether `now` has changed."""
        self._teams = list(teams)
        for match in matches:
            opponent = None
            if match.opponent is not None:
                behavior, number = match.opponent
                opponent = self._pools[behavior].ratings.opponents.get(number)
            self._pools[match.behavior].ratings.add(opponent, match.score)
        return bool(matches) and any(
            behavior_config(self._config, name).self_play.sampling is Sampling.prioritised for name in self._pools
        )

    def advance(self) -> bool:
        """Makes snapshots and lets another team learn, if either is due; returns whether `now` has changed."""
        changed = False
        for name, pool in self._pools.items():
            every = behavior_config(self._config, name).self_play.save_samples
            if every is not None and pool.learner.samples() - self._snapshot_at[name] >= every:
                self._save(name)
                changed = True
        if (learning := self.learning) is not None:
            name = learning[0]
            learned = self._pools[name].learner.samples() - self._since[name]
            if learned >= behavior_config(self._config, name).self_play.team_samples:
                self.turn += 1
                self._since = {each: pool.learner.samples() for each, pool in self._pools.items()}
                changed = True
        return changed

    def rating_of(self, behavior: str) -> float | None:
        """Returns a behavior's rating; None before enough matches were rated, and without self-play."""
        pool = self._pools.get(behavior)
        return pool.ratings.rating if pool is not None and pool.ratings.reliable else None

    def plays(self, behavior: str) -> bool:
        """Returns whether a behavior has self-play."""
        return behavior in self._pools

    @property
    def rating(self) -> float | None:
        """The lowest of all ratings; None before all are known."""
        ratings = [self.rating_of(name) for name in self._pools]
        known = [rating for rating in ratings if rating is not None]
        return min(known) if known and len(known) == len(ratings) else None

    def ratings(self) -> dict[str, float]:
        """Returns by behavior its rating."""
        return {name: pool.ratings.rating for name, pool in self._pools.items()}

    def state(self) -> dict[str, Any]:
        """Returns what a resumed run continues from, as JSON can hold it."""
        return {
            "turn": self.turn,
            "teams": self._teams,
            "since": self._since,
            "snapshot_at": self._snapshot_at,
            "ratings": {name: pool.ratings.state() for name, pool in self._pools.items()},
        }

    def _save(self, name: str) -> None:
        """Makes a snapshot of what a behavior's actors have."""
        learner, snapshots, ratings = self._pools[name]
        number = 1 + max([0, *ratings.opponents])
        flat: Array = learner.published()
        ratings.opponents[number] = Opponent(str(learner.samples()), ratings.rating)
        snapshots.add(number, flat, ratings.window())
        self._snapshot_at[name] = learner.samples()
