"""Who plays with whom: teammates of agents that are paid together, for a behavior whose rows name them.

A row names the rows of its teammates at the same decision. Those have numbers once their steps have closed; where a
teammate takes longer, what it saw and does is appended as a row of its own. An agent that leaves before its group is
followed by its group: by a final row without the agent, which names those who go on.

Shapes: M results, K of them followed by a last observation, N decisions, G teammates that a row names at most, A
agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from buffers.rows import Writer, observation_names
from envs.spec import Array, Decisions, Ready, StepResults, UserError

_NONE: Array = np.zeros(0, np.int64)


class Closed(NamedTuple):
    """Results, as rows hold them."""

    results: StepResults
    """Rewards are what the agent, its group, and its teammates by themselves were paid. `truncated` are the K that are
    followed by a last observation: also those that terminated while their group went on."""
    mates: Array = _NONE
    """(M, G) int64, as in rows."""
    final_mates: Array = _NONE
    """(K, G) int64."""
    totals: Mapping[int, float] = MappingProxyType({})
    """By agent, where a group has ended with it: what the group was paid. It is told by who was there longest."""


class Groups:
    """The groups of one behavior's agents."""

    def __init__(self, writer: Writer, owners: dict[int, str]) -> None:
        """`owners` holds, for all behaviors that have groups, which of them each group belongs to."""
        layout = writer.rows.layout
        self.most = layout.mates + 1
        """Agents of a group that a row tells of."""
        self.largest = 0
        """Agents of the largest group so far."""
        self._writer, self._spec, self._owners = writer, layout.spec, owners
        self._members: dict[int, set[int]] = {}
        """By group, the agents that have acted in it and have not left."""
        self._decisions = 0
        """So far; each has its number, its serial."""
        self._serial, self._row, self._agent = np.zeros((3, REMEMBERED), np.int64)
        """Of the latest decisions: the serial, the number of the row (0 until there is one), and whose it was."""
        self._group, self._last = np.zeros((2, 0), np.int64)
        """(A,) the group of each agent, 0 for none, and the serial of its latest decision."""
        self._mates = np.zeros((0, layout.mates), np.int64)
        """(A, G) serials of the teammates' decisions, negative where they had been made before; 0 = none."""
        self._owed, self._paid = np.zeros((2, 0))
        """(A,) what teammates were paid by themselves since the agent decided; its group, in the agent's episode."""
        self._resumed = False

    def act(self, decisions: Decisions) -> None:
        """Notes who decides together: all agents of a group among these decisions."""
        agents = decisions.agent
        group = decisions.group if len(decisions.group) else np.zeros(len(agents), np.int64)
        self._grow(int(agents.max()) + 1)
        if self._resumed:  # who does not go on where it stood is not there any more
            self._resumed = False
            self.drop(np.setdiff1d(np.flatnonzero(self._group), agents))
        for i in np.flatnonzero(self._group[agents] != group).tolist():
            self._leave(int(agents[i]))
            self._join(int(agents[i]), int(group[i]))
        serials = self._new_serials(agents)
        self._last[agents], self._mates[agents], self._owed[agents] = serials, 0, 0
        order = np.argsort(group, kind="stable")
        order = order[np.searchsorted(group[order], 1) :]
        for part in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
            if len(part):
                self._name(agents[part], serials[part], self._members[int(group[part[0]])])

    def close(self, ready: Ready, held: Mapping[str, Array]) -> Closed:
        """Returns the results as rows hold them.

        What has to stand before these rows is appended. `held` holds by agent what it saw and did, and how long it has
        been there.
        """
        results = ready.results
        agents, over = results.agent, results.terminated | results.truncated
        self._grow(int(agents.max()) + 1)
        group = self._group[agents]
        if len(results.group_reward):
            self._paid[agents] += results.group_reward
        reward = self._shared_reward(results, group)
        ending = [each for each in np.unique(group[over]).tolist() if each]
        going_on = {each: self._without(each, agents[over]) for each in ending}
        after = {each: self._after(ready.decisions, alive, held) for each, alive in going_on.items()}
        self._append_open(np.concatenate([self._mates[agents].ravel(), *after.values()]), agents, held)
        over_at_once = set(ending) - {each for each, alive in going_on.items() if len(alive)}
        lasting = set(ending) - over_at_once | set(group[results.truncated].tolist()) - {0}
        follows = results.truncated | over & np.isin(group, list(lasting))
        finals = self._number_rows(agents, follows)
        mates = self._numbers(self._mates[agents])
        final_mates = np.zeros((len(agents), self.most - 1), np.int64)
        totals = {}
        for each, named in after.items():
            places = np.flatnonzero(over & (group == each))
            cut_off = finals[places[results.truncated[places]]]
            for i in places.tolist():
                others = np.concatenate([self._numbers(named), cut_off[cut_off != finals[i]]])[: self.most - 1]
                final_mates[i, : len(others)] = others
            if each in over_at_once:
                longest = int(agents[places[held["length"][agents[places]].argmax()]])
                totals[longest] = float(self._paid[longest])
        self.drop(agents[over])
        observations, mask = self._last_seen(results, follows, held)
        told = results._replace(reward=reward, truncated=follows, final_observations=observations, final_mask=mask)
        return Closed(told, mates, final_mates[follows], totals)

    def state(self) -> dict[str, Any]:
        """Returns what inline mode resumes from, while every agent waits for an action."""
        return {"group": self._group.tolist(), "paid": self._paid.tolist()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` returned."""
        self._grow(len(state["group"]))
        for agent, group in enumerate(state["group"]):
            self._join(agent, group)
        self._paid[: len(state["paid"])] = state["paid"]
        self._resumed = True

    def drop(self, agents: Array) -> None:
        """Forgets agents that are gone."""
        for agent in agents[agents < len(self._group)].tolist():
            self._leave(agent)

    def _name(self, here: Array, serials: Array, members: set[int]) -> None:
        """Notes of agents that decide together who else is there: in their order they, then who decided before."""
        self.largest = max(self.largest, len(members))
        if len(members) > len(here):
            others = np.array(sorted(members.difference(here.tolist())), np.int64)
            serials = np.concatenate([serials, -self._last[others]])
        order = np.arange(min(len(serials), self.most) - 1)
        places: Array = order + (order >= np.arange(len(here))[:, None])  # all but the agent itself
        self._mates[here, : places.shape[1]] = serials[places]

    def _shared_reward(self, results: StepResults, group: Array) -> Array:
        """Returns (M,) float32: what agents and their groups were paid, and since they decided their teammates."""
        agents, reward = results.agent, results.reward.astype(np.float64)
        own = reward - results.group_reward if len(results.group_reward) else reward.copy()
        own[group == 0] = 0
        reward += self._owed[agents]
        if own.any():
            groups, places = np.unique(group, return_inverse=True)
            totals = np.bincount(places, own)
            reward += np.where(group > 0, totals[places] - own, 0)
            for each, total in zip(groups.tolist(), totals.tolist()):
                self._owed[self._without(each, agents)] += total
        return reward.astype(np.float32)

    def _without(self, group: int, agents: Array) -> Array:
        """Returns the members of a group that are not among `agents`, in order."""
        return np.array(sorted(self._members.get(group, set()).difference(agents.tolist())), np.int64)

    def _after(self, decisions: Decisions, alive: Array, held: Mapping[str, Array]) -> Array:
        """Returns serials of what those `alive` see next, negative where they decide later.

        What the others see stands in their next rows only once their steps have closed, so it is appended.
        """
        rows = np.flatnonzero(np.isin(decisions.agent, alive))
        deciding = decisions.agent[rows]
        serials = self._new_serials(deciding)
        if len(rows):
            spec, count = self._spec, len(rows)
            self._row[serials % REMEMBERED] = self._writer.append_seen(
                deciding,
                tuple(observation[rows] for observation in decisions.observations),
                decisions.mask[rows],
                np.zeros((count, spec.continuous_size), np.float32),
                np.zeros((count, len(spec.branches)), np.int32),
                held["state_after"][deciding],
            )
        return np.concatenate([serials, -self._last[alive[~np.isin(alive, deciding)]]])

    def _append_open(self, named: Array, closing: Array, held: Mapping[str, Array]) -> None:
        """Appends what is seen and done by those who are named by serials and have no row, unless they close now."""
        slots = np.abs(named) % REMEMBERED
        missing = (named != 0) & (self._serial[slots] == np.abs(named)) & (self._row[slots] == 0)
        if not missing.any():
            return
        slots = np.unique(slots[missing])
        slots = slots[~np.isin(self._agent[slots], closing)]
        if len(slots):
            agents = self._agent[slots]
            names = (*observation_names(self._spec), "mask", "continuous", "discrete", "state")
            *observations, mask, continuous, discrete, state = (held[name][agents] for name in names)
            self._row[slots] = self._writer.append_seen(agents, tuple(observations), mask, continuous, discrete, state)

    def _number_rows(self, agents: Array, follows: Array) -> Array:
        """Notes which numbers the rows of these agents (M,) get; returns those of final rows that follow, or 0 (M,)."""
        first, finals = self._writer.rows.head + 1, np.zeros(len(agents), np.int64)
        latest = self._last[agents]
        known = self._serial[latest % REMEMBERED] == latest
        self._row[latest[known] % REMEMBERED] = first + np.flatnonzero(known)
        finals[follows] = first + len(agents) + np.arange(np.count_nonzero(follows))
        return finals

    def _numbers(self, serials: Array) -> Array:
        """Returns numbers of rows, with the signs of the serials; 0 where there is none."""
        slots = np.abs(serials) % REMEMBERED
        found: Array = np.where(self._serial[slots] == np.abs(serials), self._row[slots], 0) * np.sign(serials)
        return found

    def _last_seen(
        self, results: StepResults, follows: Array, held: Mapping[str, Array]
    ) -> tuple[tuple[Array, ...], Array]:
        """Returns observations and masks (K, ...) of the last rows; of agents that are gone, what they saw last."""
        if np.array_equal(follows, results.truncated):
            return results.final_observations, results.final_mask
        agents, cut = results.agent[follows], results.truncated[follows]
        names = (*observation_names(self._spec), "mask")
        found = [held[name][agents] for name in names]
        for seen, final in zip(found, (*results.final_observations, results.final_mask)):
            seen[cut] = final
        return tuple(found[:-1]), found[-1]

    def _new_serials(self, agents: Array) -> Array:
        serials = np.arange(self._decisions + 1, self._decisions + len(agents) + 1, dtype=np.int64)
        self._decisions += len(agents)
        slots = serials % REMEMBERED
        self._serial[slots], self._row[slots], self._agent[slots] = serials, 0, agents
        return serials

    def _join(self, agent: int, group: int) -> None:
        if not group:
            return
        owner, name = self._owners.setdefault(group, self._spec.name), self._spec.name
        if owner != name:
            raise UserError(
                f"agents of behavior {name!r} are in a group with agents of {owner!r}: teammates share a critic, "
                "so they need one behavior; give them the same name, or groups of their own"
            )
        self._members.setdefault(group, set()).add(agent)
        self._group[agent] = group

    def _leave(self, agent: int) -> None:
        group = int(self._group[agent])
        self._group[agent] = self._last[agent] = self._mates[agent] = self._owed[agent] = self._paid[agent] = 0
        if group:
            self._members[group].discard(agent)
            if not self._members[group]:
                del self._members[group], self._owners[group]

    def _grow(self, agents: int) -> None:
        more = max(agents, 2 * len(self._group)) - len(self._group)
        if agents > len(self._group):
            for name in ("_group", "_last", "_mates", "_owed", "_paid"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros((more, *old.shape[1:]), old.dtype)]))


REMEMBERED = 2**17
"""Decisions whose rows are known. A teammate that decided earlier than that is not named."""
