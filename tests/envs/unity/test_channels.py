import struct
from uuid import UUID

import pytest

from envs.spec import Statistic, UserError
from envs.unity.channels import Channels, check_channels
from envs.unity.config import UnityConfig
from envs.unity.protocol.bounds import PlayerFault

from mlagents_envs.side_channel import IncomingMessage, OutgoingMessage, SideChannel  # isort: skip
from mlagents_envs.side_channel.raw_bytes_channel import RawBytesChannel  # isort: skip
from mlagents_envs.side_channel.side_channel_manager import SideChannelManager  # isort: skip
from mlagents_envs.side_channel.stats_side_channel import StatsSideChannel  # isort: skip

ENGINE = UUID("e951342c-4f7e-11ea-b238-784f4387d1f7")
PARAMETERS = UUID("534c891e-810f-11ea-a9d0-822485860400")
STATISTICS = UUID("a1d8f7b7-cec8-50f9-b78b-d3e165a78520")
STRANGER = UUID("00112233-4455-6677-8899-aabbccddeeff")
HERE = __name__


class Echo(SideChannel):
    """Answers every string with the same."""

    def __init__(self):
        super().__init__(UUID("621f0a70-4f87-11ea-a6bf-784f4387d1f7"))

    def on_message_received(self, msg):
        answer = OutgoingMessage()
        answer.write_string(msg.read_string())
        self.queue_message_to_send(answer)


class EchoToo(Echo):
    """Has the id of `Echo`."""


class Needy(Echo):
    def __init__(self, what):
        super().__init__()


class Thief(Echo):
    def __init__(self):
        SideChannel.__init__(self, ENGINE)


class NoId(Echo):
    def __init__(self):
        SideChannel.__init__(self, "id")


class Careless(Echo):
    def __init__(self):
        pass


def frame(channel, payload, length=None):
    return channel.bytes_le + struct.pack("<i", len(payload) if length is None else length) + payload


def statistic(key, value, aggregation):
    return frame(STATISTICS, struct.pack("<i", len(key)) + key.encode() + struct.pack("<fi", value, aggregation))


def frames(data):
    """(channel, payload) of each frame."""
    found = []
    while data:
        (length,) = struct.unpack_from("<i", data, 16)
        found.append((UUID(bytes_le=data[:16]), data[20 : 20 + length]))
        data = data[20 + length :]
    return found


def channels(own=()):
    made = Channels(UnityConfig().engine, {}, own, 0)
    made.outgoing()
    return made


def test_engine_settings_are_sent_once_in_the_protocols_bytes():
    config = UnityConfig(
        time_scale=7.0, width=32, height=48, quality_level=1, target_frame_rate=30, capture_frame_rate=0
    )
    made = Channels(config.engine, {}, (), 0)
    assert frames(made.outgoing()) == [
        (ENGINE, struct.pack("<iii", 0, 32, 48)),
        (ENGINE, struct.pack("<ii", 1, 1)),
        (ENGINE, struct.pack("<if", 2, 7.0)),
        (ENGINE, struct.pack("<ii", 3, 30)),
        (ENGINE, struct.pack("<ii", 4, 0)),
    ]
    assert made.outgoing() == b""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"time_scale": 0}, "env.time_scale=0 must be above 0"),
        ({"time_scale": float("nan")}, "env.time_scale=nan"),
        ({"time_scale": 1e300}, "env.time_scale=1e[+]300 must be above 0 and at most"),
        ({"width": 0}, "env.width=0 must be above 0"),
        ({"quality_level": -1}, "env.quality_level=-1"),
        ({"target_frame_rate": -2}, "env.target_frame_rate=-2"),
        ({"capture_frame_rate": 2**31}, "env.capture_frame_rate=2147483648"),
    ],
)
def test_engine_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        UnityConfig(**settings).check()


def parameter_messages(parameters, seed=0):
    sent = frames(Channels(UnityConfig().engine, parameters, (), seed).outgoing())
    return [IncomingMessage(payload) for channel, payload in sent if channel == PARAMETERS]


def test_constants_and_samplers_are_sent_in_the_protocols_form():
    constant, uniform, gaussian, ranges = parameter_messages(
        {
            "gravity": 9,
            "size": {"sampler": "uniform", "min": 0.5, "max": 2},
            "mass": {"sampler": "gaussian", "mean": 1.5, "deviation": 0.25},
            "drag": {"sampler": "multi_range", "intervals": [[0, 1], (3, 4.5)]},
        }
    )
    assert (constant.read_string(), constant.read_int32(), constant.read_float32()) == ("gravity", 0, 9.0)
    for message, name, kind, numbers in ((uniform, "size", 0, (0.5, 2.0)), (gaussian, "mass", 1, (1.5, 0.25))):
        assert (message.read_string(), message.read_int32()) == (name, 1)
        assert message.read_int32() >= 0
        assert message.read_int32() == kind
        assert (message.read_float32(), message.read_float32()) == numbers
    assert (ranges.read_string(), ranges.read_int32()) == ("drag", 1)
    assert ranges.read_int32() >= 0
    assert (ranges.read_int32(), ranges.read_float32_list()) == (2, [0, 1, 3, 4.5])


def test_samplers_are_seeded_by_seed_and_name():
    def seeds(seed):
        sampler = {"sampler": "uniform", "min": 0, "max": 1}
        messages = parameter_messages({"a": sampler, "b": sampler}, seed)
        return [(m.read_string(), m.read_int32(), m.read_int32())[2] for m in messages]

    assert seeds(1) == seeds(1)
    assert len({*seeds(1), *seeds(2)}) == 4


@pytest.mark.parametrize("name", ["größe", ""])
def test_names_that_unity_cannot_be_sent_are_refused(name):
    with pytest.raises(UserError, match=f"env.parameters.{name}: .*ASCII"):
        UnityConfig(parameters={name: 1}).check()


def test_a_parameter_that_changes_is_sent_alone_and_draws_anew():
    sampler = {"sampler": "uniform", "min": 0, "max": 1}
    made = Channels(UnityConfig().engine, {"a": sampler, "b": sampler}, (), 3)
    before = [IncomingMessage(payload) for channel, payload in frames(made.outgoing()) if channel == PARAMETERS]
    made.set_parameter("a", sampler, 1)
    ((_, payload),) = frames(made.outgoing())
    now = IncomingMessage(payload)
    assert now.read_string() == before[0].read_string() == "a"
    assert [now.read_int32(), now.read_int32()][1] != [before[0].read_int32(), before[0].read_int32()][1]


def test_statistics_are_taken_once_in_their_order():
    made = channels()
    made.incoming(statistic("Score/Best", 1.5, 0) + statistic("b", 2, 3))
    made.incoming(statistic("Score/Best", 3, 1) + statistic("", 4, 2))
    assert made.take_statistics() == [
        Statistic("Score/Best", 1.5, "average"),
        Statistic("b", 2.0, "histogram"),
        Statistic("Score/Best", 3.0, "most_recent"),
        Statistic("", 4.0, "sum"),
    ]
    assert made.take_statistics() == []


def test_statistics_in_frames_of_mlagents_are_read_as_mlagents_reads_them():
    sender, receiver = RawBytesChannel(STATISTICS), StatsSideChannel()
    message = OutgoingMessage()
    message.write_string("speed")
    message.write_float32(0.25)
    message.write_int32(2)
    sender.send_raw_data(bytes(message.buffer))
    data = bytes(SideChannelManager([sender]).generate_side_channel_messages())
    made = channels()
    made.incoming(data)
    SideChannelManager([receiver]).process_side_channel_message(data)
    (taken,) = made.take_statistics()
    ((value, aggregation),) = receiver.stats[taken.key]
    assert (value, aggregation.name.lower()) == (taken.value, taken.aggregation)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x01" * 15, "cut off: 15 bytes"),
        (b"\x01" * 19, "cut off: 19 bytes"),
        (frame(STATISTICS, b"", -1), "claims -1 bytes, and 0 are there"),
        (frame(STATISTICS, b"abc", -20), "claims -20 bytes, and 3 are there"),
        (frame(STRANGER, b"abc", 2**31 - 1), "claims 2147483647 bytes, and 3 are there"),
        (statistic("a", 1, 0)[:-1], "claims 13 bytes, and 12 are there"),
        (statistic("a", 1, 0) + b"\x00", "cut off: 1 bytes"),
        (statistic("a", 1, 4), "aggregation 4"),
        (statistic("a", 1, -1), "aggregation -1"),
        (frame(STATISTICS, b""), "a statistic of 0 bytes"),
        (frame(STATISTICS, struct.pack("<ifi", 1, 1, 1)), "a statistic of 12 bytes has a name of 1"),
        (frame(STATISTICS, struct.pack("<ifi", -5, 1, 1)), "has a name of -5"),
        (frame(ENGINE, b"\x00" * 4), "EngineConfigurationChannel could not take a message of 4 bytes"),
    ],
)
def test_malformed_messages_are_the_players_fault(data, words):
    with pytest.raises(PlayerFault, match=words):
        channels().incoming(data)


def test_an_unknown_channel_is_told_of_once_and_the_others_go_on():
    made = channels()
    for _ in range(3):
        made.incoming(frame(STRANGER, b"hello") + statistic("a", 1, 0))
    (note,) = made.notes
    assert note.startswith(f"the game sends on side channel {STRANGER}, which nothing here listens to")
    assert len(made.take_statistics()) == 3
    made.incoming(b"".join(frame(UUID(int=i), b"") for i in range(100)))
    assert ["not named any more" in note for note in made.notes] == [False, False, True]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (statistic("a", 1, 0) * 50_000, "it sent more than 10,000 statistics in one message"),
        (statistic("x" * 1001, 1, 0), "the name of a statistic 'xxx.*… of 1,001 characters, not at most 1,000"),
        (
            b"".join(statistic(f"made up {i}", 1, 0) for i in range(1001)),
            "it sent 1,001 statistics of different names, not at most 1,000",
        ),
    ],
)
def test_what_is_beyond_the_bounds_is_the_players_fault(data, words):
    with pytest.raises(PlayerFault, match=words):
        channels().incoming(data)


def test_a_users_channel_hears_and_answers():
    made = channels(own=[f"{HERE}:Echo"])
    payload = struct.pack("<i", 2) + b"hi"
    made.incoming(frame(Echo().channel_id, payload))
    assert frames(made.outgoing()) == [(Echo().channel_id, payload)]
    assert made.outgoing() == b""


def test_a_users_channel_that_fails_is_named():
    made = channels(own=[f"{HERE}:Echo"])
    with pytest.raises(PlayerFault, match="Echo could not take a message of 5 bytes: UnicodeDecodeError"):
        made.incoming(frame(Echo().channel_id, struct.pack("<i", 1) + b"\xff"))


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (["Echo"], "'Echo' is no import path: write package.module:Class"),
        ([":Echo"], "is no import path"),
        (["no_such_module:Echo"], "cannot be imported .ModuleNotFoundError"),
        ([f"{HERE}:Ecco"], "has no Ecco"),
        (["uuid:UUID"], "must be a subclass of mlagents_envs.side_channel.SideChannel"),
        (["uuid:uuid4"], "must be a subclass"),
        ([f"{HERE}:Needy"], "Needy cannot be made .TypeError.*no arguments"),
        ([f"{HERE}:Careless"], "Careless cannot be made .AttributeError"),
        ([f"{HERE}:NoId"], "NoId has the id 'id': pass a uuid.UUID"),
        ([f"{HERE}:Thief"], "of Outstep's own EngineConfigurationChannel"),
        ([f"{HERE}:Echo", f"{HERE}:EchoToo"], "EchoToo has the id .*:Echo: give it another"),
    ],
)
def test_channels_that_cannot_be_had_are_refused_by_path(own, words):
    with pytest.raises(UserError, match=f"env.channels: .*{words}"):
        check_channels(own)


def test_channels_that_can_be_had_pass():
    check_channels([f"{HERE}:Echo"])
