"""The life of a player: it connects, introduces itself, and then sends what is due and does what comes back."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from envs.gym.adapter import GymEnv
from envs.spec import UserError
from envs.unity.protocol.messages import CAPABILITIES, raw_class
from envs.unity.python_player.agent import Agent, Unit, World
from envs.unity.python_player.channels import Settings, statistics
from envs.unity.python_player.connection import Closed
from envs.unity.python_player.encoding import brain_parameters
from envs.unity.python_player.faults import spoiled
from envs.unity.python_player.options import At, Options

PACKAGE_VERSION = "2.2.1"
"""Of the Unity package whose players this one resembles."""

_Message = raw_class("UnityMessageProto")
_OK = 200
_RESET, _QUIT = 1, 2


class PlayerClient:
    """Speaks the protocol through `exchange`.

    Args:
        options: what it was asked for.
        fault: what is to go wrong.
        exchange: sends a serialized message and returns the answer.
    """

    def __init__(self, options: Options, fault: At | None, exchange: Callable[[bytes], bytes]) -> None:
        self._options = options
        self._exchange = exchange
        self._fault = fault
        self._settings = Settings()
        self._agents: list[Unit] = []
        self._late = options.late
        self._known: set[str] = set()
        self._asking: dict[str, list[tuple[Unit, int]]] = {}
        """By behavior, the lines whose actions the next answer holds: the unit, and the place among its lines."""
        self._due: list[tuple[float, int, Unit]] = []
        self._sent = 0
        self._message = _Message()
        self._answer = _Message()

    def run(self) -> None:
        """Serves until the trainer has had enough.

        Raises:
            Closed: it has.
            UserError: it sent what cannot be used.
        """
        self._introduce()
        self._message = _Message()
        self._send()
        self._take_settings()
        began = time.perf_counter()
        for _ in range(self._options.agents):
            self._schedule(self._join(self._options.behavior), began)
        while True:
            # What can be done before the time has come is: a step lasts what it should.
            due, agents = self._next()
            self._report(agents)
            data = self._serialized()
            while (now := time.perf_counter()) < due:
                time.sleep(due - now)
            self._act(self._exchange_bytes(data))

    def _introduce(self) -> None:
        """Introduces itself; the answer brings the seed and what the trainer is capable of."""
        hello = self._message.unity_output.rl_initialization_output
        hello.name = self._options.env.behavior
        hello.communication_version = self._options.version
        hello.package_version = PACKAGE_VERSION
        for capability in CAPABILITIES:  # no groups
            setattr(hello.capabilities, capability, True)
        self._send()
        initialization = self._answer.unity_input.rl_initialization_input
        capabilities = initialization.capabilities
        mapping = bool(capabilities.concatenatedPngObservations and capabilities.compressedChannelMapping)
        options = self._options
        variable = capabilities.variableLengthObservation
        self._world = World(
            options.env, initialization.seed, self._settings, options.layout, mapping, options.goal, variable
        )

    def _join(self, behavior: str) -> Unit:
        agent: Unit
        if isinstance(self._options.env, GymEnv):
            agent = Agent(self._world, f"{behavior}?team=0", len(self._agents))
        else:
            from envs.unity.python_player.party import Party  # for games alone

            agent = Party(self._world, len(self._agents))
        self._agents.append(agent)
        return agent

    def _schedule(self, agent: Unit, now: float) -> None:
        """Plans its next message, which is due once what it does has lasted, from `now`."""
        scale = self._settings.time_scale
        seconds = agent.duration / scale if agent.duration and scale > 0 else 0.0
        heapq.heappush(self._due, (now + seconds, agent.index, agent))

    def _next(self) -> tuple[float, list[Unit]]:
        """When the next message is due, and the agents that it is about."""
        due = self._due
        when = due[0][0]
        now = max(when, time.perf_counter())
        agents = []
        while due and due[0][0] <= now:
            agents.append(heapq.heappop(due)[2])
        if self._late and self._sent + 1 >= self._late.message:
            agents.append(self._join(self._late.what))
            self._late = None
        return when, agents

    def _report(self, agents: list[Unit]) -> None:
        """Makes the message of what is due, with the parameters of behaviors that appear in it first."""
        self._message = _Message()  # what one has held is freed with it alone
        output = self._message.unity_output
        report = output.rl_output
        self._asking.clear()
        for agent in agents:
            for metrics in agent.metrics:
                report.side_channel += statistics(metrics)
            for place, line in enumerate(agent.lines):
                behavior = line.behavior_id
                report.agentInfos[behavior].value.append(line.info)
                if line.asks:
                    self._asking.setdefault(behavior, []).append((agent, place))
                if behavior not in self._known:
                    self._known.add(behavior)
                    brain_parameters(output.rl_initialization_output.brain_parameters.add(), line.spec, behavior)

    def _act(self, now: float) -> None:
        """Does what the answer says, which came at `now`."""
        self._take_settings()
        content = self._answer.unity_input.rl_input
        if content.command == _RESET:
            self._due.clear()
            for agent in self._agents:
                agent.restart()
                self._schedule(agent, now)
            return
        chosen: dict[int, dict[int, Any]] = {}
        for behavior, lines in self._asking.items():
            actions = content.agent_actions[behavior].value
            if len(actions) != len(lines):
                raise UserError(f"Behavior {behavior!r}: {len(lines)} agents asked, {len(actions)} actions came.")
            for (agent, place), action in zip(lines, actions):
                chosen.setdefault(agent.index, {})[place] = action
        for index, actions in chosen.items():
            self._agents[index].act(actions)
            self._schedule(self._agents[index], now)

    def _take_settings(self) -> None:
        content = self._answer.unity_input.rl_input
        if content.command == _QUIT:
            raise Closed("the trainer said quit")
        if content.side_channel:
            self._settings.take(content.side_channel)

    def _send(self) -> None:
        self._exchange_bytes(self._serialized())

    def _serialized(self) -> bytes:
        """Returns the next message."""
        self._message.header.status = _OK
        self._sent += 1
        if self._fault:
            return spoiled(self._fault, self._message, self._sent)
        return bytes(self._message.SerializeToString())

    def _exchange_bytes(self, data: bytes) -> float:
        """Sends a message and takes in its answer; when that came."""
        answer = self._exchange(data)
        now = time.perf_counter()
        try:
            self._answer = _Message.FromString(answer)
        except DecodeError as error:
            raise UserError(f"The trainer's answer to message {self._sent} is not of the protocol: {error}.") from error
        status = self._answer.header.status
        if status != _OK:
            raise Closed(f"the trainer sent status {status}")
        if self._message.header.status != _OK:
            raise Closed("this player quit")
        return now
