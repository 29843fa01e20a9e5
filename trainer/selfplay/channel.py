"""One behavior's way from decisions to rows, where teams that do not learn act as opponents and leave no rows.

Shapes: N decisions, M results; A agents seen so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from buffers.rows import Writer
from envs.spec import Array, BehaviorSpec, Decisions, Ready, StepResults, UserError, joined
from trainer.runtime.collector import Actor, Channel
from trainer.selfplay.matches import LATEST, LEARNING, NOBODY, Matches, Side
from trainer.selfplay.opponents import Opponents
from trainer.telemetry.goal import PATIENCE


class SelfPlayChannel(Channel):
    """A channel whose agents play as the policy that learns, or as one of its `opponents`."""

    def __init__(
        self,
        spec: BehaviorSpec,
        actor: Actor,
        writer: Writer,
        counters: Array,
        total: Callable[[], int],
        group_owners: dict[int, str],
        matches: Matches,
        opponents: Opponents,
        result: str,
    ) -> None:
        """`matches` are those of all behaviors, `result` says what decides one (`SelfPlayConfig`)."""
        self.opponents, self._matches, self._result = opponents, matches, result
        self._roles: Array = np.zeros(0, np.int64)
        """(A,) what each agent plays as."""
        self._sides: dict[int, tuple[Side, bool]] = {}
        """By agent, its side, and whether it is one of the founders."""
        self._missed = 0
        """Ends of episodes without the number that decides a match, while none had it."""
        super().__init__(spec, actor, writer, counters, total, group_owners)

    def take(self, ready: Ready) -> None:
        """Closes the rows of agents that learn, and keeps decisions until `act`."""
        decisions, results = ready.decisions, ready.results
        self._matches.next_message()
        for agent in ready.lost.tolist():
            if agent in self._sides:
                side, founder = self._leave(agent)
                self._matches.end(side, founder, 1, None)
        if len(decisions.agent):
            if not len(decisions.team):
                raise UserError(
                    f"behavior {self.spec.name!r}: self_play needs to know on which team an agent plays, and this "
                    "environment does not say: leave self_play out"
                )
            self._matches.see(self.spec.name, np.unique(decisions.team).tolist())
        if len(results.agent):
            learns = self._roles[results.agent] == LEARNING
            ended = np.flatnonzero(results.terminated | results.truncated)
            if len(ended):
                self._end(ready, ended)
            if not learns.all():
                ready = ready._replace(results=_only(results, learns))
        super().take(ready)

    def act(self) -> tuple[Array, Array, Array]:
        """Acts for all that wait: one pass with the newest weights, and one for each opponent that is asked."""
        decisions = joined(self._pending)
        self._pending.clear()
        if (highest := int(decisions.agent.max())) >= len(self._roles):
            self._grow(2 * highest + 1)
        begun = self._begin(decisions)
        roles = self._roles[decisions.agent]
        answers = []
        newest = (roles == LEARNING) | (roles == LATEST)
        if newest.any():
            of_newest = decisions if newest.all() else decisions.take(newest)
            state, acted = self._choose(of_newest)
            self._open_learning(of_newest, state, acted)
            answers.append((of_newest.agent, acted[0], acted[1]))
        for number in np.unique(roles[~newest]).tolist():
            rows = roles == number
            asking = decisions.take(rows)
            answers.append((asking.agent, *self.opponents.act(number, asking, begun[rows])))
        agents, continuous, discrete = (np.concatenate(each) for each in zip(*answers))
        return agents, continuous, discrete

    def state(self) -> dict[str, Any]:  # noqa: D102
        sides = self._matches.sides
        places = {id(side): place for place, side in enumerate(sides)}
        agents = [[agent, places[id(side)], founder] for agent, (side, founder) in self._sides.items()]
        own = {"agents": agents, "opponents": self.opponents.state(), "missed": self._missed}
        return {**super().state(), "self_play": own}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` returned; that of the matches has to be loaded."""
        super().load_state(state)
        own, sides = state["self_play"], self._matches.sides
        self.opponents.load_state(own["opponents"])
        self._missed = own["missed"]
        for agent, place, founder in own["agents"]:
            self._sides[agent] = sides[place], founder
            self._roles[agent] = sides[place].role

    def _begin(self, decisions: Decisions) -> Array:
        """Gives agents whose episodes begin something to play as; returns which do (N,)."""
        begun: Array = self._roles[decisions.agent] == NOBODY
        pool = self._matches.pools.get(self.spec.name, {})
        for i in np.flatnonzero(begun).tolist():
            agent, instance, team = (int(each[i]) for each in (decisions.agent, decisions.instance, decisions.team))
            side, founder = self._matches.begin(self.spec.name, instance, team, lambda: self.opponents.draw(pool))
            self._sides[agent], self._roles[agent] = (side, founder), side.role
            if side.role not in (LEARNING, LATEST):
                self.opponents.join(side.role, agent)
        return begun

    def _open_learning(self, decisions: Decisions, state: Array, acted: tuple[Array, ...]) -> None:
        """Holds what the rows of agents that learn will hold; of the others, the recurrent state alone."""
        learns = self._roles[decisions.agent] == LEARNING
        if learns.all():
            self._open_rows(decisions, state, (acted[0], acted[1], acted[2], acted[3]))
            return
        self._open["state_after"][decisions.agent] = acted[3]
        if learns.any():
            own = acted[0][learns], acted[1][learns], acted[2][learns], acted[3][learns]
            self._open_rows(decisions.take(learns), state[learns], own)

    def _end(self, ready: Ready, ended: Array) -> None:
        """Ends the episodes of agents in these rows of the results: what they play as, and perhaps their matches."""
        results = ready.results
        over: dict[int, tuple[Side, list[int]]] = {}
        reported: dict[int, float | None] = {}
        for row in ended.tolist():
            agent = int(results.agent[row])
            reward = float(results.reward[row])
            whole = reward + float(self._open["reward"][agent])  # zero but for agents that learn
            side, founder = self._leave(agent)
            numbers = over.setdefault(id(side), (side, [0, 0]))[1]
            numbers[0] += founder
            numbers[1] += 1
            if founder and self._result == "return":
                side.value += whole
            elif founder and self._result == "reward":
                side.value = reward if numbers[0] == 1 else side.value + reward
            elif founder and side.role == LEARNING:
                reported[id(side)] = self._reported(ready.metrics.get(agent, {}))
            if side.role != LEARNING:
                self._open["state_after"][agent] = 0
        for side, (founders, agents) in over.values():
            value = side.value if self._result in ("reward", "return") else reported.get(id(side))
            self._matches.end(side, founders, agents, value)
            if side.role == LEARNING and len(self._matches.teams) == 1:
                self._refuse_one_team(side.team)

    def _reported(self, found: Mapping[str, float]) -> float | None:
        """Returns the number by which the game says who has won; None if it is missing this time."""
        if self._result in found:
            self._missed = -1
            return found[self._result]
        self._missed += self._missed >= 0
        if self._missed == PATIENCE:
            there = ", ".join(sorted(found)) or "none"
            raise UserError(
                f"behavior {self.spec.name!r}: self_play.result={self._result} is not among the numbers that episodes "
                f"end with; there is {there}. Take reward or return, or a number that the game reports"
            )
        return None

    def _refuse_one_team(self, team: int) -> None:
        raise UserError(
            f"behavior {self.spec.name!r}: self_play needs two teams, and an episode has ended in which all agents "
            f"were on team {team}: give the other side another team (in Unity Team Id, of Behavior Parameters), or a "
            "behavior of its own with self_play"
        )

    def _leave(self, agent: int) -> tuple[Side, bool]:
        side, founder = self._sides.pop(agent)
        self._roles[agent] = NOBODY
        if side.role not in (LEARNING, LATEST):
            self.opponents.leave(side.role)
        return side, founder

    def _grow(self, agents: int) -> None:
        super()._grow(agents)
        grown = np.full(agents, NOBODY, np.int64)
        grown[: len(self._roles)] = self._roles
        self._roles = grown


def _only(results: StepResults, rows: Array) -> StepResults:
    """Returns the results in `rows`, bool (M,)."""
    cut = rows[results.truncated]
    return StepResults(
        results.instance[rows],
        results.agent[rows],
        results.reward[rows],
        results.terminated[rows],
        results.truncated[rows],
        tuple(each[cut] for each in results.final_observations),
        results.final_mask[cut],
        results.group_reward[rows] if len(results.group_reward) else results.group_reward,
    )
