"""Hostile inputs: only our own errors, in bounded memory. The full count: `python -m tests.stress.fuzz`."""

from __future__ import annotations

import json
import struct
import tracemalloc
import warnings
import zlib
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.unity.protocol.messages import message
from tests.stress import fuzz
from tests.stress.fuzz_targets import Target, channels, targets
from tests.stress.mutations import changed_bytes, changed_json, changed_message, delimited


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return targets(tmp_path_factory.mktemp("fuzzed"))


QUICK = [name for name in fuzz.NAMES if name != "config"]  # whose settings take long to be typed


def some(count: int) -> settings:
    """Always the same ones, so that nobody's change fails over what another has left."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


@pytest.mark.filterwarnings("ignore:the player sends on side channel")
@pytest.mark.parametrize("name", QUICK)
@some(150)
@given(random=st.randoms(use_true_random=False))
def test_changed_inputs_are_taken_or_refused(known: dict[str, Target], name: str, random: Random) -> None:
    take(known[name], known[name].draw(random))


FORMS = {
    "demo": lambda data: data,
    "checkpoint": lambda data: {"manifest.json": data},
    "config": lambda data: data,
    "mlagents": lambda data: data,
    "message": lambda data: [data],
    "side_channel": lambda data: data,
    "http2": lambda data: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + data],
    "png": lambda data: (b"\x89PNG\r\n\x1a\n" + data, (5, 4, 3), []),
    "endpoint_request": lambda data: data,
    "endpoint_client": lambda data: [b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n" + data],
    "endpoint_model": lambda data: data,
    "mlagents_weights": lambda data: data,
}
"""How each takes bytes."""


@pytest.mark.filterwarnings("ignore:the player sends on side channel")
@pytest.mark.parametrize("name", QUICK)
@some(50)
@given(data=st.binary(max_size=200))
def test_random_bytes_are_taken_or_refused(known: dict[str, Target], name: str, data: bytes) -> None:
    take(known[name], FORMS[name](data))


def take(target: Target, drawn: object) -> bool:
    """Whether an input was taken, and not refused."""
    try:
        target.take(drawn)
    except target.ours:
        return False
    return True


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


CLAIMS = [
    ("demo", b"\x80\x80\x80\x80\x08" + bytes(99)),
    ("demo", delimited(b"\x08\x01\x12\x04Test\x18\xff\xff\xff\xff\x07").ljust(33, b"\0") + b"\xff\xff\xff\xff\x07"),
    ("checkpoint", json.dumps({"format": 1, "files": {"state.json": {"bytes": 2**31}}, "replay": []}).encode()),
    ("checkpoint", b"[" * 100_000),
    ("message", b"\x12\xff\xff\xff\xff\x07"),
    ("message", b"\x12\x08\x0a\x80\x80\x80\x80\x08"),
    ("side_channel", bytes(16) + struct.pack("<i", 2**31 - 1)),
    ("http2", b"\xff\xff\xff\0\0\0\0\0\1"),
    ("http2", b"\0\0\0\1\4\0\0\0\1" + b"\0\0\5\0\1\0\0\0\1" + b"\0" + struct.pack(">I", 2**31)),
    ("http2", b"\0\0\6\4\0\0\0\0\0" + struct.pack(">HI", 5, 2**24 - 1)),
    ("png", chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))),
    ("png", chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 5, 8, 2, 0, 0, 0)) + struct.pack(">I4s", 2**31, b"IDAT")),
    (
        "png",
        chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 5, 8, 2, 0, 0, 0))
        + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27), 9))
        + chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**27), 9))
        + chunk(b"IDAT", zlib.compress(bytes(2**27), 9))
        + chunk(b"IEND", b""),
    ),
]


@pytest.mark.parametrize(("name", "data"), CLAIMS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CLAIMS)])
def test_a_claim_of_gibibytes_takes_no_memory(known: dict[str, Target], name: str, data: bytes) -> None:
    tracemalloc.start()
    try:
        take(known[name], FORMS[name](data))
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_agents_without_masks_of_a_behavior_with_many_choices_take_no_memory(known: dict[str, Target]) -> None:
    said = message("unity_message", "UnityMessageProto")()
    output = said.unity_output
    made = output.rl_initialization_output.brain_parameters.add(brain_name="Runner")
    made.action_spec.num_discrete_actions = 1
    made.action_spec.discrete_branch_sizes.append(2**14)
    info = output.rl_output.agentInfos["Runner"].value.add()
    info.observations.add(shape=[1], name="x").float_data.data.append(1.0)
    for number in range(1, 70_000):
        output.rl_output.agentInfos["Runner"].value.add().MergeFrom(info)
        output.rl_output.agentInfos["Runner"].value[-1].id = number
    data = said.SerializeToString()
    assert len(data) < 2**21
    tracemalloc.start()
    try:
        with pytest.raises(known["message"].ours, match="it sent 70,000 agents in one message, not at most 10,000"):
            known["message"].take([data])
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_ever_new_side_channels_are_neither_kept_nor_told_of_without_end(known: dict[str, Target]) -> None:
    listening = channels()
    frames = b"".join(number.to_bytes(16, "little") + bytes(4) for number in range(1, 1000))
    listening.incoming(frames)
    assert len(listening.notes) == 3


def test_all_kinds_of_inputs_are_both_taken_and_refused(known: dict[str, Target]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in QUICK:
            taken = [take(known[name], known[name].draw(Random(number))) for number in range(150)]
            assert 1 < sum(taken) < 149, name


def test_changed_settings_of_a_run_are_taken_or_refused(known: dict[str, Target]) -> None:
    taken = [take(known["config"], known["config"].draw(Random(number))) for number in range(12)]
    assert 0 < sum(taken) < 12


def test_changes_differ_and_keep_the_form_where_they_should() -> None:
    said = message("agent_info", "AgentInfoProto")(id=7, reward=1.5)
    said.observations.add(shape=[2], name="x")
    data = said.SerializeToString()
    parsed = whole = 0
    for number in range(200):
        changed = changed_message(Random(number), data)
        whole += changed != data
        try:
            type(said).FromString(changed)
            parsed += 1
        except Exception:
            continue
    assert whole > 150
    assert parsed > 120
    assert len({changed_bytes(Random(number), data) for number in range(100)}) > 80
    text = b'{"a": [1, {"b": "c"}]}'
    assert len({changed_json(Random(number), text) for number in range(100)}) > 15


def test_an_error_that_is_not_ours_is_counted_and_named(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def take(drawn: int) -> None:
        if drawn == 3:
            raise IndexError("beyond")

    target = Target(lambda random: random.randrange(8), take, (ValueError,))
    monkeypatch.setattr(fuzz, "targets", lambda folder: {"png": target})
    monkeypatch.setattr(fuzz, "_limit_memory", lambda: None)
    assert fuzz.main(["--targets", "png", "--inputs", "80", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    found = result["targets"]["png"]["not_ours"]
    assert result["inputs"] == 80
    assert 0 < result["not_ours"] == len(found) < 40
    number, _, what = found[0].partition(": ")
    assert what == "IndexError: beyond"
    assert fuzz.main(["--targets", "png", "--inputs", "1", "--first", number]) == 1
    assert "1 inputs, 1 not ours" in capsys.readouterr().out
