"""Inputs from unexpected clients and damaged disks: valid ones to change, and what takes them as a run does."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import yaml
from google.protobuf.message import DecodeError
from PIL import Image

from buffers.rows import Layout, Rows, Writer
from buffers.snapshot import Snapshot, restore
from envs.spec import BehaviorSpec, Demonstration, ObservationSpec, UserError
from envs.unity.agent_ids import AgentIds
from envs.unity.channels import Channels
from envs.unity.config import UnityConfig
from envs.unity.demo.writer import DemoWriter
from envs.unity.protocol.bounds import PlayerFault
from envs.unity.protocol.decoding import Decoder, behavior_name
from envs.unity.protocol.http2 import Connection, ProtocolError, Request
from envs.unity.protocol.messages import message, raw_class
from envs.unity.protocol.png import read_pngs
from tests.stress.fuzz_endpoint import Clients, Refused, Requests
from tests.stress.mutations import changed_bytes, changed_json, changed_message, delimited, random_bytes
from trainer.checkpoint import FORMAT, CheckpointStore
from trainer.config.compose import compose
from trainer.config.saved import as_written, load_config, read_config, save_config
from trainer.config.schema import TrainConfig
from trainer.convert.__main__ import _load as load_mlagents
from trainer.convert.__main__ import convert
from trainer.demos.load import load_demonstrations
from trainer.report.settings import chosen_settings
from trainer.saved_policy import check_spec
from trainer.warm_start.torch_file import read_tensors


class Target(NamedTuple):
    """Something that takes inputs of others."""

    draw: Callable[[Random], Any]
    """An input."""
    take: Callable[[Any], object]
    ours: tuple[type[Exception], ...]
    """What it may raise."""
    longest: float = 1.0
    """Seconds of the processor that an input may take."""


def targets(folder: Path) -> dict[str, Target]:
    """All of them; files lie in `folder`."""
    demos, checkpoints, configs = _Demos(folder), _Checkpoints(folder), _Configs(folder)
    requests = Requests()
    clients = Clients(requests)
    return {
        "demo": Target(demos.draw, demos.take, (UserError,)),
        "checkpoint": Target(checkpoints.draw, checkpoints.take, (UserError,)),
        "message": Target(_draw_messages, _take_messages, (DecodeError, PlayerFault, UserError)),
        "side_channel": Target(_draw_side_channel, _take_side_channel, (PlayerFault,)),
        "http2": Target(_draw_frames, _take_frames, (ProtocolError,)),
        "config": Target(configs.draw, configs.take, (UserError,), longest=3.0),
        "mlagents": Target(_draw_mlagents, partial(_take_mlagents, folder / "trainer_config.yaml"), (UserError,)),
        "mlagents_weights": Target(*_weights(folder / "fuzzed.pt"), (UserError,)),
        "png": Target(_draw_png, lambda drawn: read_pngs(*drawn), (ValueError,)),
        "endpoint_request": Target(requests.draw, requests.take, (UserError,)),
        "endpoint_client": Target(clients.draw, clients.take, (Refused,)),
        "endpoint_model": Target(requests.draw_model, requests.take_model, (UserError,)),
    }


_MOST_ANSWERED = 64
"""Bytes that a client may get out of the server for each that it sends, and a greeting."""
_SPEC = BehaviorSpec(
    "Runner",
    (ObservationSpec("vector", (2,), "float32"), ObservationSpec("camera", (5, 4, 3), "uint8", 1 / 255)),
    continuous_size=1,
    branches=(3, 2),
    masked=True,
)
_RANDOM = 0.1
"""Share of inputs that are no change of anything, but random bytes."""


class _Demos:
    """Files of demonstrations, fitted to a behavior."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "fuzzed.demo"
        self._valid = [self._write(terminated) for terminated in (True, False)]

    def draw(self, random: Random) -> bytes:
        """A file's bytes: one message of it changed, or any of its bytes."""
        data = random.choice(self._valid)
        if random.random() < _RANDOM:
            return random_bytes(random)
        if random.random() < 1 / 3:
            return changed_bytes(random, data, self._valid)
        head, parts = data[:_HEADER_BYTES], _split(data[_HEADER_BYTES:])
        i = random.randrange(-1, len(parts))
        if i < 0:
            head = delimited(changed_message(random, _split(head)[0])).ljust(_HEADER_BYTES, b"\0")
        else:
            parts[i] = changed_message(random, parts[i], parts[1:])
        return head + b"".join(map(delimited, parts))

    def take(self, data: bytes) -> None:
        """Reads it as a run does."""
        self._file.write_bytes(data)
        load_demonstrations(str(self._file), "reward.gail.demos", _SPEC)

    def _write(self, terminated: bool) -> bytes:
        steps, rest = 4, 0 if terminated else 1
        generator = np.random.default_rng(0)
        camera = generator.integers(0, 256, (steps + rest, 5, 4, 3), dtype=np.uint8)
        vector = generator.normal(size=(steps + rest, 2)).astype(np.float32)
        episode = Demonstration(
            (vector[:steps], camera[:steps]),
            np.ones((steps, 5), bool),
            np.zeros((steps, 1), np.float32),
            np.ones((steps, 2), np.int32),
            np.ones(steps, np.float32),
            terminated,
            (vector[steps:], camera[steps:]),
            np.ones((rest, 5), bool),
        )
        with DemoWriter(self._file, _SPEC, "fuzzed") as writer:
            for _ in range(3):
                writer.add(episode)
        return self._file.read_bytes()


_HEADER_BYTES = 33


def _split(data: bytes) -> list[bytes]:
    """The messages behind their lengths, which are below 2**14."""
    parts, at = [], 0
    while at < len(data):
        size, at = data[at] & 0x7F, at + 1
        if data[at - 1] > 0x7F:
            size, at = size | data[at] << 7, at + 1
        parts.append(data[at : at + size])
        at += size
        if not any(data[at:]):
            break
    return parts


class _Checkpoints:
    """Two checkpoints of a run, the newer of which is changed."""

    def __init__(self, folder: Path) -> None:
        layout = Layout(_SPEC)
        self._rows = Rows(layout, bytearray(layout.memory_bytes(_CAPACITY)), _CAPACITY)
        Writer(self._rows)
        store = CheckpointStore(folder / "checkpoints")
        state = {"behaviors": {_SPEC.name: {"spec": _SPEC.to_dict(), "samples": 0}}, "report": {"values": [1.5] * 20}}
        tensors = {"Runner/weights/policy": np.ones(40, np.float32), "Runner/updates": np.array(3)}
        for _ in range(2):
            self._newest = store.save("1", tensors, state, {_SPEC.name: Snapshot(_played())})
        self._folder = store.folder
        self._valid = {file.name: file.read_bytes() for file in self._newest.iterdir()}
        for name, data in self._valid.items():  # no link to the checkpoint before
            (self._newest / name).unlink()
            (self._newest / name).write_bytes(data)

    def draw(self, random: Random) -> dict[str, bytes]:
        """Files by name, of which one is changed; the sums in the manifest are mostly made right again."""
        files = dict(self._valid)
        name = random.choice(sorted(files))
        if random.random() < _RANDOM:
            files[name] = random_bytes(random)
        elif random.random() < 1 / 3:
            files[name] = changed_bytes(random, files[name], list(files.values()))
        elif name.endswith(".json"):
            files[name] = changed_json(random, files[name])
        else:
            size = int.from_bytes(files[name][:8], "little")
            header = changed_json(random, files[name][8 : 8 + size])
            files[name] = struct.pack("<Q", len(header)) + header + files[name][8 + size :]
        if random.random() < 3 / 4:
            _mend(files)
        return files

    def take(self, files: Mapping[str, bytes]) -> None:
        """Loads it, and its rows."""
        for name, data in files.items():
            (self._newest / name).write_bytes(data)
        checkpoint = CheckpointStore(self._folder).load(self._newest)
        check_spec(_SPEC, checkpoint)
        for saved in checkpoint.replay.values():
            restore(self._rows, saved.index, saved.chunks())


_CAPACITY = 60


def _mend(files: dict[str, bytes]) -> None:
    """Makes the sums in a manifest right."""
    try:
        manifest = json.loads(files["manifest.json"])
        for name, entry in manifest["files"].items():
            entry.update(bytes=len(files[name]), sha256=hashlib.sha256(files[name]).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    else:
        manifest.pop("sha256", None)
        digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        files["manifest.json"] = json.dumps({"format": FORMAT, **manifest, "sha256": digest}).encode()


def _played() -> Rows:
    """Rows of two agents, one of whom is cut off at the end."""
    layout = Layout(_SPEC)
    rows = Rows(layout, bytearray(layout.memory_bytes(_CAPACITY)), _CAPACITY)
    writer = Writer(rows)
    for step in range(10):
        cut = np.array([step == 9, False])
        writer.append(
            agent=np.arange(2),
            observations=tuple(np.ones((2, *each.shape), each.dtype) for each in _SPEC.observations),
            mask=np.ones((2, 5), bool),
            continuous=np.zeros((2, 1), np.float32),
            discrete=np.ones((2, 2), np.int32),
            log_prob=np.zeros(2, np.float32),
            version=1,
            reward=np.ones(2, np.float32),
            terminated=np.zeros(2, bool),
            truncated=cut,
            final_observations=tuple(np.ones((int(cut.sum()), *each.shape), each.dtype) for each in _SPEC.observations),
            final_mask=np.ones((int(cut.sum()), 5), bool),
        )
    return rows


class _Configs:
    """`config.yaml` of a run's folder, of which one setting is changed, or the text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "run"
        self._folder.mkdir()
        words = ["algorithm=sac", "behaviors.A.algorithm.clip=0.1", "behaviors.A.algorithm.name=ppo"]
        valid = []
        for env in (["env.id=CartPole-v1", "env.kwargs.a=[1,2]"], ["env=unity", "env.parameters.speed=2"]):
            save_config(compose([*env, *words, "run.name=${oc.env:HOME}"], TrainConfig, "config"), self._folder)
            valid.append((self._folder / "config.yaml").read_bytes())
        self._valid = valid

    def draw(self, random: Random) -> bytes:
        """A file's bytes."""
        return _changed_yaml(random, random.choice(self._valid), self._valid)

    def take(self, data: bytes) -> None:
        """Shows it, and loads it as a run's that is trusted; what names code leads to modules that do not exist."""
        (self._folder / "config.yaml").write_bytes(data)
        shown = read_config(self._folder)
        as_written(shown), chosen_settings(shown)
        load_config(self._folder, trust=True)


_MLAGENTS = b"""
default_settings: &default {trainer_type: ppo, hyperparameters: {batch_size: 10, learning_rate: 3.0e-4}, max_steps: 500}
behaviors:
  Runner: {<<: *default, network_settings: {hidden_units: 32, memory: {memory_size: 16, sequence_length: 8}}}
  Jumper:
    trainer_type: sac
    hyperparameters: {buffer_size: 1000, tau: 0.005}
    reward_signals: {extrinsic: {gamma: 0.9, strength: 1.0}, gail: {strength: 0.1, demo_path: a.demo}}
environment_parameters:
  speed: {sampler_type: uniform, sampler_parameters: {min_value: 1, max_value: 2}}
  size: 3
env_settings: {env_path: Game, num_envs: 2, seed: 3}
engine_settings: {time_scale: 20}
checkpoint_settings: {run_id: first}
torch_settings: {device: cuda}
"""


def _draw_mlagents(random: Random) -> bytes:
    return _changed_yaml(random, _MLAGENTS, [_MLAGENTS])


def _take_mlagents(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    convert(load_mlagents(file), file.name)


def _weights(file: Path) -> tuple[Callable[[Random], bytes], Callable[[bytes], object]]:
    """ML-Agents' checkpoints: draws one of which the pickle is changed, or any of its bytes; and reads it."""
    import torch  # takes seconds, and only this needs it

    torch.save({"Policy": {"a.weight": torch.ones(3, 2), "b": torch.arange(4)}, "Optimizer": {"lr": [0.1]}}, file)
    valid = file.read_bytes()

    def draw(random: Random) -> bytes:
        if random.random() < 1 / 2:
            return changed_bytes(random, valid, [valid])
        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(valid)) as old, zipfile.ZipFile(made, "w") as new:
            for member in old.infolist():
                data = old.read(member)
                new.writestr(
                    member.filename, changed_bytes(random, data, [data]) if "data.pkl" in member.filename else data
                )
        return made.getvalue()

    def take(data: bytes) -> object:
        file.write_bytes(data)
        return read_tensors(file, "Policy")

    return draw, take


def _changed_yaml(random: Random, data: bytes, others: list[bytes]) -> bytes:
    """A text of YAML with one of its values or keys changed, or its bytes, or with anchors and aliases in it."""
    if random.random() < _RANDOM:
        return random_bytes(random)
    if random.random() < 1 / 4:
        return changed_bytes(random, data, others)
    changed = changed_json(random, json.dumps(yaml.safe_load(data)).encode())
    if random.random() < 1 / 4:
        parts = changed.split(b": ")
        at = random.randrange(len(parts))
        parts[at] = random.choice(_YAML) + parts[at]
        changed = b": ".join(parts)
    return changed


_YAML: tuple[bytes, ...] = (
    b"&a ",
    b"*a ",
    b"<<: *a, ",
    b"!!bool ",
    b"!!set ",
    b"!!timestamp ",
    b"!!int ",
    b"!!binary ",
    b"? ",
    b"- ",
)
_YAML += (b"[" * 2000, b"{a: " * 100, b"${oc.env:HOME}", b"${", b"9" * 5000, b"1:1:1:1", b"0x", b"|\n", b"'", b"\0")


def _png_bytes(height: int, width: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


_PNGS = [_png_bytes(5, 4), _png_bytes(5, 4) * 2, _png_bytes(5, 4, "RGBA"), _png_bytes(9, 9)]


def _draw_png(random: Random) -> tuple[bytes, tuple[int, int, int], list[int]]:
    data = random.choice(_PNGS)
    if random.random() < _RANDOM:
        data = random_bytes(random)
    elif random.random() < 1 / 3:
        data = changed_bytes(random, data, _PNGS)
    else:
        data = _changed_chunk(random, data)
    mapping = [random.choice((-1, 0, 1, 2, 3, 2**31 - 1)) for _ in range(random.choice((0, 0, 3, 4, 6, 1000)))]
    return data, (5, 4, random.choice((1, 3, 4))), mapping


def _changed_chunk(random: Random, data: bytes) -> bytes:
    """A PNG with another content in one of its chunks, or another kind, and a length and sum that are right."""
    at, chunks = 8, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size + 8 * (data[at + 12 + size :].startswith(data[:8]))
    i = random.randrange(len(chunks))
    kind, content = chunks[i]
    if random.random() < 1 / 4:
        kind = random.choice(_CHUNKS)
    if kind == b"IDAT" and random.random() < 1 / 2:
        with suppress(zlib.error):
            content = zlib.compress(changed_bytes(random, zlib.decompress(content)))
    else:
        content = changed_bytes(random, content)
    chunks[i : i + random.randrange(2)] = [(kind, content)]
    return data[:8] + b"".join(
        len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in chunks
    )


_CHUNKS = (b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"acTL", b"fcTL", b"eXIf")


def _said(first: bool, agents: int) -> bytes:
    """A message of a player: agents of two behaviors, the parameters of these if it is the first, and statistics."""
    said = message("unity_message", "UnityMessageProto")()
    said.header.status = 200
    output = said.unity_output
    for name in ("Runner?team=0", "Jumper"):
        if first:
            made = output.rl_initialization_output.brain_parameters.add(brain_name=name)
            made.action_spec.num_continuous_actions = 1
            made.action_spec.num_discrete_actions = 2
            made.action_spec.discrete_branch_sizes.extend([3, 2])
        listed = output.rl_output.agentInfos[name].value
        for number in range(agents):
            info = listed.add(id=number, reward=0.5, done=not first and number % 3 == 0, max_step_reached=number == 3)
            info.group_id, info.group_reward = number % 2, float(number % 2)
            info.action_mask.extend([number % 2 == 1, False, False, False, False])
            vector = info.observations.add(shape=[2], dimension_properties=[1], name="vector")
            vector.float_data.data.extend([1.0, float(number)])
            if name == "Jumper":
                picture = info.observations.add(shape=[5, 4, 3], dimension_properties=[2, 2, 1], name="camera")
                picture.compression_type, picture.compressed_data = 1, _PNGS[0]
    output.rl_output.side_channel = _SIDE_CHANNELS[-1]
    serialized: bytes = said.SerializeToString(deterministic=True)  # else maps have no order
    return serialized


def _draw_messages(random: Random) -> list[bytes]:
    """What a player says one after another, one message of it changed."""
    said = list(random.choice(_SAID))
    i = random.randrange(len(said))
    if random.random() < _RANDOM:
        said[i] = random_bytes(random)
    elif random.random() < 1 / 4:
        said[i] = changed_bytes(random, said[i], said)
    else:
        for _ in range(random.choice((1, 1, 2, 5))):
            said[i] = changed_message(random, said[i], said)
    return said


def _take_messages(said: list[bytes]) -> None:
    """As a player's server does, up to the arrays that a collector gets."""
    decoder, listening = Decoder("2.3.0"), channels()
    ids_of: dict[str, AgentIds] = {}
    for content in said:
        output = raw_class("UnityMessageProto").FromString(content).unity_output
        for behavior_id, agents in decoder.decode(output).items():
            ids = ids_of.setdefault(behavior_id, AgentIds(decoder.specs[behavior_name(behavior_id)]))
            decisions = ids.take(0, agents).decisions
            continuous, discrete = ids.continuous[decisions.agent], ids.discrete[decisions.agent]
            ids.act(decisions.agent, continuous, discrete)
        listening.incoming(output.rl_output.side_channel)


def channels() -> Channels:
    """A player's, as by default."""
    return Channels(UnityConfig().engine, {"speed": 1.0}, (), 0)


def _frame(channel: int, content: bytes) -> bytes:
    """One message on a side channel."""
    return channel.to_bytes(16, "little") + struct.pack("<i", len(content)) + content


def _statistic(name: str, value: float, aggregation: int) -> bytes:
    return struct.pack("<i", len(name)) + name.encode() + struct.pack("<fi", value, aggregation)


def _known_channels() -> list[int]:
    return [int.from_bytes(each.bytes_le, "little") for each in channels()._channels]


_SIDE_CHANNELS = [
    b"".join(
        _frame(channel, _statistic("Score", 1.5, kind)) for channel in _known_channels()[-1:] for kind in range(4)
    ),
    b"".join(_frame(channel, struct.pack("<if", 1, 2.0)) for channel in (*_known_channels(), 7)),
    _frame(_known_channels()[-1], _statistic("a", 0.0, 1)),
]


def _draw_side_channel(random: Random) -> bytes:
    if random.random() < _RANDOM:
        return random_bytes(random)
    return changed_bytes(random, random.choice(_SIDE_CHANNELS), _SIDE_CHANNELS)


def _take_side_channel(data: bytes) -> None:
    channels().incoming(data)


_SAID = [[_said(True, agents), _said(False, agents), _said(False, agents)] for agents in (1, 3, 12)]


def _http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _draw_frames(random: Random) -> list[bytes]:
    """What a client sends: a greeting and frames, some changed, and then cut into pieces as it comes."""
    call = b"\0" + (5).to_bytes(4, "big") + b"hello"
    streams = [1, 3, random.choice((0, 2, 5, 2**31 - 1))]
    frames = [_http2_frame(4, 0, 0, struct.pack("!HI", random.randint(0, 7), random.choice((0, 2**14, 2**24, 2**31))))]
    for stream in streams:
        frames += [
            _http2_frame(1, random.choice((4, 5)), stream, b"\x82\x86"),
            _http2_frame(0, random.choice((0, 1, 9)), stream, random.choice((call, call[:3], b"\5" + call, b""))),
            _http2_frame(random.randint(0, 10), random.randint(0, 255), stream, random_bytes(random, 12)),
        ]
    for _ in range(random.choice((0, 1, 2, 6))):
        i = random.randrange(len(frames))
        action = random.randrange(4)
        if action == 0:
            frames[i] = changed_bytes(random, frames[i], frames)
        elif action == 1:
            del frames[i]
        elif action == 2:
            frames[i:i] = [frames[i]] * random.choice((1, 30))
        else:
            random.shuffle(frames)
        frames = frames or [b"\0"]
    data = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(frames)
    if random.random() < _RANDOM:
        data = random.choice((random_bytes(random), data[:24] + random_bytes(random)))
    cuts = sorted(random.randint(0, len(data)) for _ in range(random.choice((0, 1, 3))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)])]


def _take_frames(pieces: list[bytes]) -> None:
    """As a player's server does, which answers each second request."""
    connection = Connection(2**16)
    received = answered = 0
    for piece in pieces:
        received += len(piece)
        for event in connection.receive(piece):
            if isinstance(event, Request):
                answered += 1
                if answered % 2:
                    connection.respond(event.stream, event.content * 2)
                else:
                    connection.refuse(event.stream, 7, "no")
        if len(connection.out) > 100 + _MOST_ANSWERED * received:
            raise MemoryError(f"{len(connection.out)} bytes are to be sent to a client that has sent {received}")
