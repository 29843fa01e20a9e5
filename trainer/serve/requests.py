"""Requests and replies of the endpoint: JSON to arrays, and actions to JSON. Imports neither HTTP nor torch.

Shapes: N rows, D discrete branches, A their choices together, R numbers of memory.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from algorithms.onnx.contract import Exported
from envs.spec import Array, BehaviorSpec, ObservationSpec, UserError
from trainer.serve.arrays import cut, kind, numbers, refuse_values, shape_words, shown
from trainer.serve.onnx_policy import Chosen, Model

FIELDS = ("observations", "action_masks", "deterministic", "memory")
INPUTS = "inputs"
"""Around these fields in the other shape of a request, which is answered by `outputs`."""
IGNORED = ("prev_action", "prev_reward", "is_training", "seq_lens")
"""Fields that clients of RLlib's policies send along in `inputs`."""
LARGEST_FLOAT = float(np.finfo(np.float32).max)
_PARSED_BYTES = 5
"""How many bytes a request may take once it is parsed, for each of the largest body."""
_REPLY_NUMBER = 25
"""The most characters that a number of a reply takes, with its comma."""
_ENCODE = json.JSONEncoder(allow_nan=False).encode
_LONG_BODY = 2**17
"""Smaller bodies need no care: even 128 KiB of brackets take 4 MB as lists."""


class TooLarge(UserError):
    """A request that takes more memory than the server allows."""


class RowsDiffer(UserError):
    """A request whose fields have different numbers of rows: the one rule that a JSON schema has no words for."""


@dataclass(frozen=True)
class Limits:
    """How large requests and replies of a model may be."""

    rows: int
    body: int
    """Bytes of a request, and of a reply."""

    @staticmethod
    def of(exported: Exported, max_rows: int, max_body: int) -> Limits:
        """Returns the limits for a model; UserError if not even one of its rows fits into them."""
        remedy = f"raise max_body_mib above {max_body / 2**20:g}"
        sent, replied = _row_numbers(exported)
        smallest = 2 * sent  # a digit and a comma
        if _parsed_bytes(smallest, sent, _row_lists(exported)) > _PARSED_BYTES * max_body:
            raise UserError(f"a request of one row has {sent:,} numbers: {remedy}")
        rows = max_body // reply_row_bytes(exported)
        if not rows:
            raise UserError(f"a reply of one row has {replied:,} numbers: {remedy}")
        return Limits(min(max_rows, rows), max_body)


class Reply(NamedTuple):
    """What a request is answered by."""

    body: bytes
    rows: int


def reply_row_bytes(exported: Exported) -> int:
    """Returns how many bytes a row of a reply takes at most."""
    return _REPLY_NUMBER * max(1, _row_numbers(exported)[1])


def is_short(body: bytes | bytearray, rows: int) -> bool:
    """Returns whether a request surely has at most so many rows, and hardly any work apart from its pass."""
    return len(body) <= 2**14 and body.count(b"[") <= rows


def answer(model: Model, body: bytes | bytearray, limits: Limits | None = None) -> Reply:
    """Returns the reply to a request. A body that may be changed is emptied once it is parsed: it may be large.

    Raises:
        TooLarge: it would take too much memory.
        RowsDiffer: its fields do not have the same number of rows.
        UserError: which field, what was seen, what would be right.
    """
    exported = model.exported
    limits = limits or Limits.of(exported, 1024, 2**23)
    if long := len(body) > _LONG_BODY:
        _check_size(exported, body, limits)
    try:
        sent = json.loads(body, **_NUMBERS) if long else json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError(f'the body is not JSON ({error}): send {{"observations": ...}}') from error
    if isinstance(body, bytearray):
        body.clear()
    if not isinstance(sent, dict):
        raise UserError(f'the body is {kind(sent)}, not an object: send {{"observations": ...}}')
    wrapped = INPUTS in sent
    request = _read(model, _inputs(sent) if wrapped else sent, limits.rows)
    del sent
    chosen = model.act(*request)
    try:
        text = _json({"outputs": _outputs(exported.spec, chosen)} if wrapped else _named(chosen))
    except ValueError as error:  # NaN or infinity
        raise UserError("the policy answers this with NaN: send observations as large as those of training") from error
    return Reply(text.encode(), len(chosen.recurrent_state))


def _float(text: str) -> float:
    return float(text)


def _int(text: str) -> int:
    return int(text)


_NUMBERS: dict[str, Any] = {"parse_float": _float, "parse_int": _int}
"""Python's own functions here let other threads have their turn, which a whole parse in C would keep waiting."""


def _check_size(exported: Exported, body: bytes | bytearray, limits: Limits) -> None:
    """Refuses a body, before it is parsed, that is out of all proportion to what the model takes."""
    values, lists = body.count(b","), body.count(b"[") + body.count(b"{")
    sent, replied = _row_numbers(exported)
    # Twice: for fields that are ignored, and for names that have commas or brackets in them.
    if values > 2 * limits.rows * (sent + replied + 4) or lists > 2 * limits.rows * (_row_lists(exported) + 4):
        raise TooLarge(
            f"the body has {values:,} commas and {lists:,} brackets, more than {limits.rows} rows of this model need: "
            "send fewer rows, or raise max_rows"
        )
    # Text beyond ASCII takes up to four bytes a character, five while it is made; once as a whole, and once in parts.
    text = len(body) * (9 if not body.isascii() else 6 if b"\\u" in body else 1)
    if (size := _parsed_bytes(text, values, lists)) > _PARSED_BYTES * limits.body:
        raise TooLarge(
            f"the body would take up to {size:,} bytes once it is parsed, more than {_PARSED_BYTES * limits.body:,}: "
            "send fewer rows, or raise max_body_mib"
        )


def _parsed_bytes(text: int, values: int, lists: int) -> int:
    """Returns at most how much memory parsed JSON takes."""
    return text + 32 * values + 80 * lists


def _row_numbers(exported: Exported) -> tuple[int, int]:
    """Returns how many numbers a row of a request has, and one of a reply."""
    spec = exported.spec
    seen = sum(math.prod(o.shape) for o in spec.observations)
    acted = spec.continuous_size + len(spec.branches)
    return seen + sum(spec.branches) + exported.memory_size, acted + exported.memory_size


def _row_lists(exported: Exported) -> int:
    """Returns how many lists a row of a request has."""
    seen = sum(math.prod(o.shape[:axes]) for o in exported.spec.observations for axes in range(len(o.shape)))
    return seen + 2  # mask, memory


def _json(reply: dict[str, Any]) -> str:
    """Returns a reply as JSON. Each row of an array is written by itself, so that other threads have their turn."""
    parts = []
    for name, value in reply.items():
        text = _json(value) if isinstance(value, dict) else f"[{', '.join([_ENCODE(row) for row in value])}]"
        parts.append(f'"{name}": {text}')
    return f"{{{', '.join(parts)}}}"


def _inputs(sent: dict[str, Any]) -> dict[str, Any]:
    if len(sent) > 1:
        other = next(key for key in sent if key != INPUTS)
        raise UserError(f"{cut(other)} stands beside {INPUTS}: put it into {INPUTS}")
    if not isinstance(sent[INPUTS], dict):
        raise UserError(f'{INPUTS} is {kind(sent[INPUTS])}, not an object: send {{"observations": ...}} in it')
    return {key: value for key, value in sent[INPUTS].items() if key not in IGNORED}


def _read(model: Model, fields: Mapping[str, Any], most_rows: int) -> tuple[list[Array], Array, Array, bool]:
    """Returns what `Model.act` takes: observations, mask (N, A) bool, memory (N, R) float32, and `deterministic`."""
    spec, memory_size = model.exported.spec, model.exported.memory_size
    for key in fields:
        if key not in FIELDS:
            key = cut(key)
            close = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there is {_list(FIELDS)}"
            raise UserError(f"unknown field {key}; {hint}")
    if "observations" not in fields:
        raise UserError(f"observations is missing: {_wanted(spec)}")
    observations = _observations(spec, fields["observations"])
    rows = len(observations[0])
    if rows > most_rows:
        raise UserError(f"observations has {rows:,} rows: send at most {most_rows}, or raise max_rows or max_body_mib")
    deterministic = fields.get("deterministic", True)
    if not isinstance(deterministic, bool):
        raise UserError(f"deterministic is {shown(deterministic)}: it must be true or false")
    mask = np.ones((rows, sum(spec.branches)), np.bool_)
    if fields.get("action_masks") is not None:
        mask = _masks(spec, fields["action_masks"], rows)
    memory = np.zeros((rows, memory_size), np.float32)
    if fields.get("memory") is not None:
        if not memory_size:
            raise UserError("memory was sent, but the model has none: leave it out")
        memory = _same_rows(_floats(fields["memory"], "memory", (memory_size,)), "memory", rows)
    return observations, mask, memory, deterministic


def _observations(spec: BehaviorSpec, sent: Any) -> list[Array]:
    """Returns each observation's array, of those sent by name, or of the one that there is."""
    if not isinstance(sent, dict):
        if len(spec.observations) > 1:
            raise UserError(f"observations is {kind(sent)}: {_wanted(spec)}")
        return [_observation(spec.observations[0], sent, "observations")]
    names = [o.name for o in spec.observations]
    if sent.keys() != set(names):
        raise UserError(f"observations has {_list(sent) or 'nothing'}: {_wanted(spec)}")
    arrays = [_observation(o, sent[o.name], f"observations.{cut(o.name)}") for o in spec.observations]
    for name, array in zip(names, arrays):
        _same_rows(array, f"observations.{cut(name)}", len(arrays[0]))
    return arrays


def _observation(observation: ObservationSpec, sent: Any, field: str) -> Array:
    if observation.dtype == "float32":
        return _floats(sent, field, observation.shape)
    array = numbers(sent, field, observation.shape)
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.uint8)
    refuse_values(array, whole != array, field, "whole numbers from 0 to 255")
    return whole


def _floats(sent: Any, field: str, shape: tuple[int, ...]) -> Array:
    """(N, *shape) float32."""
    array = numbers(sent, field, shape)
    refuse_values(array, ~(np.abs(array) <= LARGEST_FLOAT), field, "finite numbers")
    return array.astype(np.float32)


def _masks(spec: BehaviorSpec, sent: Any, rows: int) -> Array:
    """(N, A) bool."""
    if not spec.branches:
        raise UserError("action_masks was sent, but the model has no discrete actions: leave it out")
    field = "action_masks"
    mask = _same_rows(numbers(sent, field, (sum(spec.branches),), booleans=True), field, rows)
    refuse_values(mask, (mask != 0) & (mask != 1), field, "1 or true (allowed) and 0 or false")
    mask = mask.astype(np.bool_)
    starts = np.cumsum((0, *spec.branches))
    stuck = ~np.logical_or.reduceat(mask, starts[:-1], axis=1)
    if stuck.any():
        row, branch = np.argwhere(stuck)[0].tolist()
        raise UserError(
            f"action_masks[{row}] allows no choice of branch {branch}, its entries {starts[branch]} to "
            f"{starts[branch + 1] - 1}: allow at least one"
        )
    return mask


def _same_rows(array: Array, field: str, rows: int) -> Array:
    if len(array) != rows:
        raise RowsDiffer(f"{field} has {len(array)} rows: it must have {rows}, as the observations")
    return array


def _named(chosen: Chosen) -> dict[str, Any]:
    arrays = {
        "continuous_actions": chosen.continuous,
        "discrete_actions": chosen.discrete,
        "memory": chosen.recurrent_state,
    }
    return {name: array.tolist() for name, array in arrays.items() if array.shape[1]}


def _outputs(spec: BehaviorSpec, chosen: Chosen) -> dict[str, Any]:
    """Returns actions in RLlib's form: a number if there is one choice, else a list of numbers."""
    discrete = chosen.discrete[:, 0] if len(spec.branches) == 1 else chosen.discrete
    parts = {"continuous": chosen.continuous.tolist(), "discrete": discrete.tolist()}
    both = spec.branches and spec.continuous_size
    outputs = {"actions": parts if both else parts["discrete" if spec.branches else "continuous"]}
    return outputs | ({"memory": chosen.recurrent_state.tolist()} if chosen.recurrent_state.shape[1] else {})


def _wanted(spec: BehaviorSpec) -> str:
    if len(spec.observations) == 1:
        return f"send an array of shape {shape_words(spec.observations[0].shape)}, N rows"
    parts = ", ".join(f"{cut(o.name)} {shape_words(o.shape)}" for o in spec.observations)
    return f"send an object of arrays, N rows each: {parts}"


def _list(names: Iterable[object]) -> str:
    return cut(", ".join(cut(name) for name in islice(names, 10)))
