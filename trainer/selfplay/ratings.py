"""Elo ratings by match, and how often each opponent was beaten."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.selfplay.settings import Sampling, SelfPlayConfig
from trainer.telemetry.metrics import EPISODES

_FORGET = 1 - 1 / EPISODES
_LEAST_CHANCE = 1e-3
"""Of an opponent that is always beaten, before chances are scaled: it is still met now and then."""


def saved_rating(state: Mapping[str, Any]) -> float | None:
    """Returns the lowest rating in what `League.state` returned; None if it has none, or one that is mostly luck."""
    ratings = list(state.get("ratings", {}).values())
    if not ratings or any(each["rated"] < EPISODES for each in ratings):
        return None
    return float(min(each["rating"] for each in ratings))


def expected_score(rating: float, other: float) -> float:
    """Returns the score that Elo's model expects against the other rating, 0 to 1."""
    return float(1 / (1 + 10 ** ((other - rating) / 400)))


@dataclass
class Opponent:
    """What is played against: a snapshot, or a fixed opponent."""

    name: str
    """For people: the samples of a snapshot, or what the settings name."""
    rating: float
    matches: float = 0.0
    """That were rated, of which older ones count less: about the last `EPISODES`."""
    lost: float = 0.0
    """Their summed scores, of those who played against it."""

    def add(self, score: float) -> None:
        """Adds the score of a match against it."""
        self.matches = _FORGET * self.matches + 1
        self.lost = _FORGET * self.lost + score

    @property
    def win_rate(self) -> float:
        """How often it was beaten, a draw counting half; 0.5 before anybody has played against it."""
        return self.lost / self.matches if self.matches else 0.5


class Ratings:
    """One behavior's rating, and those of all that others have played against as it."""

    def __init__(self, settings: SelfPlayConfig) -> None:
        self._settings = settings
        self.rating = settings.rating
        self.opponents: dict[int, Opponent] = {}
        """By number, those of all snapshots so far among them."""
        self.rated = self.unrated = 0
        """Matches so far in which it learned."""
        self._scores: deque[float] = deque(maxlen=EPISODES)

    @property
    def reliable(self) -> bool:
        """Whether so many matches were rated that the rating is no luck."""
        return self.rated >= EPISODES

    def add(self, opponent: Opponent | None, score: float) -> None:
        """Adds a match in which it learned, against an opponent, its own or another behavior's; None = not rated."""
        if opponent is None:
            self.unrated += 1
            return
        self.rated += 1
        self._scores.append(score)
        opponent.add(score)
        change = self._settings.k * (score - expected_score(self.rating, opponent.rating))
        self.rating += change
        opponent.rating -= change

    def window(self) -> list[int]:
        """Returns the numbers of the snapshots that are played against."""
        return sorted(number for number in self.opponents if number > 0)[-self._settings.window :]

    def chances(self) -> dict[int, float]:
        """Returns by number how likely each opponent is to be drawn, in proportion to the others."""
        pool = {n: self.opponents[n] for n in (*self.window(), *(n for n in self.opponents if n < 0))}
        if self._settings.sampling is Sampling.uniform:
            return dict.fromkeys(pool, 1.0)
        return {number: max(_LEAST_CHANCE, (1 - each.win_rate) ** 2) for number, each in pool.items()}

    def scalars(self) -> dict[str, float]:
        """Returns metrics: the rating, the share of matches won, and that of each opponent that was beaten."""
        pool = [self.opponents[number] for number in self.chances()]
        found = {"self_play/elo": self.rating, "self_play/snapshots": float(sum(n > 0 for n in self.opponents))}
        if self._scores:
            found["self_play/win_rate"] = sum(self._scores) / len(self._scores)
        if played := self.rated + self.unrated:
            found["self_play/rated"] = self.rated / played
        return {**found, **{f"self_play/against_{each.name}": each.win_rate for each in pool if each.matches}}

    def state(self) -> dict[str, Any]:
        """Returns what `load_state` takes, as JSON can hold it."""
        opponents = [[n, each.name, each.rating, each.matches, each.lost] for n, each in self.opponents.items()]
        own = {"rating": self.rating, "rated": self.rated, "unrated": self.unrated, "scores": list(self._scores)}
        return {**own, "opponents": opponents}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned."""
        self.rating, self.rated, self.unrated = state["rating"], state["rated"], state["unrated"]
        self._scores.extend(state["scores"])
        self.opponents = {number: Opponent(*rest) for number, *rest in state["opponents"]}
