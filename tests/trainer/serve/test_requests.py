"""What the endpoint reads, answers and refuses."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

from algorithms.onnx.build import build_model
from algorithms.settings import Cell, MemorySettings
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.algorithms.test_numpy_policy import SPECS, VECTOR, decisions, policy_of
from trainer.serve.onnx_policy import Model
from trainer.serve.requests import Limits, RowsDiffer, TooLarge, answer

IMAGE = ObservationSpec("image", (20, 24, 3), "uint8", 1 / 255)
HYBRID = BehaviorSpec("b", (VECTOR, IMAGE), 3, (2, 3), True)
MEMORY = {"memory": MemorySettings(Cell["lstm"], 4)}


def model_of(spec, kind="ppo", **settings):
    policy = policy_of(spec, kind, **settings)
    return policy, Model(build_model(policy, False).SerializeToString(), "toy")


def ask(model, **fields):
    return json.loads(answer(model, json.dumps(fields).encode()).body)


@pytest.mark.parametrize("kind", ["ppo", "sac"])
def test_a_batch_of_several_observations_masks_and_memory_is_answered_as_the_policy_acts(kind):
    policy, model = model_of(HYBRID, kind, **MEMORY)
    observations, mask, memory = decisions(HYBRID, 8, state=8)
    mask = np.array([[True, False, True, False, True]] * 8)
    acted = policy.act(observations, mask, memory, None, deterministic=True)
    named = {"vector": observations[0].tolist(), "image": observations[1].tolist()}
    reply = ask(model, observations=named, action_masks=mask.tolist(), memory=memory.tolist())
    assert reply.keys() == {"continuous_actions", "discrete_actions", "memory"}
    np.testing.assert_allclose(reply["continuous_actions"], acted.continuous.clip(-1, 1), atol=1e-5)
    np.testing.assert_array_equal(reply["discrete_actions"], acted.discrete)
    np.testing.assert_allclose(reply["memory"], acted.recurrent_state, atol=1e-5)
    again = ask(model, observations=named, action_masks=mask.astype(int).tolist(), memory=reply["memory"])
    assert again["memory"] != reply["memory"]


def test_masks_memory_and_deterministic_may_be_left_out():
    _, model = model_of(HYBRID, **MEMORY)
    observations, *_ = decisions(HYBRID, 2)
    named = {"vector": observations[0].tolist(), "image": observations[1].tolist()}
    whole = {"action_masks": [[1] * 5] * 2, "memory": [[0] * 8] * 2, "deterministic": True}
    assert ask(model, observations=named) == ask(model, observations=named, **whole)
    assert ask(model, observations=named, memory=None, action_masks=None) == ask(model, observations=named)


def test_actions_are_drawn_where_that_is_asked_for():
    _, model = model_of(SPECS["continuous"])
    rows = [[0.1, 0.2, 0.3, 0.4]] * 3
    assert ask(model, observations=rows) == ask(model, observations=rows)
    drawn = [ask(model, observations=rows, deterministic=False)["continuous_actions"] for _ in range(2)]
    assert drawn[0] != drawn[1]
    assert drawn[0][0] != drawn[0][1]


def test_what_the_mask_forbids_is_never_drawn():
    _, model = model_of(SPECS["branches"])
    mask = [[0, 1, 0, 1, 0, 0, 1, 1, 0, 1]] * 400
    drawn = ask(model, observations=[[[0] * 3] * 2] * 400, action_masks=mask, deterministic=False)["discrete_actions"]
    assert {tuple(row) for row in drawn} == {(a, 1, c) for a in (1, 3) for c in (0, 2)}


@pytest.mark.parametrize(
    ("spec", "observations", "actions"),
    [
        (BehaviorSpec("b", (VECTOR,), 0, (3,)), [[0, 0, 0, 0]] * 2, "discrete"),
        (SPECS["branches"], [[[0] * 3] * 2] * 2, "discrete"),
        (SPECS["continuous"], [[0, 0, 0, 0]] * 2, "continuous"),
        (BehaviorSpec("b", (VECTOR,), 2, (3,)), [[0, 0, 0, 0]] * 2, "both"),
    ],
)
def test_inputs_are_answered_by_outputs(spec, observations, actions):
    _, model = model_of(spec)
    plain = ask(model, observations=observations)
    more = {"prev_action": [0, 0], "is_training": False, "prev_reward": -1, "seq_lens": -1}  # as RLlib's clients send
    reply = ask(model, inputs={"observations": observations, **more})
    discrete, continuous = plain.get("discrete_actions"), plain.get("continuous_actions")
    if len(spec.branches) == 1:
        discrete = [row[0] for row in discrete]
    expected = {"discrete": discrete, "continuous": continuous}
    assert reply == {"outputs": {"actions": expected if actions == "both" else expected[actions]}}


def test_memory_goes_through_inputs_and_outputs_too():
    _, model = model_of(BehaviorSpec("b", (VECTOR,), 0, (3,)), **MEMORY)
    first = ask(model, inputs={"observations": [[1, 2, 3, 4]]})["outputs"]
    plain = ask(model, observations=[[1, 2, 3, 4]])
    assert first["memory"] == plain["memory"]


FLAT = '{"observations": [[1, 2, 3, 4]], '
REFUSED = {
    "": "the body is not JSON (Expecting value",
    "{": "the body is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)): ",
    "\xff": "the body is not JSON (",
    "[" * 100_000: "the body is not JSON (",
    "[" * 400 + "]" * 400: "the body is an array, not an object",
    '{"observations": ' + "[" * 400 + "]" * 400 + "}": "observations",
    "[1]": 'the body is an array, not an object: send {"observations": ...}',
    "null": "the body is null, not an object",
    "{}": "observations is missing: send an array of shape [N, 4], N rows",
    '{"observation": 1}': "unknown field observation; did you mean observations?",
    '{"rewards": 1}': "unknown field rewards; there is observations, action_masks, deterministic, memory",
    '{"observations": 3}': "observations has shape []: observations must be numbers of shape [N, 4], N rows",
    '{"observations": []}': "observations has shape [0]: observations must be numbers of shape [N, 4]",
    '{"observations": [1, 2, 3, 4]}': "observations has shape [4]: observations must be numbers of shape [N, 4]",
    '{"observations": [[1, 2, 3]]}': "observations has shape [1, 3]: observations must be numbers of shape [N, 4]",
    '{"observations": [[1, 2, 3, 4], [1]]}': "observations cannot be read (observations[1] is 1 long, not 4)",
    '{"observations": [[1, 2, 3, 4], 5]}': "observations cannot be read (observations[1] is a number)",
    '{"observations": [[1, 2, 3, 4], [1, 2, [3], 4]]}': "observations cannot be read (observations[1][2] is an array)",
    '{"observations": [[1, 2, 3, -3.402823466385289e+38]]}': "observations[0][3] is -3.402823466e+38: only finite",
    '{"observations": [[1, 2, 3, 4], [1, 2, "3", 4], [1]]}': 'observations[1][2] is "3"',
    '{"observations": [[1, 2, "3", 4]]}': 'observations[0][2] is "3": observations must be numbers of shape [N, 4]',
    '{"observations": [[1, 2, null, 4]]}': "observations[0][2] is null: observations must be numbers",
    '{"observations": [[true, false, true, true]]}': "observations[0][0] is true: observations must be numbers",
    '{"observations": [[1, 2, {}, 4]]}': "observations[0][2] is an object: observations must be numbers",
    '{"observations": "text"}': 'observations is "text": observations must be numbers',
    '{"observations": {"other": 1}}': "observations has other: send an array of shape [N, 4], N rows",
    '{"observations": [[1, 2, NaN, 4]]}': "observations[0][2] is nan: only finite numbers will do",
    '{"observations": [[1, -Infinity, 3, 4]]}': "observations[0][1] is -inf: only finite numbers will do",
    '{"observations": [[1, 2, 3, 1e39]]}': "observations[0][3] is 1e+39: only finite numbers will do",
    '{"observations": [[1, 2, 3, 1' + "0" * 400 + "]]}": "observations cannot be read (",
    '{"observations": [[1, 2, 3, 1' + "0" * 50 + "]]}": "observations[0][3] is 1e+50: only finite numbers will do",
    FLAT + '"deterministic": 1}': "deterministic is 1: it must be true or false",
    FLAT + '"memory": [[1]]}': "memory was sent, but the model has none: leave it out",
    FLAT + '"action_masks": [[1, 1]]}': "action_masks has shape [1, 2]: action_masks must be numbers of shape [N, 5]",
    FLAT + '"action_masks": [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]}': "action_masks has 2 rows: it must have 1, as",
    FLAT
    + '"action_masks": [[1, 1, 0, 0, 0]]}': "action_masks[0] allows no choice of branch 1, its entries 2 to 4: allow",
    FLAT + '"action_masks": [[1, 1, 0, 0.5, 1]]}': "action_masks[0][3] is 0.5: only 1 or true (allowed) and 0 or false",
    FLAT + '"action_masks": [["a", 1, 0, 0.5, 1]]}': 'action_masks[0][0] is "a": action_masks must be numbers',
    '{"inputs": 3}': "inputs is a number, not an object",
    '{"inputs": {"observations": [[1]]}, "deterministic": true}': "deterministic stands beside inputs: put it into",
    '{"inputs": {"observations": [[1]]}}': "observations has shape [1, 1]",
}


@pytest.fixture(scope="module")
def flat():
    return model_of(BehaviorSpec("b", (VECTOR,), 0, (2, 3), True))[1]


@pytest.mark.parametrize("body", list(REFUSED), ids=range(len(REFUSED)))
def test_what_cannot_be_answered_is_refused_by_field_value_and_remedy(body, flat):
    with pytest.raises(UserError) as refused:
        answer(flat, body.encode("latin-1"))
    assert REFUSED[body] in str(refused.value)
    assert len(str(refused.value)) < 400


def test_several_observations_and_a_memory_are_refused_by_name():
    _, model = model_of(HYBRID, **MEMORY)
    image = np.zeros((1, 20, 24, 3), int)
    for observations, words in (
        (
            [[1, 2, 3, 4]],
            r"observations is an array: send an object of arrays.*vector \[N, 4\], image \[N, 20, 24, 3\]",
        ),
        ({"vector": [[1, 2, 3, 4]]}, "observations has vector: send an object of arrays"),
        ({"vector": [[1, 2, 3, 4]] * 2, "image": image.tolist()}, r"observations.image has 1 rows: it must have 2"),
        ({"vector": [[1, 2, 3, 4]], "image": (image + 256).tolist()}, r"observations.image\[0\]\[0\]\[0\]\[0\] is 256"),
        ({"vector": [[1, 2, 3, 4]], "image": (image + 0.5).tolist()}, r"is 0.5: only whole numbers from 0 to 255"),
    ):
        with pytest.raises(UserError, match=words):
            ask(model, observations=observations)
    whole = {"vector": [[1, 2, 3, 4]], "image": image.tolist()}
    with pytest.raises(UserError, match=r"memory has shape \[1, 3\]: memory must be numbers of shape \[N, 8\], N rows"):
        ask(model, observations=whole, memory=[[1, 2, 3]])
    with pytest.raises(UserError, match="memory has 2 rows: it must have 1, as the observations"):
        ask(model, observations=whole, memory=[[0] * 8] * 2)
    _, other = model_of(SPECS["continuous"])
    with pytest.raises(UserError, match="action_masks was sent, but the model has no discrete actions: leave it out"):
        ask(other, observations=[[1, 2, 3, 4]], action_masks=[[1]])


def peak_of(model, body, limits=None):
    """The most memory, in MiB, that a request takes besides its own body; it is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as refused:
            answer(model, body, limits)
        return tracemalloc.get_traced_memory()[1] / 2**20, refused
    finally:
        tracemalloc.stop()


def test_a_long_text_among_observations_is_refused_before_an_array_is_as_wide(flat):
    body = json.dumps({"observations": ["a" * 750_000, *"bcdefghij"]}).encode()
    peak, refused = peak_of(flat, body)
    assert "observations[0] is" in str(refused.value)
    assert peak < 5


@pytest.mark.parametrize("what", [b"[1,2,3,4]", b"[]", b"{}", b"1.5", '"\u00e9"'.encode()])
def test_far_more_values_than_rows_need_are_refused_before_they_are_parsed(flat, what):
    body = b'{"observations": [' + b",".join([what] * (2**21 // len(what))) + b"]}"
    peak, refused = peak_of(flat, body, Limits(100, 2**23))
    assert refused.type is TooLarge
    assert "more than 100 rows of this model need: send fewer rows, or raise max_rows" in str(refused.value)
    assert peak < 1


def test_what_would_take_much_more_memory_than_the_largest_body_is_refused_before_it_is_parsed(flat):
    text = '{"observations": "' + "a" * 2**20 + '\N{GRINNING FACE}"}'
    peak, refused = peak_of(flat, text.encode(), Limits(1024, 2**20))
    assert refused.type is TooLarge
    assert "once it is parsed, more than 5,242,880: send fewer rows, or raise max_body_mib" in str(refused.value)
    assert peak < 1


def test_escapes_count_as_the_wide_text_that_they_are(flat):
    body = b'{"observations": ["' + b"a" * 2**20 + b'\\ud83d\\ude00"]}'
    peak, refused = peak_of(flat, body, Limits(1024, 2**20))
    assert refused.type is TooLarge
    assert peak < 1


def test_a_request_has_at_most_so_many_rows(flat):
    limits = Limits(3, 2**23)
    body = json.dumps({"observations": [[1, 2, 3, 4]] * 3}).encode()
    assert len(json.loads(answer(flat, body, limits).body)["discrete_actions"]) == 3
    with pytest.raises(UserError, match=r"observations has 4 rows: send at most 3, or raise max_rows or max_body_mib"):
        answer(flat, json.dumps({"observations": [[1, 2, 3, 4]] * 4}).encode(), limits)


def test_a_reply_is_no_longer_than_the_largest_body():
    _, model = model_of(BehaviorSpec("b", (VECTOR,), 1), memory=MemorySettings(Cell["lstm"], 64))
    limits = Limits.of(model.exported, 1024, 2**16)
    assert 10 < limits.rows < 1024
    body = json.dumps({"observations": [[0.1, 0.2, 0.3, 0.4]] * limits.rows}).encode()
    assert 2**15 < len(answer(model, body, limits).body) <= 2**16
    for size, words in ((2000, "a reply of one row has 129 numbers"), (500, "a request of one row has 132 numbers")):
        with pytest.raises(UserError, match=f"{words}: raise max_body_mib above"):
            Limits.of(model.exported, 1024, size)


def test_large_requests_are_answered_as_small_ones(flat):
    rows = [[i / 7, 2, 3, -4] for i in range(1024)]
    body = json.dumps({"observations": rows}, indent=40).encode()
    assert len(body) > 2**17
    alone = [ask(flat, observations=[row])["discrete_actions"][0] for row in rows[::100]]
    assert json.loads(answer(flat, body).body)["discrete_actions"][::100] == alone


@pytest.mark.parametrize(
    "fields",
    [
        {"x" * 1_000_000: 1},
        {"\ud800": 1},
        {"\x1b[2J" * 1000: 1},
        {"inputs": {}, "\ud800" * 1000: 1},
        {"observations": {"\udfff" * 1_000_000: 1}},
        {"observations": {f"{i}" * 1000: 1 for i in range(1000)}},
        {"observations": "\ud800" * 1_000_000},
    ],
)
def test_a_clients_own_text_is_repeated_cut_and_printable(flat, fields):
    with pytest.raises(UserError) as refused:
        answer(flat, json.dumps(fields).encode())
    assert len(str(refused.value)) < 1400
    assert str(refused.value).isprintable()
    str(refused.value).encode()


def test_different_numbers_of_rows_are_a_refusal_of_their_own(flat):
    with pytest.raises(RowsDiffer):
        ask(flat, observations=[[1, 2, 3, 4]], action_masks=[[1] * 5] * 2)


HOSTILE = {
    "observations": [
        ([], "0 observations"),
        ([{"name": "vector", "shape": [4], "dtype": "object", "scale": 1.0}], "an observation of 'object'[4]"),
        ([{"name": "vector", "shape": [-4], "dtype": "float32", "scale": 1.0}], "an observation of 'float32'[-4]"),
        ([{"name": "vector", "shape": [4], "dtype": "float32", "scale": float("nan")}], "scale nan"),
        ([{"name": "vector", "shape": [4], "dtype": "float32", "scale": 1.0}] * 2, "2 observations, of 1 names"),
        ([{"name": "\ud800", "shape": [4], "dtype": "float32", "scale": 1.0}], "which is no text"),
        ([{"name": "vector", "shape": "4", "dtype": "float32", "scale": 1.0}], "not a model of ours"),
        ([{"name": "vector", "shape": [1] * 10**5, "dtype": "float32", "scale": 1.0}], "it has input obs_0"),
        ([{"name": "vector", "shape": [1] * 10**6, "dtype": "float32", "scale": 1.0}], "its metadata have 3,"),
        ([{"name": "vector", "shape": [float("inf")], "dtype": "float32", "scale": 1.0}], "not a model of ours"),
    ],
    "name": [("x" * 500_000, "a name of 500,000 characters"), ("\ud800", "the name '\\ud800', which is no text")],
    "branches": [([-2, 3], "branches of [-2, 3]"), ([10**12], "not"), ([], "0 continuous actions")],
    "continuous_size": [(-1, "-1 continuous actions"), (10**12, "not"), ("1e9", "not a model of ours")],
}


@pytest.mark.parametrize(("key", "value", "words"), [(k, v, w) for k, each in HOSTILE.items() for v, w in each])
def test_a_model_with_hostile_metadata_is_refused_in_one_short_message(key, value, words):
    spec = BehaviorSpec("b", (VECTOR,), 0, (2, 3))
    content = build_model(policy_of(spec, "ppo"), False)
    (entry,) = [each for each in content.metadata_props if each.key == "outstep"]
    data = json.loads(entry.value)
    data["spec"][key] = value
    entry.value = json.dumps(data)
    with pytest.raises(UserError) as refused:
        Model(content.SerializeToString(), "toy")
    assert words in str(refused.value)
    assert len(str(refused.value)) < 400
    str(refused.value).encode()


@pytest.mark.parametrize("text", [b"float32", b"obs_0"])
def test_a_model_with_text_that_is_not_utf8_is_refused(text):
    content = build_model(policy_of(BehaviorSpec("b", (VECTOR,), 0, (2,)), "ppo"), False).SerializeToString()
    assert text in content
    with pytest.raises(UserError, match=r"holds text that is not UTF-8|is not an ONNX model"):
        Model(content.replace(text, b"\xff" * len(text)), "toy")


def test_metadata_nested_too_deeply_are_refused():
    content = build_model(policy_of(BehaviorSpec("b", (VECTOR,), 0, (2,)), "ppo"), False)
    (entry,) = [each for each in content.metadata_props if each.key == "outstep"]
    entry.value = "[" * 100_000
    with pytest.raises(UserError, match="toy is not a model of ours"):
        Model(content.SerializeToString(), "toy")
