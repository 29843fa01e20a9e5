"""Requests and replies of the endpoint: JSON to arrays, and actions to JSON. Imports neither HTTP nor torch.

Shapes: N rows, D discrete branches, A their choices together, R numbers of memory.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.spec import Array, BehaviorSpec, ObservationSpec, UserError
from trainer.serve.onnx_policy import Chosen, Model

FIELDS = ("observations", "action_masks", "deterministic", "memory")
INPUTS = "inputs"
"""Around these fields in the other shape of a request, which is answered by `outputs`."""


def answer(model: Model, body: bytes) -> bytes:
    """Returns the reply to a request; UserError (which field, what was seen, what would be right) if there is none."""
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError(f'the body is not JSON ({error}): send {{"observations": ...}}') from error
    if not isinstance(sent, dict):
        raise UserError(f'the body is {_kind(sent)}, not an object: send {{"observations": ...}}')
    wrapped = INPUTS in sent
    chosen = model.act(*_read(model, _inputs(sent) if wrapped else sent))
    spec = model.exported.spec
    return json.dumps({"outputs": _outputs(spec, chosen)} if wrapped else _named(chosen)).encode()


_IGNORED = ("prev_action", "prev_reward", "is_training", "seq_lens")
"""Fields that clients of RLlib's policies send along in `inputs`."""


def _inputs(sent: dict[str, Any]) -> dict[str, Any]:
    if len(sent) > 1:
        other = next(key for key in sent if key != INPUTS)
        raise UserError(f"{other} stands beside {INPUTS}: put it into {INPUTS}")
    if not isinstance(sent[INPUTS], dict):
        raise UserError(f'{INPUTS} is {_kind(sent[INPUTS])}, not an object: send {{"observations": ...}} in it')
    return {key: value for key, value in sent[INPUTS].items() if key not in _IGNORED}


def _read(model: Model, fields: Mapping[str, Any]) -> tuple[list[Array], Array, Array, bool]:
    """Returns what `Model.act` takes: observations, mask (N, A) bool, memory (N, R) float32, and `deterministic`."""
    spec, memory_size = model.exported.spec, model.exported.memory_size
    for key in fields:
        if key not in FIELDS:
            close = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there is {_list(FIELDS)}"
            raise UserError(f"unknown field {key}; {hint}")
    if "observations" not in fields:
        raise UserError(f"observations is missing: {_wanted(spec)}")
    observations = _observations(spec, fields["observations"])
    rows = len(observations[0])
    if not rows:
        raise UserError("observations has no rows: send at least one")
    deterministic = fields.get("deterministic", True)
    if not isinstance(deterministic, bool):
        raise UserError(f"deterministic is {_shown(deterministic)}: it must be true or false")
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
            raise UserError(f"observations is {_kind(sent)}: {_wanted(spec)}")
        return [_observation(spec.observations[0], sent, "observations")]
    names = [o.name for o in spec.observations]
    if sent.keys() != set(names):
        raise UserError(f"observations has {_list(sent) or 'nothing'}: {_wanted(spec)}")
    arrays = [_observation(o, sent[o.name], f"observations.{o.name}") for o in spec.observations]
    for name, array in zip(names, arrays):
        _same_rows(array, f"observations.{name}", len(arrays[0]))
    return arrays


def _observation(observation: ObservationSpec, sent: Any, field: str) -> Array:
    if observation.dtype == "float32":
        return _floats(sent, field, observation.shape)
    array = _numbers(sent, field, observation.shape)
    wrong = (array < 0) | (array > 255) | (array != np.floor(array))
    _refuse_values(array, wrong, field, "whole numbers from 0 to 255")
    return array.astype(np.uint8)


def _floats(sent: Any, field: str, shape: tuple[int, ...]) -> Array:
    """(N, *shape) float32."""
    array = _numbers(sent, field, shape)
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    if not np.isfinite(floats).all():
        _refuse_values(array, ~np.isfinite(floats), field, "finite numbers")
    return floats


def _numbers(sent: Any, field: str, shape: tuple[int, ...], kinds: str = "iuf") -> Array:
    """(N, *shape) of a numeric type."""
    wanted = f"{field} must be numbers of shape {_shape(shape)}, N rows"
    try:
        array = np.array(sent)
        if array.dtype.kind not in kinds:
            if odd := _no_number(sent, field):
                raise UserError(f"{odd}: {wanted}")
            array = np.array(sent, np.float64)  # whole numbers beyond 64 bits
    except (ValueError, OverflowError) as error:
        raise UserError(f"{_no_number(sent, field) or f'{field} cannot be read ({error})'}: {wanted}") from error
    if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
        raise UserError(f"{field} has shape {list(array.shape)}: {wanted}")
    return array


def _masks(spec: BehaviorSpec, sent: Any, rows: int) -> Array:
    """(N, A) bool."""
    if not spec.branches:
        raise UserError("action_masks was sent, but the model has no discrete actions: leave it out")
    field = "action_masks"
    mask = _same_rows(_numbers(sent, field, (sum(spec.branches),), "iufb"), field, rows)
    _refuse_values(mask, (mask != 0) & (mask != 1), field, "1 or true (allowed) and 0 or false")
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
        raise UserError(f"{field} has {len(array)} rows: it must have {rows}, as the observations")
    return array


def _refuse_values(array: Array, wrong: Array, field: str, right: str) -> None:
    if wrong.any():
        place = np.argwhere(wrong)[0].tolist()
        at = "".join(f"[{i}]" for i in place)
        raise UserError(f"{field}{at} is {array[tuple(place)]}: only {right} will do")


def _no_number(sent: Any, field: str) -> str | None:
    """Returns the first place in nested lists that holds no number, and what it holds."""
    waiting = [(field, sent)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, list):
            waiting += [(f"{place}[{i}]", each) for i, each in enumerate(value)][::-1]
        elif not isinstance(value, (int, float)) or isinstance(value, bool):
            return f"{place} is {_shown(value)}"
    return None


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
        return f"send an array of shape {_shape(spec.observations[0].shape)}, N rows"
    parts = ", ".join(f"{o.name} {_shape(o.shape)}" for o in spec.observations)
    return f"send an object of arrays, N rows each: {parts}"


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, ('N', *shape)))}]"


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _shown(value: Any) -> str:
    """Returns a value as JSON, cut short; what holds others by its kind alone."""
    text = _kind(value) if isinstance(value, (dict, list)) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _list(names: Any) -> str:
    return ", ".join(map(str, names))
