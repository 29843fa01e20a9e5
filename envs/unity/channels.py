"""Side channels of one player: engine settings and parameters to it, statistics from it, and channels of the user's."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any
from uuid import UUID

import envs.unity.protocol.messages  # noqa: F401 - before anything of mlagents_envs
from envs.imports import imported
from envs.parameters import Value
from envs.spec import Statistic, UserError
from envs.unity.protocol.bounds import (
    MOST_STATISTIC_NAMES,
    MOST_STATISTICS,
    PlayerFault,
    check_count,
    check_name,
)

from mlagents_envs.side_channel import IncomingMessage, SideChannel  # isort: skip
from mlagents_envs.side_channel.engine_configuration_channel import EngineConfigurationChannel  # isort: skip
from mlagents_envs.side_channel.environment_parameters_channel import EnvironmentParametersChannel  # isort: skip
from mlagents_envs.side_channel.side_channel_manager import SideChannelManager  # isort: skip
from mlagents_envs.side_channel.stats_side_channel import StatsSideChannel  # isort: skip


class Channels:
    """The side channels of one player. What it needs from the start is queued at once.

    Args:
        engine, own: `UnityConfig.engine` and `channels`, which have been checked.
        parameters: numbers and samplers.
        seed: of the samplers, together with their names.
    """

    def __init__(
        self, engine: Mapping[str, Any], parameters: Mapping[str, Value], own: Sequence[str], seed: int
    ) -> None:
        self._statistics = _Statistics()
        settings = EngineConfigurationChannel()
        settings.set_configuration_parameters(**engine)
        self._parameters = EnvironmentParametersChannel()
        self._seed = seed
        for name, value in parameters.items():
            self.set_parameter(name, value)
        channels = [settings, self._parameters, self._statistics, *(_class(path)() for path in own)]
        self._channels: dict[UUID, Any] = {channel.channel_id: channel for channel in channels}
        self._manager = SideChannelManager(channels)
        self.notes: list[str] = []
        """What is to be said of what the player has sent: of the first channels that are not known, each once."""
        self._unknown: set[UUID] = set()

    def set_parameter(self, name: str, value: Value, change: int = 0) -> None:
        """Queues a number, or a sampler that begins its draws; those of each `change` are others."""
        channel = self._parameters
        if not isinstance(value, Mapping):
            channel.set_float_parameter(name, float(value))
            return
        # Not the same draws for every parameter.
        text = f"{self._seed} {name} {change}" if change else f"{self._seed} {name}"
        seed = int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "little") & 0x7FFFFFFF
        if value["sampler"] == "uniform":
            channel.set_uniform_sampler_parameters(name, value["min"], value["max"], seed)
        elif value["sampler"] == "gaussian":
            channel.set_gaussian_sampler_parameters(name, value["mean"], value["deviation"], seed)
        else:
            channel.set_multirangeuniform_sampler_parameters(name, value["intervals"], seed)

    def outgoing(self) -> bytes:
        """Returns what has been queued for the player since the last call."""
        for channel in self._channels.values():
            if channel.message_queue:
                return bytes(self._manager.generate_side_channel_messages())
        return b""

    def incoming(self, data: bytes) -> None:
        """Hands what the player sent to its channels. Of a channel that is not known, `notes` says so.

        Raises:
            PlayerFault: it is malformed or too much, or a channel fails over it.
        """
        for channel_id, payload in _split(data):
            self._receive(channel_id, payload)

    def take_statistics(self) -> list[Statistic]:
        """Returns what the game reported since the last call, in its order."""
        taken, self._statistics.received = self._statistics.received, []
        return taken

    def _receive(self, channel_id: UUID, payload: bytes) -> None:
        channel = self._channels.get(channel_id)
        if channel is not None:
            try:
                channel.on_message_received(IncomingMessage(payload))
            except PlayerFault:
                raise
            except Exception as error:  # anything: it may be a channel of the user's
                name = type(channel).__name__
                raise PlayerFault(
                    f"{name} could not take a message of {len(payload)} bytes: {type(error).__name__}: {error}"
                ) from error
        elif channel_id not in self._unknown and len(self._unknown) < _MOST_NAMED:
            self._unknown.add(channel_id)
            more = "; others are not named any more" * (len(self._unknown) == _MOST_NAMED)
            self.notes.append(
                f"the game sends on side channel {channel_id}, which nothing here listens to: if it is yours, name "
                f"its Python class in env.channels{more}"
            )


def check_channels(own: Sequence[str]) -> None:
    """Refuses side channels, import paths `package.module:Class`, that cannot be had: a UserError names the first."""
    taken: dict[UUID, str] = {
        kind().channel_id: f"Outstep's own {kind.__name__}"
        for kind in (EngineConfigurationChannel, EnvironmentParametersChannel, StatsSideChannel)
    }
    for path in own:
        kind = _class(path)
        try:
            channel = kind()
            channel_id, queue = channel.channel_id, channel.message_queue
        except Exception as error:  # the user's code
            raise UserError(
                f"env.channels: {path} cannot be made ({type(error).__name__}: {error}): it must need no arguments "
                "and call super().__init__(channel_id)"
            ) from error
        if not isinstance(channel_id, UUID) or not isinstance(queue, list):
            raise UserError(f"env.channels: {path} has the id {channel_id!r}: pass a uuid.UUID to super().__init__")
        if channel_id in taken:
            raise UserError(f"env.channels: {path} has the id {channel_id} of {taken[channel_id]}: give it another")
        taken[channel_id] = path


_MOST_NAMED = 3
"""Channels that are not known: a game may make up ever new ones."""


def _split(data: bytes) -> list[tuple[UUID, bytes]]:
    """Returns the messages in the side channels' data, each with the id of its channel."""
    ids: dict[bytes, UUID] = {}
    messages: list[tuple[UUID, bytes]] = []
    start = 0
    while start < len(data):
        if len(messages) == MOST_STATISTICS:
            raise PlayerFault(f"it sent more than {MOST_STATISTICS:,} statistics in one message")
        if start + 20 > len(data):
            raise PlayerFault(f"its side channels' data is cut off: {len(data) - start} bytes where a frame begins")
        key = data[start : start + 16]
        channel_id = ids.get(key) or ids.setdefault(key, UUID(bytes_le=key))
        (length,) = struct.unpack_from("<i", data, start + 16)
        start += 20
        if not 0 <= length <= len(data) - start:
            raise PlayerFault(
                f"side channel {channel_id}: a message claims {length} bytes, and {len(data) - start} are there"
            )
        messages.append((channel_id, data[start : start + length]))
        start += length
    return messages


class _Statistics(StatsSideChannel):  # type: ignore[misc]
    """Keeps the order of what was received, and refuses what is malformed."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Statistic] = []
        self._names: set[str] = set()

    def on_message_received(self, msg: IncomingMessage) -> None:
        data = msg.buffer
        length = struct.unpack_from("<i", data)[0] if len(data) >= 4 else -1
        if not 0 <= length <= len(data) - 12:
            raise PlayerFault(f"a statistic of {len(data)} bytes has a name of {length}")
        value, aggregation = struct.unpack_from("<fi", data, 4 + length)
        if not 0 <= aggregation < len(_AGGREGATIONS):
            raise PlayerFault(f"a statistic has aggregation {aggregation}, not one of 0 to {len(_AGGREGATIONS) - 1}")
        name = data[4 : 4 + length].decode("ascii", "replace")
        if name not in self._names:
            check_name("a statistic", name)
            check_count("statistics of different names", len(self._names) + 1, MOST_STATISTIC_NAMES)
            self._names.add(name)
        self.received.append(Statistic(name, value, _AGGREGATIONS[aggregation]))


_AGGREGATIONS = ("average", "most_recent", "sum", "histogram")


def _class(path: str) -> Any:
    """Returns the class at an import path; UserError if there is none or it is no side channel."""
    found = imported(path, "env.channels")
    if not (isinstance(found, type) and issubclass(found, SideChannel)):
        raise UserError(f"env.channels: {path} must be a subclass of mlagents_envs.side_channel.SideChannel")
    return found
