"""Who plays whom in each instance: which teams learn, what the others act with, and how it ended.

A *side* is what a team is from its episode's beginning on: learning, or acting with one opponent. Agents that begin
while it plays join it. Once all that began with it have ended, the next to begin makes a new side. So a team
of one game area is one side from begin to end, and of several areas in an instance, which nothing tells apart, a side
lasts until each has ended an episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

LEARNING, LATEST, NOBODY = -1, 0, -(2**31)
"""What an agent may act with besides snapshots, whose numbers begin at 1: the policy that learns, whose steps become
rows; the same policy, whose steps do not; nothing, as its episode has not begun."""
FIXED = -2
"""The first of the fixed opponents; the next is -3."""


class Match(NamedTuple):
    """How a side that learned has ended."""

    behavior: str
    opponent: tuple[str, int] | None
    """The behavior and the number of what its opponents acted with from begin to end; None if it was not one alone, or
    the newest weights: then the match is not rated."""
    score: float
    """1 if it has won, 0.5 for a draw, 0 if it has lost."""


@dataclass
class Side:
    """A team in an instance."""

    behavior: str
    instance: int
    team: int
    role: int
    began: int
    """When it was made: agents that begin together with its first one are its founders."""
    founders: int = 0
    """That still play."""
    agents: int = 0
    """That still play, with those that have joined."""
    value: float = 0.0
    """What decides the match, so far."""
    met: list[tuple[str, int]] = field(default_factory=list)
    """What other sides of the instance acted with since it began."""


class Matches:
    """All sides of a collector, of all behaviors with self-play."""

    def __init__(self) -> None:
        self.turn = 0
        """How often another team has begun to learn."""
        self.pools: Mapping[str, Mapping[int, float]] = {}
        """By behavior and number, how likely each opponent is to be drawn."""
        self.finished: list[Match] = []
        """Since they were last taken."""
        self._teams: list[tuple[str, int]] = []
        self._now: dict[tuple[str, int, int], Side] = {}
        """By behavior, instance and team, the side that was made last."""
        self._playing: dict[int, list[Side]] = {}
        """By instance."""
        self._message, self._new = 0, False
        """A number for agents that begin together, and whether those to come begin later."""

    @property
    def teams(self) -> Sequence[tuple[str, int]]:
        """Behaviors and teams that have been seen, in the order in which they learn."""
        return self._teams

    def see(self, behavior: str, teams: Sequence[int]) -> None:
        """Notes teams of a behavior; all that have appeared should be known before any of them begins."""
        if new := {(behavior, team) for team in teams} - set(self._teams):
            self._teams = sorted({*self._teams, *new})

    def learns(self, behavior: str, team: int, instance: int) -> bool:
        """Returns whether it is this team that learns, if its episode begins now in an instance."""
        return learning_team(self._teams, self.turn) == (behavior, team)

    def next_message(self) -> None:
        """Lets agents that begin from now on be of other sides than those that began before."""
        self._new = True

    def begin(self, behavior: str, instance: int, team: int, draw: Callable[[], int]) -> tuple[Side, bool]:
        """Returns the side of an agent whose episode begins, and whether it is one of its founders."""
        self._message, self._new = self._message + self._new, False
        key = behavior, instance, team
        side, playing = self._now.get(key), self._playing.setdefault(instance, [])
        if side is None or (side.founders == 0 and side.began != self._message):
            role = LEARNING if self.learns(behavior, team, instance) else draw()
            side = self._now[key] = Side(behavior, instance, team, role, self._message)
            side.met += [(other.behavior, other.role) for other in playing]
            for other in playing:
                other.met.append((behavior, role))
            playing.append(side)
        founds = side.began == self._message
        side.founders += founds
        side.agents += 1
        return side, founds

    def end(self, side: Side, founders: int, agents: int, value: float | None) -> None:
        """Counts agents of a side whose episodes have ended, `founders` among them.

        `value` is what decides the match if these are its last founders; None if they were lost, and nothing does.
        """
        side.founders -= founders
        side.agents -= agents
        if side.founders == 0 and founders and side.role == LEARNING and value is not None:
            met = {each for each in side.met if each[1] != LEARNING}
            rated = len(met) == 1 and all(number != LATEST for _, number in met)
            score = 1.0 if value > 0 else 0.0 if value < 0 else 0.5
            self.finished.append(Match(side.behavior, next(iter(met)) if rated else None, score))
        if side.agents == 0:
            self._playing[side.instance].remove(side)

    def state(self) -> dict[str, Any]:
        """Returns what `load_state` takes, as JSON can hold it."""
        return {"message": self._message, "sides": [asdict(side) for side in self.sides]}

    @property
    def sides(self) -> list[Side]:
        """All that play, in a fixed order."""
        return [side for _, playing in sorted(self._playing.items()) for side in playing]

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` returned."""
        self._message = state["message"]
        for each in state["sides"]:
            side = Side(**{**each, "met": [(behavior, number) for behavior, number in each["met"]]})
            self._playing.setdefault(side.instance, []).append(side)
            before = self._now.get(key := (side.behavior, side.instance, side.team))
            if before is None or side.began > before.began:
                self._now[key] = side


def learning_team(teams: Sequence[tuple[str, int]], turn: int) -> tuple[str, int] | None:
    """Returns which of the `teams`, in their order, learns after so many changes; None if there is none."""
    return teams[turn % len(teams)] if teams else None
