"""The manager of Unity players: the verbs of `EnvManager`, over players that none waits for another.

An instance goes on once every agent of its last message has an action. One loop, that of `recv`, serves all players.
Shapes: I instances, N agents, C continuous actions, B discrete branches.
"""

from __future__ import annotations

import math
import selectors
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypedDict

import numpy as np

from envs.gym.worker_pool import InstanceEvent
from envs.spec import Array, BehaviorSpec, Ready, UserError, joined
from envs.unity.agent_ids import Roster, Sorted
from envs.unity.channels import Statistic
from envs.unity.launch import UnityEnv
from envs.unity.player_pool import Player, Players
from envs.unity.protocol.decoding import PlayerFault, behavior_name, encode_reply
from envs.unity.protocol.server import Arrived

__all__ = ["UnityManager", "UnityState"]


class UnityState(TypedDict):
    """What a resumed run needs of the instances; JSON-ready. New episodes begin."""

    launches: list[int]
    """(I) how often each was started: each start has a seed of its own."""


class UnityManager:
    """Unity players as instances: `recv` gets decisions and results, `send` gives actions.

    A context manager: leaving it ends the players.

    Args:
        env: how a player is started.
        instances: how many.
        seed: the run's; each start of an instance has its own.
        logs: folder for the players' logs.
        step_timeout: seconds after which a player that does not answer counts as failed.
        restarts: failures of one instance that are forgiven; one more every ten minutes.
        min_instances: one that fails more often is left out while so many others live; None = all have to.
        begun: (I,) int64, how often each instance was started: counted on in this very array. None = zeros.
        resume: what `state` returned.
    """

    picture: Path | None = None
    """Unity players send no pictures of play."""

    def __init__(
        self,
        env: UnityEnv,
        instances: int,
        seed: int,
        *,
        logs: Path,
        step_timeout: float = 60.0,
        restarts: int = 10,
        min_instances: int | None = None,
        begun: Array | None = None,
        resume: UnityState | None = None,
    ) -> None:
        env.check(instances)
        self.instances = instances
        self.specs: dict[str, BehaviorSpec] = {}
        """By behavior, grown as behaviors appear."""
        self.layout = "the Unity Editor" if env.editor else f"{instances} Unity player{'s' * (instances > 1)}"
        self.samples: Array = np.zeros(instances, np.int64)
        """(I,) int64: results delivered, by instance."""
        self.busy_seconds: Array = np.zeros(instances)
        """(I,) float64: seconds from answers to the messages that followed."""
        self.events: deque[InstanceEvent] = deque(maxlen=_KEPT_EVENTS)
        """What the user should hear of, the oldest first; empty it now and then."""
        self._logs = logs
        launches = np.zeros(instances, np.int64) if begun is None else begun
        if resume:
            known = resume["launches"][:instances]
            launches[: len(known)] = known
        self._players = Players(
            env,
            instances,
            seed,
            logs,
            step_timeout=step_timeout,
            restarts=restarts,
            events=self.events,
            min_instances=instances if min_instances is None else min_instances,
            launches=launches,
        )
        self._rosters: dict[str, Roster] = {}
        self._turns: list[list[Turn]] = [[] for _ in range(instances)]
        self._missing: Array = np.zeros(instances, np.int64)
        """(I,) agents of the last message that still wait for an action."""
        self._statistics: list[Statistic] = []
        self._watched = False
        self._patience = env.connect_timeout
        self._wonder_at = math.inf
        """When it is worth saying that players play but no agent has been seen (monotonic)."""

    def __enter__(self) -> UnityManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> dict[str, BehaviorSpec]:
        """Starts the players without waiting for them; no spec is known yet.

        Raises:
            UserError: the Editor's port is taken, or the folder for logs cannot be made.
        """
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the folder {self._logs} for the players' logs cannot be made: {error.strerror}"
            ) from error
        for instance in range(self.instances):
            self._players.launch(instance)
        self._wonder_at = time.monotonic() + self._patience
        return self.specs

    def recv(self, timeout: float | None = None) -> dict[str, Ready]:
        """What the instances have to say, by behavior: at least one item, unless `timeout` seconds pass (then `{}`).

        Also `{}` once what `watch` was given becomes readable.

        Raises:
            InstanceFailed: an instance failed once more than its budget allows, and too few others live.
            UserError: no player could be started, or players serve what cannot be trained on.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        players = self._players
        self._watched = False
        while True:
            players.poll(min(until, players.check_at) - time.monotonic())
            now = time.monotonic()
            if now >= players.check_at:
                players.check(now)
                if now >= self._wonder_at:
                    self._wonder()
            if ready := self._gather():
                return ready
            if self._watched or now >= until:
                return {}

    def send(self, behavior: str, agents: Array, continuous: Array, discrete: Array) -> None:
        """Actions for any agents that wait: `agents` (N,), `continuous` (N, C) float32, `discrete` (N, B) int32."""
        if not len(agents):
            return
        roster = self._rosters[behavior]
        roster.act(agents, continuous, discrete)
        served = np.bincount(roster.instance[agents], minlength=self.instances)
        self._missing -= served
        for instance in served.nonzero()[0].tolist():
            player = self._players.of[instance]
            if player is not None and not self._missing[instance]:
                self._answer(player)

    def watch(self, fileobj: Any) -> None:
        """Lets `recv` return early when this socket is readable; what can be read is thrown away."""
        fileobj.setblocking(False)
        self._players.selector.register(fileobj, selectors.EVENT_READ, lambda: self._take_watched(fileobj))

    def request_picture(self, file: Path) -> None:
        """None comes: the game draws on its own screen."""

    @property
    def retired(self) -> Array:
        """(I,) bool: instances that have failed for good."""
        return self._players.budget.retired

    def take_statistics(self) -> list[Statistic]:
        """What games have sent through ML-Agents' statistics channel since the last call."""
        taken, self._statistics = self._statistics, []
        return taken

    def state(self) -> UnityState:
        """For `resume`."""
        return {"launches": self._players.launches.tolist()}

    def close(self) -> None:
        """Lets the players quit, and kills those that do not. Calling it again does nothing."""
        self._players.close()

    def _gather(self) -> dict[str, Ready]:
        """Handles all that has happened; what came of it, by behavior."""
        parts: dict[str, list[Sorted]] = {}
        lost: dict[str, list[int]] = {}
        heard: set[int] = set()
        while True:
            message = self._players.next_message(heard)
            self._lose_failed(lost)
            if message is None:
                break
            self._take_message(*message, parts)
            heard.add(message[0].instance)
        return {
            name: _joined(parts.get(name, []), lost.get(name, []), roster)
            for name, roster in self._rosters.items()
            if name in parts or name in lost
        }

    def _wonder(self) -> None:
        """Says, once, that players have connected and that none of them has shown an agent."""
        playing = [player.instance for player in self._players.of if player is not None and player.connected]
        if playing and not self.specs:
            self.events.append(
                InstanceEvent(
                    "fault",
                    playing[0],
                    f"Instance {playing[0]} has connected, but after {self._patience:g} s no agent has asked for a "
                    "decision: is there one in the scene whose Behavior Type is Default?",
                )
            )
        self._wonder_at = math.inf

    def _lose_failed(self, lost: dict[str, list[int]]) -> None:
        for instance in self._players.failed:
            self._turns[instance] = []
            self._missing[instance] = 0
            for name, roster in self._rosters.items():
                if numbers := roster.lose(instance):
                    lost.setdefault(name, []).extend(numbers)
        self._players.failed.clear()

    def _take_message(self, player: Player, message: Arrived, parts: dict[str, list[Sorted]]) -> None:
        instance = player.instance
        self.busy_seconds[instance] += max(0.0, message.time - player.answered)
        if message.specs:
            self._learn(instance, message.specs)
        if message.side_channel:
            try:
                player.channels.incoming(message.side_channel)
            except PlayerFault as fault:
                self._players.fail(player, str(fault))
                return
            self._statistics += player.channels.take_statistics()
        asking = 0
        for behavior_id, agents in message.agents.items():
            name = behavior_name(behavior_id)
            roster = self._rosters[name]
            part = roster.take(instance, agents)
            parts.setdefault(name, []).append(part)
            self.samples[instance] += len(part.results.agent)
            if len(part.answered):
                self._turns[instance].append(Turn(behavior_id, roster, part.answered))
            asking += len(part.decisions.agent)
        self._missing[instance] = asking
        if not asking:
            self._answer(player)

    def _learn(self, instance: int, specs: dict[str, BehaviorSpec]) -> None:
        for name, spec in specs.items():
            if name not in self.specs:
                self.specs[name] = spec
                self._rosters[name] = Roster(spec)
            elif difference := spec.difference(self.specs[name]):
                raise UserError(
                    f"Instance {instance} serves behavior {name!r} with another spec than the first that did: "
                    f"{difference}. All instances have to run the same game."
                )

    def _answer(self, player: Player) -> None:
        """Lets a player go on whose agents all have actions."""
        actions = {}
        for turn in self._turns[player.instance]:
            roster = turn.roster
            actions[turn.behavior_id] = (roster.continuous[turn.agents], roster.discrete[turn.agents])
        self._turns[player.instance] = []
        player.answer(encode_reply(actions, player.channels.outgoing()), self._players.step_timeout)

    def _take_watched(self, fileobj: Any) -> None:
        self._watched = True
        try:
            if not fileobj.recv(65536):
                self._players.selector.unregister(fileobj)  # the other side has gone
        except BlockingIOError:
            return


class Turn(NamedTuple):
    """Agents of one behavior id that an instance waits for."""

    behavior_id: str
    roster: Roster
    agents: Array
    """(N,) int64, in the order of the player's message; -1 = any action will do."""


_KEPT_EVENTS = 1000


def _joined(parts: list[Sorted], lost: list[int], roster: Roster) -> Ready:
    """What the instances of one behavior have to say, in the order in which they said it."""
    if not parts:
        parts = [roster.nobody()]
    results, decisions = joined([part.results for part in parts]), joined([part.decisions for part in parts])
    return Ready(results, decisions, np.array(lost, np.int64), {})
