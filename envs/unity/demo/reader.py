"""Demonstrations in ML-Agents' `.demo` files, read.

A file is a header of two messages, the meta at byte 0 and the behavior's parameters at byte 33, and records: an agent's
observations and the action that it took there. What the action earned, and whether the episode ended with it, stands
in the next record. Each message follows its length, a varint. Nothing that a file says of itself is believed.

Shapes: N records, T steps of an episode; C continuous actions, B discrete branches, A mask entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from envs.process.ram import available_memory
from envs.spec import Array, BehaviorSpec, Demonstration, UserError, joined
from envs.unity.protocol.decoding import AgentFault, AgentReader, Agents, agent_bytes
from envs.unity.protocol.messages import message, raw_class

PARAMETERS_AT = 33
"""Where ML-Agents has written the behavior's parameters in all its releases."""
API_VERSIONS = (0, 1)


class Demo(NamedTuple):
    """What is in one file."""

    name: str
    """Of the demonstration."""
    behavior: str
    """Its name, without a team."""
    spec: BehaviorSpec
    """As the first record shows it."""
    api_version: int
    episodes: list[Demonstration]
    """Those with at least one step."""
    forbidden: int
    """Steps whose recorded choice their own mask forbids."""
    digest: str
    """SHA-256 of the file, hexadecimal."""


def read_demo(path: Path) -> Demo:
    """Returns the demonstrations in a `.demo` file.

    A file whose recording was never closed is read as far as whole records go. The last record of an episode that was
    not ended only gives the final observation: nothing is known of what its action led to.

    Raises:
        UserError: it cannot be read, anything in it is damaged or not as expected, or memory cannot hold what it says.
    """
    try:
        data = path.read_bytes()
        return _read(data)
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror or error})") from None
    except AgentFault as fault:
        raise UserError(f"{path}: record {fault.agent}: {fault.problem}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


_BATCH = 512
"""Records that are read at once: many, for the sake of speed, but never all of them twice in memory."""
_LONGEST_VARINT = 10
_COPIES = 2
"""Of all arrays, for a moment: batch by batch, and joined."""
_MIB = 2**20
_POSITIONS = (PARAMETERS_AT, 32)
"""Where parameters are looked for: others have taken the 32 bytes that ML-Agents speaks of for the whole header."""


class _CutOffError(Exception):
    """The file ends before what it claims to hold."""


class _Actions(NamedTuple):
    continuous: Array
    """(N, C) float32."""
    discrete: Array
    """(N, B) int32."""


def _read(data: bytes) -> Demo:
    if not data:
        raise UserError("it is empty, where the header of a demonstration was expected")
    meta, end = _meta(data)
    parameters, start = _parameters(data, end)
    records = _records(data, start, meta.number_steps)
    if not records or data[start:] == meta.SerializeToString():  # the tail alone
        raise UserError("it holds no records: nothing was recorded, so record it again")
    first = _pair(data, 1, records[0])
    if not first.agent_info.observations:
        raise UserError(
            "record 1: it has no observations, not at least one (the first versions of ML-Agents kept them elsewhere: "
            "record it again with a current one)"
        )
    first.agent_info.id = 1
    try:
        reader = AgentReader(parameters.brain_name, parameters, first.agent_info, channels_first=None)
    except UserError as error:
        raise UserError(f"header and record 1: {error}") from None
    _check_memory(len(records), reader.spec)
    parts = list(_parts(data, records, reader))
    agents, actions = joined([part for part, _ in parts]), joined([part for _, part in parts])
    spans = list(_spans(agents.done))
    forbidden = sum(_forbidden(reader.spec, agents.mask[a:b], actions.discrete[a:b]) for a, b in spans)
    episodes = [_episode(agents, actions, first, last) for first, last in spans if last > first]
    digest = hashlib.sha256(data).hexdigest()
    return Demo(meta.demonstration_name, reader.spec.name, reader.spec, meta.api_version, episodes, forbidden, digest)


def _meta(data: bytes) -> tuple[Any, int]:
    """Returns the DemonstrationMetaProto, and where it ends."""
    try:
        start, end = _delimited(data, 0)
        meta = message("demonstration_meta", "DemonstrationMetaProto").FromString(data[start:end])
    except (_CutOffError, DecodeError, ValueError) as error:
        raise UserError(f"it is no demonstration of ML-Agents, or its first bytes are damaged ({error})") from None
    if meta.api_version not in API_VERSIONS:
        raise UserError(f"it has API version {meta.api_version}, not {' or '.join(map(str, API_VERSIONS))}")
    if meta.number_steps < 0:
        raise UserError(f"its header claims {meta.number_steps} records, where none or more were expected")
    return meta, end


def _parameters(data: bytes, meta_end: int) -> tuple[Any, int]:
    """Returns the BrainParametersProto, and where it ends."""
    for position in _POSITIONS:
        if position < meta_end:
            continue
        try:
            start, end = _delimited(data, position)
            parameters = message("brain_parameters", "BrainParametersProto").FromString(data[start:end])
        except (_CutOffError, DecodeError, ValueError):
            continue
        if parameters.HasField("action_spec") or parameters.vector_action_size_deprecated:
            return parameters, end
    if len(data) <= PARAMETERS_AT:
        raise UserError(
            f"it ends after {len(data)} bytes, within its header: it was cut off, so copy or record it again"
        )
    if meta_end > PARAMETERS_AT:
        raise UserError(
            f"its meta takes {meta_end} bytes, not at most {PARAMETERS_AT}, and so covers the behavior's parameters: "
            "record it again under a shorter name"
        )
    raise UserError(
        f"no behavior parameters with actions stand at byte {PARAMETERS_AT}: it was cut off there, is damaged, or is "
        "no demonstration of ML-Agents"
    )


def _records(data: bytes, position: int, count: int) -> list[tuple[int, int]]:
    """Returns where each of `count` records starts and ends; 0 (of a recording not closed) means all whole ones."""
    records: list[tuple[int, int]] = []
    while not count or len(records) < count:
        try:
            start, position = _delimited(data, position)
        except _CutOffError as error:
            if not count:
                break
            raise UserError(
                f"it ends in record {len(records) + 1} of {count} ({error}): it was cut off, so copy or record it again"
            ) from None
        except ValueError as error:
            raise UserError(f"record {len(records) + 1}: {error}") from None
        records.append((start, position))
    return records


def _delimited(data: bytes, position: int) -> tuple[int, int]:
    """Returns where the message lies whose length stands at `position`.

    Raises:
        _CutOffError: the file is too short for it.
        ValueError: this is no length.
    """
    length = 0
    for i, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        length |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            start = position + i + 1
            if length > len(data) - start:
                raise _CutOffError(f"{length} bytes should follow byte {start}, where {len(data) - start} do")
            return start, start + length
    if position + _LONGEST_VARINT <= len(data):
        raise ValueError(f"the length at byte {position} has more than the {_LONGEST_VARINT} bytes that one can have")
    raise _CutOffError(f"a length was expected at byte {position}, where the file ends")


def _pair(data: bytes, number: int, span: tuple[int, int]) -> Any:
    """Returns an AgentInfoActionPairProto, with FloatData as bytes."""
    try:
        pair = raw_class("AgentInfoActionPairProto").FromString(data[span[0] : span[1]])
    except (DecodeError, ValueError):
        raise UserError(
            f"record {number}: its {span[1] - span[0]} bytes are no pair of an agent and its action: the file is "
            "damaged, or of one of the first versions of ML-Agents, which wrote other records"
        ) from None
    pair.DiscardUnknownFields()
    return pair


def _check_memory(records: int, spec: BehaviorSpec) -> None:
    """Raises UserError if the arrays would not fit: a file says in a few bytes what takes many (PNGs, masks)."""
    record = agent_bytes(spec) + 4 * (spec.continuous_size + len(spec.branches))
    wanted, available = _COPIES * records * record, available_memory()
    if wanted > available:
        raise UserError(
            f"its {records} records would take {wanted // _MIB:,} MiB of memory, but {available // _MIB:,} MiB are "
            "available: free memory, or leave this file out"
        )


def _parts(data: bytes, records: Sequence[tuple[int, int]], reader: AgentReader) -> Iterator[tuple[Agents, _Actions]]:
    """Yields all records, batch by batch. Agents have the number of their record, from 1."""
    for first in range(0, len(records), _BATCH):
        numbers = range(first + 1, min(first + _BATCH, len(records)) + 1)
        pairs = [_pair(data, number, records[number - 1]) for number in numbers]
        listed = raw_class("UnityRLOutputProto.ListAgentInfoProto")()
        for number, pair in zip(numbers, pairs):
            pair.agent_info.id = number
            listed.value.add().CopyFrom(pair.agent_info)
        agents = reader.read(listed)
        spec = reader.spec
        actions = _Actions(
            np.zeros((len(pairs), spec.continuous_size), np.float32),
            np.zeros((len(pairs), len(spec.branches)), np.int32),
        )
        for row, (number, pair) in enumerate(zip(numbers, pairs)):
            if not agents.done[row] and number < len(records):  # else it is no step
                actions.continuous[row], actions.discrete[row] = _action(number, pair.action_info, spec)
        yield agents, actions


def _action(number: int, action: Any, spec: BehaviorSpec) -> tuple[Sequence[float], Sequence[int]]:
    """Continuous (C,) and discrete (B,) of one step."""
    continuous, discrete = list(action.continuous_actions), list(action.discrete_actions)
    if not continuous and not discrete:
        old = list(action.vector_actions_deprecated)
        continuous, discrete = old[: spec.continuous_size], old[spec.continuous_size :]
    for kind, values, size in (
        ("continuous actions", continuous, spec.continuous_size),
        ("discrete actions", discrete, len(spec.branches)),
    ):
        if len(values) != size:
            raise UserError(f"record {number}: it has {len(values)} {kind}, not {size}")
    for i, value in enumerate(continuous):
        if not np.isfinite(value):
            raise UserError(f"record {number}: its continuous action {i} is {value}, not a finite number")
    for i, (choice, size) in enumerate(zip(discrete, spec.branches)):
        if not 0 <= choice < size or choice != int(choice):  # the old field holds floats
            raise UserError(f"record {number}: its choice in branch {i} is {choice}, not one of 0 to {size - 1}")
    return continuous, discrete


def _spans(done: Array) -> Iterator[tuple[int, int]]:
    """Returns for each episode its first record, and its last, which is no step."""
    first = 0
    for last in np.flatnonzero(done).tolist():
        yield first, last
        first = last + 1
    if first < len(done):
        yield first, len(done) - 1


def _episode(agents: Agents, actions: _Actions, first: int, last: int) -> Demonstration:
    terminated = bool(agents.done[last] and not agents.truncated[last])
    final = slice(last, last if terminated else last + 1)
    return Demonstration(
        tuple(observation[first:last] for observation in agents.observations),
        agents.mask[first:last],
        actions.continuous[first:last],
        actions.discrete[first:last],
        agents.reward[first + 1 : last + 1],
        terminated,
        tuple(observation[final] for observation in agents.observations),
        agents.mask[final],
    )


def _forbidden(spec: BehaviorSpec, mask: Array, discrete: Array) -> int:
    """Returns how many of T steps chose what their mask (T, A) forbids."""
    if not spec.masked:
        return 0
    starts = np.cumsum((0, *spec.branches))[:-1]
    return int((~np.take_along_axis(mask, discrete + starts, axis=1)).any(axis=1).sum())
