"""Messages of a player as arrays by behavior, and the answers to them as bytes.

Shapes: N agents of a behavior in one message; C continuous actions, B discrete branches, A mask entries; images are
H, W, C.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, prod
from typing import Any, NamedTuple, NoReturn

import numpy as np

from envs.spec import Array, BehaviorSpec, ObservationSpec, UserError
from envs.unity.protocol.bounds import (
    MOST_AGENTS,
    MOST_BEHAVIORS,
    MOST_OBSERVATIONS,
    PlayerFault,
    check_count,
    check_name,
    shown,
)
from envs.unity.protocol.columns import FloatColumn, MessageAgents
from envs.unity.protocol.messages import message
from envs.unity.protocol.png import read_pngs


class AgentFault(PlayerFault):
    """What cannot be used is one agent's: `agent` is its number, and `problem` says what it is."""

    def __init__(self, behavior_id: str, agent: int, problem: str, observation: str | None = None) -> None:
        if observation is None:
            super().__init__(f"behavior {behavior_id!r}, agent {agent}: {problem}")
            self.problem = problem
        else:
            super().__init__(f"behavior {behavior_id!r}, observation {observation!r}, agent {agent}: it sent {problem}")
            self.problem = f"observation {observation!r} has {problem}"
        self.agent = agent


class Agents(NamedTuple):
    """The agents of one behavior id in one message, in its order. The arrays belong to the receiver."""

    id: Array
    """(N,) int32: the player's numbers."""
    reward: Array
    """(N,) float32: own and the group's together, as ML-Agents' extrinsic signal learns from."""
    group: Array
    """(N,) int32; 0 = none."""
    group_reward: Array
    """(N,) float32: the group's share of `reward`."""
    done: Array
    """(N,) bool: the episode has ended; the others ask for a decision."""
    truncated: Array
    """(N,) bool: done because the greatest number of steps was reached."""
    observations: tuple[Array, ...]
    """For each observation of the spec (N, *shape); images are (N, H, W, C)."""
    mask: Array
    """(N, A) bool, True = allowed."""


class Decoder:
    """Reads the messages of one player.

    Args:
        package_version: of the player's C# package; decides between CHW and HWC images where the player's dimension
            properties do not.
    """

    def __init__(self, package_version: str = "") -> None:
        self.specs: dict[str, BehaviorSpec] = {}
        """By behavior name, grown as behaviors appear."""
        self.notes: list[str] = []
        """What is to be said of behaviors that have appeared."""
        self._channels_first = package_version.partition(".")[0] not in ("0", "1", "2")
        self._parameters: dict[str, Any] = {}
        """By full behavior id: BrainParametersProto that no agent has come with yet."""
        self._readers: dict[str, AgentReader] = {}

    def decode(self, unity_output: Any) -> dict[str, Agents]:
        """Returns the agents in the `unity_output` of a raw UnityMessageProto, by full behavior id; no id without any.

        Raises:
            PlayerFault: the message cannot be used.
            UserError: a behavior is of a kind that cannot be trained.
        """
        if unity_output.HasField("rl_initialization_output"):
            self._take_parameters(unity_output.rl_initialization_output.brain_parameters)
        agents, size = {}, 0
        listed = unity_output.rl_output.agentInfos
        check_count("behaviors in one message", len(listed), MOST_BEHAVIORS)
        check_count("agents in one message", sum(len(each.value) for each in listed.values()), MOST_AGENTS)
        for behavior_id in sorted(listed):  # the map itself has no order
            infos = listed[behavior_id]
            if infos.value:
                if behavior_id in self._parameters:
                    self._meet(behavior_id, infos.value[0])
                elif behavior_id not in self._readers:
                    raise PlayerFault(
                        f"it sent agents of behavior {shown(behavior_id)}, but never that behavior's parameters"
                    )
                reader = self._readers[behavior_id]
                size += len(infos.value) * agent_bytes(reader.spec)
                if size > MOST_BYTES:
                    raise PlayerFault(
                        f"behavior {behavior_id!r}: with its {len(infos.value)} agents the message would take "
                        f"{size // 2**20:,} MiB, not at most {MOST_BYTES // 2**20:,}"
                    )
                agents[behavior_id] = reader.read(infos)
        return agents

    def _take_parameters(self, sent: Sequence[Any]) -> None:
        check_count("behaviors in one message", len(sent), MOST_BEHAVIORS)
        for parameters in sent:
            check_name("a behavior", parameters.brain_name)
            self._parameters[parameters.brain_name] = parameters
        check_count("behaviors", len(self._parameters.keys() | self._readers.keys()), MOST_BEHAVIORS)

    def _meet(self, behavior_id: str, info: Any) -> None:
        """Learns the spec of a behavior from its parameters and its first agent."""
        reader = AgentReader(behavior_id, self._parameters[behavior_id], info, self._channels_first)
        spec, name = reader.spec, reader.spec.name
        difference = spec.difference(self.specs.get(name, spec))
        if difference and behavior_id in self._readers:
            raise PlayerFault(f"it sent other parameters of behavior {behavior_id!r} than before: {difference}")
        if difference:
            raise UserError(
                f"behavior {behavior_id!r} is not like other teams of {name!r}: it has {difference}; "
                "teams share a policy: give them the same sensors and actions, or different behavior names"
            )
        if reader.empty and name not in self.specs:
            self.notes.append(
                f"behavior {name!r}, observation {reader.empty}: it has size 0, and is left out of what its "
                "policy observes, and of its model: take the sensor off before the model goes into the game"
            )
        del self._parameters[behavior_id]
        self.specs[name] = spec
        self._readers[behavior_id] = reader


class AgentReader:
    """Reads the agents of one behavior id.

    Args:
        behavior_id: the full one.
        parameters: its BrainParametersProto.
        info: its first agent, whose observations show how they are sent.
        channels_first: whether images are CHW where their dimension properties do not say; None if it is unknown.

    Raises:
        PlayerFault: the first agent cannot be used.
        UserError: the behavior is of a kind that cannot be trained.
    """

    def __init__(self, behavior_id: str, parameters: Any, info: Any, channels_first: bool | None) -> None:
        name = behavior_name(behavior_id)
        team_of(behavior_id)  # or refuses it
        layouts = _layouts(name, info.observations, channels_first)
        continuous_size, branches = _actions(name, parameters)
        observations = tuple(layout.spec for layout in layouts.values())
        self.spec = BehaviorSpec(name, observations, continuous_size, branches, masked=bool(branches))
        self.empty = _names((i, each) for i, each in enumerate(info.observations) if i not in layouts)
        """Names of observations of size 0, which are left out, in words; empty if there are none."""
        self._id, self._layouts, self._count = behavior_id, layouts, len(info.observations)
        self._raw = [(i, layout.shape, 4 * layout.size) for i, layout in layouts.items() if not layout.png]
        self._floats([info])  # else the columns would take memory for what is only claimed
        self._columns = [FloatColumn(info.observations[i], size // 4) for i, _, size in self._raw]
        self._branch_starts = np.cumsum((0, *branches))[:-1]

    def read(self, agents: Any) -> Agents:
        """Returns the agents (N,) of a `ListAgentInfoProto` that is not empty; PlayerFault if one cannot be used."""
        message = MessageAgents(agents)
        ids = message.field("id")
        done = message.array("done", bool)
        if len(set(ids)) < len(ids):
            asking, counts = np.unique(np.array(ids)[~done], return_counts=True)
            if (counts > 1).any():  # an agent may ask and end in one message
                raise AgentFault(self._id, int(asking[counts > 1][0]), "it asks twice in one message")
        return Agents(
            np.array(ids, np.int32),
            self._rewards(message, ids),
            message.array("group_id", np.int32),
            message.array("group_reward", np.float32),
            done,
            message.array("max_step_reached", bool) & done,
            self._observations(message),
            self._mask(message),
        )

    def _rewards(self, message: MessageAgents, ids: list[int]) -> Array:
        rewards = message.field("reward")
        if message.has("group_reward"):
            rewards = [own + shared for own, shared in zip(rewards, message.field("group_reward"))]
        # The sum of doubles shows a NaN, which comparisons may miss.
        if not isfinite(sum(rewards)) or not -_LARGEST <= min(rewards) <= max(rewards) <= _LARGEST:
            wrong = [(agent, reward) for agent, reward in zip(ids, rewards) if not abs(reward) <= _LARGEST]
            raise AgentFault(self._id, wrong[0][0], f"its reward is {wrong[0][1]}")
        return np.array(rewards, np.float32)

    def _observations(self, message: MessageAgents) -> tuple[Array, ...]:
        arrays = self._float_columns(message) or self._floats(message.infos)
        for i, layout in self._layouts.items():
            if layout.png:
                arrays[i] = np.stack([self._picture(info, i, info.observations[i]) for info in message.infos])
            elif layout.channels_first:
                arrays[i] = np.ascontiguousarray(arrays[i].transpose(0, 2, 3, 1))
        return tuple([arrays[i] for i in self._layouts])

    def _float_columns(self, message: MessageAgents) -> dict[int, Array] | None:
        """Returns what `_floats` returns, of many agents; None where agents have to be visited one by one."""
        count = self._count
        if message.columns is None or len(self._raw) < len(self._layouts):
            return None
        observations = message.columns.observations[:]
        if len(observations) != message.count * count:
            return None
        arrays = {}
        for (i, shape, _), column in zip(self._raw, self._columns):
            values = column.read(observations[i::count])
            if values is None or not np.isfinite(values).all():
                return None
            arrays[i] = values.reshape(-1, *shape)
        return arrays

    def _floats(self, infos: Sequence[Any]) -> dict[int, Array]:
        """Returns what is not compressed, by its index and as on the wire: (N, *shape)."""
        observed = [info.observations for info in infos]
        for info, observations in zip(infos, observed):
            if len(observations) != self._count:
                raise AgentFault(self._id, info.id, f"it has {len(observations)} observations, not {self._count}")
        arrays = {}
        for i, shape, size in self._raw:
            chunks = []
            for row, observations in enumerate(observed):
                observation = observations[i]
                data = observation.float_data.data
                if len(data) != size or observation.shape != shape:
                    self._refuse(infos[row], i, f"{len(data) / 4:g} floats of shape {shown(observation.shape[:9])}")
                chunks.append(data)
            values = np.frombuffer(bytearray().join(chunks), _FLOAT)
            if not np.isfinite(values).all():
                wrong = int(np.isfinite(values).argmin())
                row, place = divmod(4 * wrong, size)
                self._refuse(infos[row], i, f"the value {values[wrong]} as number {place // 4}")
            arrays[i] = values.reshape(-1, *shape)
        return arrays

    def _picture(self, info: Any, index: int, observation: Any) -> Array:
        """Returns (H, W, C) uint8."""
        layout = self._layouts[index]
        if observation.compression_type != _PNG or observation.shape != layout.shape:
            kind = "PNGs" if observation.compression_type == _PNG else "no PNGs, but data"
            self._refuse(info, index, f"{kind} of shape {shown(observation.shape[:9])}")
        try:
            return read_pngs(observation.compressed_data, layout.spec.shape, observation.compressed_channel_mapping)
        except ValueError as error:
            self._refuse(info, index, str(error))

    def _refuse(self, info: Any, index: int, what: str) -> NoReturn:
        layout = self._layouts[index]
        wanted = f"{'PNGs' if layout.png else f'{layout.size} finite floats'} of shape {layout.shape}"
        raise AgentFault(self._id, info.id, f"{what}, not {wanted}", layout.spec.name)

    def _mask(self, message: MessageAgents) -> Array:
        if not self.spec.masked:
            return np.zeros((message.count, 0), bool)
        size = self.spec.mask_size
        rows = message.masks()
        if not any(rows):
            return np.ones((message.count, size), bool)
        if not all(rows):
            rows = [row or bytes(size) for row in rows]
        if set(map(len, rows)) != {size}:
            info, row = next((info, row) for info, row in zip(message.infos, rows) if len(row) != size)
            branches = list(self.spec.branches)
            raise AgentFault(
                self._id, info.id, f"its action mask has {len(row)} entries, not {size} for branches {branches}"
            )
        allowed: Array = ~np.frombuffer(b"".join(rows), bool).reshape(-1, size)
        if not allowed.all():
            stuck = ~np.logical_or.reduceat(allowed, self._branch_starts, axis=1).all(axis=1)
            if stuck.any():
                agent = message.infos[int(stuck.argmax())].id
                raise AgentFault(self._id, agent, "its action mask leaves a branch without a choice")
        return allowed


def agent_bytes(spec: BehaviorSpec) -> int:
    """Returns what the observations and the mask of one agent take in `Agents`."""
    observed = sum(prod(each.shape) * np.dtype(each.dtype).itemsize for each in spec.observations)
    return observed + spec.mask_size


def behavior_name(behavior_id: str) -> str:
    """Returns the name in a full behavior id: `Striker` of `Striker?team=1`."""
    return behavior_id.partition("?")[0]


def team_of(behavior_id: str) -> int:
    """Returns the team in a full behavior id: 1 of `Striker?team=1`, 0 where it names none.

    PlayerFault if that is no number of 32 bits.
    """
    team = behavior_id.partition("?team=")[2]
    if not team:
        return 0
    if not _TEAM.fullmatch(team) or not -(2**31) <= int(team) < 2**31:
        raise PlayerFault(f"it sent the behavior id {shown(behavior_id)}, whose team is not a number of 32 bits")
    return int(team)


_TEAM = re.compile(r"-?[0-9]{1,10}")


def encode_reply(actions: Mapping[str, tuple[Array, Array]], side_channel: bytes = b"", reset: bool = False) -> bytes:
    """Returns the serialized answer to a player's message.

    Args:
        actions: by full behavior id, continuous (N, C) float32 and discrete (N, B) int32, in the order of the agents
            that asked.
        side_channel: what `Channels.outgoing` returned.
        reset: the player is to begin all its episodes again.
    """
    answer = message("unity_message", "UnityMessageProto")()
    answer.header.status = 200
    rl_input = answer.unity_input.rl_input
    if reset:
        rl_input.command = _RESET
    rl_input.side_channel = side_channel
    for behavior_id, (continuous, discrete) in actions.items():
        add = rl_input.agent_actions[behavior_id].value.add
        for floats, choices in zip(continuous.tolist(), discrete.tolist()):
            add(vector_actions_deprecated=floats + choices, continuous_actions=floats, discrete_actions=choices)
    return bytes(answer.SerializeToString())


_RESET = 1
_PNG = 1
_FLOAT = np.dtype("<f4")
_NO_PROPERTY, _VARIABLE_SIZE = 1, 4
"""Of a dimension."""
_GOAL = 1
"""The type of an observation that is a goal signal."""
_LARGEST = float(np.finfo(np.float32).max)
_MOST_VALUES = 2**24
"""In one observation: more is a mistake, and would take the machine's memory before anyone could say so."""
_MOST_CHOICES = 2**14
"""Of one agent: a mask of more would outweigh all observations."""
_SHOWN = 9
"""Numbers of a shape: a right one has three."""
MOST_BYTES = 2**30
"""That the arrays of one message may take: a few bytes of it can stand for many (PNGs, masks that are left out)."""


class _Layout(NamedTuple):
    """How one observation of a behavior is sent."""

    spec: ObservationSpec
    shape: list[int]
    """On the wire: (C, H, W) where `channels_first`."""
    png: bool
    channels_first: bool

    @property
    def size(self) -> int:
        return prod(self.shape)


def _layouts(behavior: str, observations: Sequence[Any], channels_first: bool | None) -> dict[int, _Layout]:
    """Returns how a behavior's observations are sent, from those of its first agent; those of size 0 are left out."""
    check_count(f"observations of an agent of behavior {behavior!r}", len(observations), MOST_OBSERVATIONS)
    layouts: dict[int, _Layout] = {}
    names: set[str] = set()
    for i, observation in enumerate(observations):
        check_name(f"an observation of behavior {behavior!r}", observation.name)
        if len(observation.shape) <= 3 and 0 in observation.shape:
            continue
        name = observation.name if observation.name and observation.name not in names else f"obs_{i}"
        while name in names:
            name += "_"
        names.add(name)
        layouts[i] = _layout(f"behavior {behavior!r}, observation {name!r}", name, observation, channels_first)
    if not layouts:
        empty = f", as observation {_names(enumerate(observations))} has size 0" if observations else ""
        raise UserError(
            f"behavior {behavior!r} observes nothing{empty}: give its agents a sensor or a vector observation"
        )
    return layouts


def _names(observations: Iterable[tuple[int, Any]]) -> str:
    names = [shown(each.name or f"obs_{i}") for i, each in observations]
    return ", ".join(names[:5]) + ", …" * (len(names) > 5)


def _layout(where: str, name: str, observation: Any, channels_first: bool | None) -> _Layout:
    shape, properties = observation.shape[:_SHOWN], observation.dimension_properties[:_SHOWN]
    entities, goal = any(flags & _VARIABLE_SIZE for flags in properties), observation.observation_type == _GOAL
    if entities and (len(shape) != 2 or properties != [_VARIABLE_SIZE, _NO_PROPERTY] or observation.compression_type):
        raise UserError(
            f"{where} is of variable length, with shape {shown(shape)} and dimension properties {properties}: only a "
            "BufferSensor's is supported, numbers of shape [most entities, numbers each] with properties "
            f"{[_VARIABLE_SIZE, _NO_PROPERTY]}"
        )
    if entities and goal:
        raise UserError(
            f"{where} is a goal signal of variable length, which no network can be told of: give the goal by a sensor "
            "of fixed size, or leave the BufferSensor's observation type at Default"
        )
    if not 1 <= len(shape) <= 3 or min(shape) < 1 or prod(shape) > _MOST_VALUES:
        raise UserError(
            f"{where} has shape {shown(shape)}: one to three dimensions are supported, with at most {_MOST_VALUES} "
            "values"
        )
    png = observation.compression_type == _PNG
    if observation.compression_type not in (0, _PNG) or (png and len(shape) != 3):
        raise UserError(
            f"{where} has shape {shape} and compression {observation.compression_type}: "
            "only images (three dimensions) may be compressed, and only as PNG (1)"
        )
    if len(shape) < 3:
        spec = ObservationSpec(name, tuple(shape), "float32", entities=entities, goal=goal)
        return _Layout(spec, shape, png, channels_first=False)
    if properties in ([1, 2, 2], [2, 2, 1]):
        channels_first = properties[0] == 1
    elif channels_first is None:
        # Players that describe no dimensions are old, and send HWC; but files have been made by others, too.
        channels_first = bool(properties) or shape[0] < shape[2]
    image = (*shape[1:], shape[0]) if channels_first else tuple(shape)
    dtype, scale = ("uint8", 1 / 255) if png else ("float32", 1.0)
    spec = ObservationSpec(name, image, dtype, scale, goal=goal)
    return _Layout(spec, shape, png, channels_first)


def _actions(behavior: str, parameters: Any) -> tuple[int, tuple[int, ...]]:
    """Returns how many continuous actions, and the sizes of the discrete branches."""
    spec = parameters.action_spec
    continuous, branches = spec.num_continuous_actions, tuple(spec.discrete_branch_sizes[: _MOST_CHOICES + 1])
    if not continuous and not spec.num_discrete_actions:  # players before version 1.3 of the protocol
        sizes = tuple(parameters.vector_action_size_deprecated[: _MOST_CHOICES + 1])
        is_continuous = parameters.vector_action_space_type_deprecated == 1
        continuous, branches = (sum(sizes[:1]), ()) if is_continuous else (0, sizes)
    if continuous < 0 or any(size < 1 for size in branches) or not 1 <= continuous + sum(branches) <= _MOST_CHOICES:
        raise UserError(
            f"behavior {behavior!r} has no usable actions ({continuous} continuous, branches {shown(branches)}): "
            "give its Behavior Parameters a continuous action or a discrete branch of at least one choice, and at most "
            f"{_MOST_CHOICES} in all"
        )
    return continuous, branches
