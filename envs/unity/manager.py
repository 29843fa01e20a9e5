"""The manager of Unity players.

An instance goes on once every agent of its last message has an action. One loop, that of `recv`, serves all players.
Shapes: I instances, N agents, C continuous actions, B discrete branches.
"""

from __future__ import annotations

import math
import time

import numpy as np

from envs.api import InstanceEvent, Manager, Setup
from envs.parameters import Parameters, common
from envs.spec import Array, BehaviorSpec, Lessons, Ready, Statistic, UserError, joined
from envs.unity.agent_ids import AgentIds, Said
from envs.unity.config import UnityConfig
from envs.unity.player_pool import Player, PlayerPool
from envs.unity.protocol.bounds import PlayerFault
from envs.unity.protocol.decoding import behavior_name, encode_reply, team_of
from envs.unity.protocol.server import Arrived


class UnityManager(Manager):
    """Unity players as instances. What is counted as begun is a player's starts: each has a seed of its own."""

    def __init__(self, config: UnityConfig, setup: Setup) -> None:
        super().__init__(config.instances, setup, config.restarts)
        self.spread = (
            "the Unity Editor" if config.editor else f"{self.instances} Unity player{'s' * (self.instances > 1)}"
        )
        self._logs = setup.logs
        self._parameters = Parameters(config.parameters)
        self._players = PlayerPool(
            config,
            setup.seed,
            setup.logs,
            self.selector,
            budget=self.budget,
            launches=self.begun,
            lessons=setup.lessons or self._parameters.last,
        )
        self._ids: dict[str, AgentIds] = {}
        self._asked: list[list[tuple[str, AgentIds, Array]]] = [[] for _ in range(self.instances)]
        """By instance and behavior id, the agents (N,) that ask, as in its message; -1 = any action will do."""
        self._missing: Array = np.zeros(self.instances, np.int64)
        """(I,) agents of the last message that still wait for an action."""
        self._statistics: list[Statistic] = []
        self._patience = config.connect_timeout
        self._remind_at = math.inf
        """When to report that players are connected but no agent has appeared (monotonic)."""

    def start(self) -> dict[str, BehaviorSpec]:
        """Starts the players without waiting; UserError if the Editor's port is taken, or logs have no folder."""
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the folder {self._logs} for the players' logs cannot be made: {error.strerror}"
            ) from error
        for instance in range(self.instances):
            self._players.launch(instance)
        self._remind_at = time.monotonic() + self._patience
        return self.specs

    def poll(self, until: float) -> dict[str, Ready]:  # noqa: D102
        players = self._players
        players.poll(min(until, players.check_at) - time.monotonic())
        now = time.monotonic()
        if now >= players.check_at:
            players.check(now)
            if now >= self._remind_at:
                self._remind()
        return self._gather()

    def send(self, behavior: str, agents: Array, continuous: Array, discrete: Array) -> None:  # noqa: D102
        if not len(agents):
            return
        ids = self._ids[behavior]
        ids.act(agents, continuous, discrete)
        served = np.bincount(ids.instance[agents], minlength=self.instances)
        self._missing -= served
        for instance in served.nonzero()[0].tolist():
            player = self._players.of[instance]
            if player is not None and not self._missing[instance]:
                self._answer(player)

    def set_lessons(self, lessons: Lessons) -> None:
        """Lets episodes that begin after a player's next answer begin in these lessons."""
        self._players.lessons = lessons

    def take_statistics(self) -> list[Statistic]:
        """Returns what games have sent through ML-Agents' statistics channel since the last call."""
        taken, self._statistics = self._statistics, []
        return taken

    def close(self) -> None:
        """Lets the players quit, and kills those that do not. Calling it again does nothing."""
        self._players.close()
        super().close()

    def _gather(self) -> dict[str, Ready]:
        """Handles all that has happened; what came of it, by behavior."""
        parts: dict[str, list[Said]] = {}
        lost: dict[str, list[int]] = {}
        played: dict[str, dict[int, Lessons]] = {}
        delivered: set[int] = set()
        while True:
            message = self._players.next_message(delivered)
            self._lose_failed(lost)
            if message is None:
                break
            self._take_message(*message, parts, played)
            delivered.add(message[0].instance)
        return {
            name: _joined(parts.get(name, []), lost.get(name, []), ids, played.get(name, {}))
            for name, ids in self._ids.items()
            if name in parts or name in lost
        }

    def _remind(self) -> None:
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
        self._remind_at = math.inf

    def _lose_failed(self, lost: dict[str, list[int]]) -> None:
        for instance in self._players.failed:
            self._asked[instance] = []
            self._missing[instance] = 0
            for name, ids in self._ids.items():
                if numbers := ids.lose(instance):
                    lost.setdefault(name, []).extend(numbers)
        self._players.failed.clear()

    def _take_message(
        self, player: Player, message: Arrived, parts: dict[str, list[Said]], played: dict[str, dict[int, Lessons]]
    ) -> None:
        instance = player.instance
        self.busy_seconds[instance] += max(0.0, message.time - player.answered)
        try:
            if message.specs:
                self._learn(instance, message.specs)
            for behavior_id, agents in message.agents.items():
                self._ids[behavior_name(behavior_id)].check_room(instance, agents)
            if message.side_channel:
                player.channels.incoming(message.side_channel)
        except PlayerFault as fault:
            self._players.fail(player, str(fault))
            return
        except UserError as error:
            self._players.reject(player, error)
            return
        if message.side_channel:
            for text in player.channels.notes:
                self._players.note(player, text)
            player.channels.notes.clear()
        asking = 0
        ended: list[Lessons] = []
        for behavior_id, agents in message.agents.items():
            name = behavior_name(behavior_id)
            ids = self._ids[name]
            part = ids.take(instance, agents, team_of(behavior_id))
            parts.setdefault(name, []).append(part)
            if self._parameters.lessons:
                closed = _note_lessons(player, name, part)
                played.setdefault(name, {}).update(closed)
                ended += closed.values()
            if len(part.results.agent):
                self._players.proven = True
                self.samples[instance] += len(part.results.agent)
            if len(part.answered):
                self._asked[instance].append((behavior_id, ids, part.answered))
            asking += len(part.decisions.agent)
        if message.side_channel:
            self._take_statistics(player, ended)
        self._missing[instance] = asking
        if not asking:
            self._answer(player)

    def _take_statistics(self, player: Player, ended: list[Lessons]) -> None:
        """Keeps what the player has reported: of episodes that `ended` in its message, if any did, else of all."""
        statistics = player.channels.take_statistics()
        if statistics and self._parameters.lessons:
            lessons = common(ended or list(player.playing.values()) or [player.lessons])
            statistics = [each._replace(lessons=lessons) for each in statistics]
        self._statistics += statistics

    def _learn(self, instance: int, specs: dict[str, BehaviorSpec]) -> None:
        for name, spec in specs.items():
            if name not in self.specs:
                self.admit(spec)
                self.specs[name] = spec
                self._ids[name] = AgentIds(spec)
            elif difference := spec.difference(self.specs[name]):
                raise UserError(
                    f"Instance {instance} serves behavior {name!r} with another spec than the first that did: "
                    f"{difference}. All instances have to run the same game."
                )

    def _answer(self, player: Player) -> None:
        """Lets a player go on whose agents all have actions."""
        asked, self._asked[player.instance] = self._asked[player.instance], []
        actions = {name: (ids.continuous[agents], ids.discrete[agents]) for name, ids, agents in asked}
        if player.ended or player.lessons.change != self._players.lessons.change:
            self._choose_lessons(player)
        player.answer(encode_reply(actions, player.channels.outgoing()), self._players.step_timeout)

    def _choose_lessons(self, player: Player) -> None:
        """Sends the parameters of the lessons in which the player's next episodes are played: those that change."""
        player.ended, player.drawn = False, player.drawn + 1
        starts = int(self.begun[player.instance])
        lessons = self._parameters.played(self._players.lessons, self.seed, player.instance, starts, player.drawn)
        in_force = self._parameters.in_force(lessons)
        for name, before, now in zip(self._parameters.lessons, player.lessons.at, lessons.at):
            if before != now:
                player.channels.set_parameter(name, in_force[name], player.drawn)
        player.lessons = lessons


def _note_lessons(player: Player, name: str, part: Said) -> dict[int, Lessons]:
    """Notes in which lessons agents play whose episodes begin; returns by agent those of the episodes that ended."""
    results = part.results
    over = results.agent[results.terminated | results.truncated].tolist()
    closed = {agent: player.playing.pop((name, agent)) for agent in over}
    for agent in part.decisions.agent.tolist():
        player.playing.setdefault((name, agent), player.lessons)
    player.ended = player.ended or bool(closed)
    return closed


def _joined(parts: list[Said], lost: list[int], ids: AgentIds, played: dict[int, Lessons]) -> Ready:
    """Joins the messages of one behavior's instances, in the order in which they came."""
    if not parts:
        parts = [ids.nobody()]
    results, decisions = joined([part.results for part in parts]), joined([part.decisions for part in parts])
    return Ready(results, decisions, np.array(lost, np.int64), {}, played)
