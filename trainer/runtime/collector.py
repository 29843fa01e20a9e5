"""The collector drives instances with actors and writes the buffer, in a process of its own or inline.

Shapes: N decisions, M results; A agents seen so far; C continuous actions, B discrete branches, R numbers of the
recurrent state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from buffers.rows import Writer, observation_names
from envs.api import Manager
from envs.spec import Array, BehaviorSpec, Decisions, Ready, StepResults, UserError, joined
from trainer.runtime.groups import Closed, Groups
from trainer.runtime.ipc import BEFORE, DROPPED, OPEN, SAMPLES, UPDATES
from trainer.runtime.rate_limiter import RateLimiter
from trainer.telemetry.statistics import Episode, Statistics

Chosen = tuple[Array, Array, Array, Array]
"""Continuous actions (N, C), discrete actions (N, B), their joint log-probabilities (N,), recurrent state after (N, R).
"""


class Actor(Protocol):
    """The copy of a policy that acts."""

    @property
    def version(self) -> int:
        """Version of the weights it acts with; 0 before there are any."""

    def refresh(self) -> None:
        """Takes the newest weights, if there are newer ones."""

    def act(self, observations: tuple[Array, ...], mask: Array, state: Array) -> Chosen:
        """Returns what it does; `state` (N, R) is the recurrent state before."""

    def state(self) -> Any:
        """What a resumed run needs to draw the same actions."""


class Channel:
    """One behavior's way from decisions to rows."""

    def __init__(
        self,
        spec: BehaviorSpec,
        actor: Actor,
        writer: Writer,
        counters: Array,
        total: Callable[[], int] | None = None,
        group_owners: dict[int, str] | None = None,
    ) -> None:
        """`total` returns the samples of all behaviors, where there are others; `group_owners` is for `Groups`."""
        self.spec = spec
        self.actor = actor
        self.rate_limiter: RateLimiter | None = None
        """Set once the learner is ready; nothing acts before."""
        self.episodes: list[Episode] = []
        """Finished since they were last taken."""
        self._observation_names = observation_names(spec)
        self.warnings: list[str] = []
        """What a user has to be told, until it is taken."""
        self._warned = False
        self._acted = (*self._observation_names, "mask", "continuous", "discrete", "log_prob", "version", "state")
        """What is kept of an action until its step has closed."""
        self._writer = writer
        self._groups: Groups | None = None
        if writer.rows.layout.mates:
            self._groups = Groups(writer, {} if group_owners is None else group_owners)
        self._state_size = writer.rows.layout.state_size
        self._counters = counters
        self._total = total or (lambda: self.samples)
        self._pending: list[Decisions] = []
        self._open: dict[str, Array] = {}
        self._grow(16)
        counters[OPEN] = 0
        self._count()

    @property
    def pending(self) -> bool:
        """Whether agents wait for an action."""
        return bool(self._pending)

    @property
    def samples(self) -> int:
        """Samples in all, earlier parts of a resumed run included."""
        return int(self._counters[SAMPLES])

    def may_act(self) -> bool:
        """Returns whether the learner keeps up well enough for games to go on."""
        return self.rate_limiter is not None and self.rate_limiter.may_write(*self._progress())

    def may_update(self) -> bool:
        """Returns whether an update is due: the learner, if it waits, should be woken."""
        return self.rate_limiter is not None and self.rate_limiter.may_update(*self._progress())

    def take(self, ready: Ready) -> None:
        """Closes rows and keeps decisions until `act`."""
        if len(ready.lost):
            self._drop(ready.lost)
        if len(ready.results.agent):
            self._close(ready)
        if len(ready.decisions.agent):
            self._pending.append(ready.decisions)

    def act(self) -> tuple[Array, Array, Array]:
        """Makes one forward pass over all that waits: agents (N,), continuous (N, C), discrete (N, B), to be sent."""
        decisions = joined(self._pending)
        self._pending.clear()
        state, acted = self._choose(decisions)
        self._open_rows(decisions, state, acted)
        return decisions.agent, acted[0], acted[1]

    def _choose(self, decisions: Decisions) -> tuple[Array, Chosen]:
        """Returns the recurrent state (N, R) before, and what the policy does."""
        agents = decisions.agent
        self.actor.refresh()
        if (highest := max(agents.tolist())) >= len(self._open["reward"]):
            self._grow(2 * highest + 1)
        state = self._open["state_after"].take(agents, axis=0)
        acted = self.actor.act(decisions.observations, decisions.mask, state)
        continuous, _, log_prob, after = acted
        # 1 us. Squares may overflow, so a closer look decides.
        if not math.isfinite(np.vdot(log_prob, log_prob) + np.vdot(continuous, continuous) + np.vdot(after, after)):
            given = {"the continuous action": continuous, "the log-probability": log_prob, "the recurrent state": after}
            self._look_closely(given, agents)
        return state, acted

    def _open_rows(self, decisions: Decisions, state: Array, acted: Chosen) -> None:
        """Holds what rows will hold once the steps have closed."""
        held, agents = self._open, decisions.agent
        continuous, discrete, log_prob, after = acted
        if self._groups is not None:
            self._groups.act(decisions)
        if self._state_size:
            held["state"][agents] = state
            held["state_after"][agents] = after
        for name, observation in zip(self._observation_names, decisions.observations):
            held[name][agents] = observation
        if decisions.mask.shape[1]:
            held["mask"][agents] = decisions.mask
        if continuous.shape[1]:
            held["continuous"][agents] = continuous
        if discrete.shape[1]:
            held["discrete"][agents] = discrete
        held["acting"][agents] = True
        self._counters[OPEN] += len(agents)
        held["log_prob"][agents] = log_prob
        held["version"][agents] = self.actor.version

    def state(self) -> dict[str, Any]:
        """Returns what inline mode resumes from, between `take` and `act`.

        Then no row is open but those of agents that have acted in turn, and hear of it when it is their turn again.
        """
        acting = np.flatnonzero(self._open["acting"])
        return {
            "open": {"agents": acting.tolist(), **{name: self._open[name][acting].tolist() for name in self._acted}},
            "rewards": self._open["reward"].tolist(),
            "lengths": self._open["length"].tolist(),
            "memories": self._open["state_after"].tolist(),
            "writer": {name: array.tolist() for name, array in self._writer.state().items()},
            "actor": self.actor.state(),
            **({} if self._groups is None else {"groups": self._groups.state()}),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` returned."""
        self._grow(len(state["rewards"]))
        self._open["reward"][: len(state["rewards"])] = state["rewards"]
        self._open["length"][: len(state["lengths"])] = state["lengths"]
        memories = state.get("memories", [])  # the first checkpoints have none
        self._open["state_after"][: len(memories)] = memories
        rows = dict(state.get("open", {"agents": []}))
        agents = np.array(rows.pop("agents"), np.int64)
        self._open["acting"][agents] = True
        self._counters[OPEN] += len(agents)
        for name in rows if len(agents) else ():
            self._open[name][agents] = rows[name]
        self._writer.load_state(state["writer"])
        if self._groups is not None and "groups" in state:
            self._groups.load_state(state["groups"])

    def _look_closely(self, given: dict[str, Array], agents: Array) -> None:
        """Raises UserError for the first number that is NaN or infinite: no game has seen it, nor has the buffer."""
        for what, values in given.items():
            rows = np.flatnonzero(~np.isfinite(values.reshape(len(agents), -1)).all(axis=1))
            if len(rows):
                raise UserError(
                    f"behavior {self.spec.name!r}: its policy (version {self.actor.version} of the weights) gave agent "
                    f"{agents[rows[0]]} {what} {values[rows[0]].tolist()}, which no game can take: is the network, or "
                    "the algorithm, your own?"
                )

    def _progress(self) -> tuple[int, int]:
        """Returns the rows that could be drawn so far, less those that were dropped as too old, and the updates."""
        return self._writer.rows.sampleable - int(self._counters[DROPPED]), int(self._counters[UPDATES])

    def _count(self) -> None:
        """Counts all rows again: the counter may be behind them, where an earlier collector died."""
        self._counters[SAMPLES] = self._counters[BEFORE] + self._writer.rows.samples

    def _close(self, ready: Ready) -> None:
        results, held = ready.results, self._open
        agents = results.agent
        closed = Closed(results) if self._groups is None else self._groups.close(ready, held)
        self._look_at_groups(results)
        rows = closed.results
        self._writer.append(
            agents,
            tuple([held[name].take(agents, axis=0) for name in self._observation_names]),
            held["mask"].take(agents, axis=0),
            held["continuous"].take(agents, axis=0),
            held["discrete"].take(agents, axis=0),
            held["log_prob"].take(agents),
            held["version"].take(agents),
            rows.reward,
            rows.terminated,
            rows.truncated,
            rows.final_observations,
            rows.final_mask,
            held["state"].take(agents, axis=0),
            held["length"].take(agents),
            held["state_after"].take(agents[rows.truncated], axis=0),
            closed.mates,
            closed.final_mates,
        )
        self._count()
        self._counters[OPEN] -= len(agents)
        held["acting"][agents] = False
        held["reward"][agents] += results.reward
        held["length"][agents] += 1
        if np.count_nonzero(results.terminated) or np.count_nonzero(results.truncated):
            ended = results.terminated | results.truncated
            for agent, instance in zip(agents[ended].tolist(), results.instance[ended].tolist()):
                reward, length = float(held["reward"][agent]), int(held["length"][agent])
                metrics, lessons = ready.metrics.get(agent, {}), ready.lessons.get(agent)
                if agent in closed.totals:
                    metrics = {**metrics, GROUP_REWARD: closed.totals[agent]}
                self.episodes.append(Episode(instance, self._total(), reward, length, metrics, lessons))
                held["reward"][agent], held["length"][agent], held["state_after"][agent] = 0, 0, 0

    def _look_at_groups(self, results: StepResults) -> None:
        """Warns, once, of groups that are learned from in part, or are not there."""
        groups = self._groups
        if self._warned or (groups is None and not len(results.group_reward)):
            return
        said = ""
        if groups is None:
            if results.group_reward.any():
                said = (
                    "is paid as a group, but its algorithm sees each agent alone: what a group earns once an agent has "
                    "left does not reach that agent. algorithm=poca learns as a group."
                )
        elif groups.largest > groups.most:
            said = (
                f"has a group of {groups.largest} agents, of which each row tells of {groups.most}: raise "
                f"algorithm.max_group to {groups.largest} for all of them."
            )
        elif groups.largest < 2 and (results.terminated.any() or results.truncated.any()):
            said = (
                "has no teammates so far, so each agent learns alone: say who is in a group, in Unity by "
                "SimpleMultiAgentGroup.RegisterAgent, with PettingZoo by env.groups."
            )
        if said:
            self._warned = True
            self.warnings.append(f"Behavior {self.spec.name!r} {said}")

    def _drop(self, lost: Array) -> None:
        self._writer.forget(lost)
        if self._groups is not None:
            self._groups.drop(lost)
        known = lost[lost < len(self._open["reward"])]
        self._counters[OPEN] -= np.count_nonzero(self._open["acting"][known])
        for name in ("acting", "reward", "length", "state_after"):
            self._open[name][known] = 0
        still = [decisions.take(~np.isin(decisions.agent, lost)) for decisions in self._pending]
        self._pending = [decisions for decisions in still if len(decisions.agent)]

    def _grow(self, agents: int) -> None:
        spec = self.spec
        shapes = {f"observation_{i}": (o.shape, o.dtype) for i, o in enumerate(spec.observations)}
        shapes |= {
            "mask": ((spec.mask_size,), "bool"),
            "continuous": ((spec.continuous_size,), "float32"),
            "discrete": ((len(spec.branches),), "int32"),
            "log_prob": ((), "float32"),
            "version": ((), "int64"),
            "state": ((self._state_size,), "float32"),
            "state_after": ((self._state_size,), "float32"),
            "acting": ((), "bool"),
            "reward": ((), "float64"),
            "length": ((), "int64"),
        }
        grown = {name: np.zeros((agents, *shape), dtype) for name, (shape, dtype) in shapes.items()}
        for name, old in self._open.items():
            grown[name][: len(old)] = old
        self._open = grown


GROUP_REWARD = "group_reward"
"""Among the numbers of an episode with which a group ends: what the group was paid."""


class Collector:
    """Turns of acting and receiving over all behaviors of a manager."""

    def __init__(
        self, manager: Manager, open_channel: Callable[[BehaviorSpec], Channel], stop_samples: int | None = None
    ) -> None:
        """Nothing acts any more once there are `stop_samples` samples."""
        self.manager = manager
        self.channels: dict[str, Channel] = {}
        self._stop_samples = math.inf if stop_samples is None else stop_samples
        self._open_channel = open_channel
        self._began: float | None = None
        self._first, self._last, self._first_busy = np.zeros((3, len(manager.samples)))
        self._unseen = len(manager.samples)
        self._seconds = {"acting": 0.0, "waiting for games": 0.0, "throttled": 0.0, "writing": 0.0}

    def turn(self, timeout: float | None) -> bool:
        """Acts for all that waits, unless the learner is too far behind, then takes what instances deliver.

        Returns:
            Whether they have delivered anything within `timeout` seconds.
        """
        start = time.perf_counter()
        throttled = False
        for name, channel in self.channels.items():
            if channel.pending:
                if self._may_act(channel):
                    self.manager.send(name, *channel.act())
                    self._began = self._began or start
                else:
                    throttled = True
        acted = time.perf_counter()
        ready = self.manager.recv(timeout)
        received = time.perf_counter()
        for name, what in ready.items():
            self.channel(name).take(what)
            self._note(what.results.instance, received)
        if self._began is not None:
            self._seconds["acting"] += acted - start
            self._seconds["throttled" if throttled else "waiting for games"] += received - acted
            self._seconds["writing"] += time.perf_counter() - received
        return bool(ready)

    @property
    def throttled(self) -> bool:
        """Whether agents wait for the learner."""
        return any(channel.pending and not self._may_act(channel) for channel in self.channels.values())

    def channel(self, name: str) -> Channel:
        """Returns the behavior's channel, opened on the first call."""
        if name not in self.channels:
            self.open(self.manager.specs[name])
        return self.channels[name]

    def open(self, spec: BehaviorSpec) -> None:
        """Opens the channel of a behavior that has appeared; UserError if there is no room for it."""
        self.channels[spec.name] = self._open_channel(spec)

    def statistics(self) -> Statistics:
        """Returns the figures so far."""
        seen = self._first > 0
        return Statistics(
            (self.manager.samples - 1) * seen,
            self._last - self._first,
            (self.manager.busy_seconds - self._first_busy) * seen,
            0.0 if self._began is None else time.perf_counter() - self._began,
            dict(self._seconds),
            self.manager.layout,
        )

    def _may_act(self, channel: Channel) -> bool:
        return channel.may_act() and sum(other.samples for other in self.channels.values()) < self._stop_samples

    def _note(self, instances: Array, now: float) -> None:
        self._last[instances] = now
        if self._unseen:
            new = np.unique(instances[self._first[instances] == 0])
            self._first[new] = now
            self._first_busy[new] = self.manager.busy_seconds[new]
            self._unseen -= len(new)
