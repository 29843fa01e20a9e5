"""Matches between two players, and tournaments: who wins how often, and how much better that makes them.

Each plays on every side: in an instance the teams take turns from match to match.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.api import Manager, Setup
from envs.config import EnvConfig
from envs.spec import Array, BehaviorSpec, Decisions, Ready, UserError
from trainer.evaluate.results import share_interval
from trainer.selfplay.matches import LEARNING, Match, Matches, Side
from trainer.selfplay.players import Act

Player = Callable[[BehaviorSpec], Act]
"""What acts for a behavior's agents on its side."""
_OTHER = 1
_RECV_SECONDS = 1.0
_SCALE = 400 / math.log(10)
"""Elo points for a factor e of the odds."""


@dataclass(frozen=True)
class Tally:
    """How matches between two have ended."""

    wins: int
    draws: int
    losses: int

    @property
    def matches(self) -> int:
        """How many there were."""
        return self.wins + self.draws + self.losses

    @property
    def score(self) -> float:
        """The share that was won; a draw counts half."""
        return (self.wins + self.draws / 2) / self.matches

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the score, by Wilson: a little wide where there are draws."""
        low, high = share_interval(self.wins + self.draws / 2, self.matches)
        return low, high

    @property
    def rating_difference(self) -> tuple[float, float, float]:
        """By how many points of Elo's scale the first is better, and the 95 % interval; infinite where all were won."""
        low, high = self.interval
        return rating_of(self.score), rating_of(low), rating_of(high)


def rating_of(score: float) -> float:
    """Returns the difference of ratings that makes a score, 0 to 1, likely."""
    if score in (0.0, 1.0):
        return math.copysign(math.inf, score - 0.5)
    return _SCALE * math.log(score / (1 - score))


class _Sides(Matches):
    """Who plays which side: the first player has another team in each match of an instance."""

    def __init__(self) -> None:
        super().__init__()
        self.played: dict[int, int] = {}
        """By instance, the matches that have ended."""

    def learns(self, behavior: str, team: int, instance: int) -> bool:
        """Returns whether the first player has this team in the match that begins."""
        place = (instance + self.played.get(instance, 0)) % len(self.teams)
        return self.teams[place] == (behavior, team)


def play_matches(
    manager: Manager,
    players: tuple[Player, Player],
    matches: int,
    result: str = "reward",
    on_match: Callable[[float], None] = lambda _: None,
) -> Tally:
    """Plays so many matches on a started manager's instances, each its share; `result` is that of `self_play`.

    Raises UserError if all agents are on one team, or the environment says nothing of teams.
    """
    share, more = divmod(matches, manager.instances)
    left = [share + (i < more) for i in range(manager.instances)]
    sides, scores = _Sides(), []
    acts: dict[tuple[str, int], Act] = {}
    playing: dict[tuple[str, int], tuple[Side, bool]] = {}
    returns: dict[tuple[str, int], float] = {}
    while sum(left):
        while manager.events:
            print(manager.events.popleft().text, file=sys.stderr)
        got = manager.recv(_RECV_SECONDS)
        for behavior, ready in got.items():
            for agent in ready.lost.tolist():
                if (behavior, agent) in playing:
                    sides.end(*_counted(playing.pop((behavior, agent))), None)
            for instance, match in _ended(behavior, ready, playing, returns, sides, result):
                sides.played[instance] = sides.played.get(instance, 0) + 1
                if left[instance] and match.opponent is not None:
                    left[instance] -= 1
                    scores.append(match.score)
                    on_match(match.score)
            decisions = ready.decisions
            if len(decisions.agent):
                if not len(decisions.team):
                    raise UserError("matches need teams, and this environment does not say who is on which")
                sides.see(behavior, np.unique(decisions.team).tolist())
        sides.next_message()
        for behavior, ready in got.items():
            if len(ready.decisions.agent):
                spec = manager.specs[behavior]
                answer = _answer(spec, ready.decisions, players, sides, playing, acts)
                manager.send(behavior, *answer)
    return Tally(scores.count(1.0), scores.count(0.5), scores.count(0.0))


def _counted(of: tuple[Side, bool]) -> tuple[Side, int, int]:
    return of[0], int(of[1]), 1


def _ended(
    behavior: str,
    ready: Ready,
    playing: dict[tuple[str, int], tuple[Side, bool]],
    returns: dict[tuple[str, int], float],
    sides: _Sides,
    result: str,
) -> list[tuple[int, Match]]:
    """Takes in results, and returns the matches that they have ended, with their instances."""
    results, found = ready.results, []
    over = results.terminated | results.truncated
    for i, agent in enumerate(results.agent.tolist()):
        key, reward = (behavior, agent), float(results.reward[i])
        returns[key] = returns.get(key, 0.0) + reward
        if not over[i]:
            continue
        side, founder = playing.pop(key)
        whole, value = returns.pop(key), reward
        if result == "return":
            side.value += whole
            value = side.value
        elif result != "reward":
            value = ready.metrics.get(agent, {}).get(result, 0.0)
        sides.end(side, int(founder), 1, value)
        if side.role == LEARNING and len(sides.teams) == 1:
            raise UserError(f"matches need two teams, and all agents are on team {side.team} of behavior {behavior!r}")
        found += [(side.instance, match) for match in sides.finished]
        sides.finished.clear()
    return found


def _answer(
    spec: BehaviorSpec,
    decisions: Decisions,
    players: tuple[Player, Player],
    sides: _Sides,
    playing: dict[tuple[str, int], tuple[Side, bool]],
    acts: dict[tuple[str, int], Act],
) -> tuple[Array, Array, Array]:
    """Returns agents and their actions, each by the player of its side."""
    begun = np.zeros(len(decisions.agent), bool)
    first = np.zeros(len(decisions.agent), bool)
    for i, agent in enumerate(decisions.agent.tolist()):
        if (key := (spec.name, agent)) not in playing:
            instance, team = int(decisions.instance[i]), int(decisions.team[i])
            playing[key] = sides.begin(spec.name, instance, team, lambda: _OTHER)
            begun[i] = True
        first[i] = playing[key][0].role == LEARNING
    answers = []
    for place, rows in enumerate((first, ~first)):
        if rows.any():
            if (spec.name, place) not in acts:
                acts[spec.name, place] = players[place](spec)
            own = decisions if rows.all() else decisions.take(rows)
            answers.append((own.agent, *acts[spec.name, place](own, begun[rows])))
    agents, continuous, discrete = (np.concatenate(each) for each in zip(*answers))
    return agents, continuous, discrete


def meet(
    env: EnvConfig,
    players: tuple[Player, Player],
    matches: int,
    seed: int,
    logs: Path,
    result: str = "reward",
    on_match: Callable[[float], None] = lambda _: None,
) -> Tally:
    """Lets two play against each other in instances of their own, and returns how it ended for the first."""
    env = env.for_evaluation(min(matches, env.instances))
    with env.make_manager(Setup(seed, logs)) as manager:
        manager.lockstep = env.reproducible
        manager.start()
        return play_matches(manager, players, matches, result, on_match)


def fitted_ratings(names: Sequence[str], tallies: Mapping[tuple[str, str], Tally], mean: float = 1200.0) -> list[float]:
    """Returns the ratings by Bradley and Terry that make all results likeliest, with this mean.

    A drawn match more between each pair keeps them finite, where somebody has won all.
    """
    strength = np.ones(len(names))
    scores, count = np.zeros(len(names)), np.zeros((len(names), len(names)))
    for (one, other), tally in tallies.items():
        i, j = names.index(one), names.index(other)
        scores[i] += tally.wins + tally.draws / 2 + 0.5
        scores[j] += tally.losses + tally.draws / 2 + 0.5
        count[i, j] = count[j, i] = tally.matches + 1
    for _ in range(_ROUNDS):  # Hunter (2004), doi 10.1214/aos/1079120141
        strength = scores / (count / (strength[:, None] + strength)).sum(axis=1)
        strength /= np.exp(np.log(strength).mean())
    return [float(mean + _SCALE * math.log(each)) for each in strength]


_ROUNDS = 1000


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns who meets whom in a tournament."""
    return list(itertools.combinations(names, 2))
