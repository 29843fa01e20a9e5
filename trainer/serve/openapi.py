"""How the endpoint describes itself (OpenAPI): a model's own shapes, and an example of a request that it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from algorithms.onnx.contract import Exported
from trainer.serve.requests import IGNORED, LARGEST_FLOAT, Limits

_FLOAT = {"type": "number", "minimum": -LARGEST_FLOAT, "maximum": LARGEST_FLOAT}
_ACTION = {"type": "number", "minimum": -1, "maximum": 1}
_CHOICE = {"type": "integer", "minimum": 0}
_MASK_WORDS = (
    "1 = allowed, for each choice of each branch, branches one after another, as many rows as the observations; "
    "without: all are"
)

_LARGEST_EXAMPLE = 2000
"""How many numbers an example may have; of larger requests, as of images, only the shape is described."""
_MOST_MASK_WORDS = 20_000
"""How many entries the rule may take to describe, that each branch has one which is allowed."""


def description(exported: Exported) -> str:
    """Returns what the model does, in a sentence."""
    spec = exported.spec
    sets = {True: " (entities, padded with zeros)", False: ""}
    seen = ", ".join(f"`{o.name}` {o.dtype}{list(o.shape)}{sets[o.entities]}" for o in spec.observations)
    done = [f"{spec.continuous_size} continuous actions from -1 to 1"] if spec.continuous_size else []
    done += [f"discrete branches of {list(spec.branches)} choices"] if spec.branches else []
    memory = f" It remembers {exported.memory_size} numbers." if exported.memory_size else ""
    return f"The policy of `{spec.name}`: observes {seen}; acts by {' and '.join(done)}.{memory}"


def ping_docs() -> dict[str, Any]:
    """Returns the refusals of `/ping`."""
    return {"responses": _refusals("400")}


def start_docs() -> dict[str, Any]:
    """Returns the replies of `/`."""
    text = {"schema": {"type": "string"}}
    page = {"description": "A request to paste into a shell", "content": {"text/plain": text, "text/html": text}}
    return {"responses": {"200": page, **_refusals("400")}}


def metrics_docs() -> dict[str, Any]:
    """Returns the replies of `/metrics`."""
    page = {"description": "Prometheus' text format 0.0.4", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"responses": {"200": page, **_refusals("400")}}


def invocation_docs(exported: Exported, limits: Limits) -> dict[str, Any]:
    """Returns the request and the reply of `/invocations`."""
    fields, example = _request(exported, limits.rows)
    wrapped = _object(fields["properties"] | {name: {} for name in IGNORED}, ["observations"])
    body: dict[str, Any] = {"schema": {"oneOf": [fields, _object({"inputs": wrapped}, ["inputs"])]}}
    if example is not None:
        body["examples"] = {
            "rows": {"summary": "N rows", "value": example},
            "inputs": {"summary": "the same, in the other shape", "value": {"inputs": example}},
        }
    responses = _refusals("400", "408", "409", "413", "431", "503")
    reply = {"application/json": {"schema": {"oneOf": [_reply(exported), _outputs(exported)]}}}
    responses["200"] = {"description": "What the policy does, a row for each of the request", "content": reply}
    return {"requestBody": {"required": True, "content": {"application/json": body}}, "responses": responses}


def _refusals(*statuses: str) -> dict[str, Any]:
    words = {
        "400": "It cannot be answered, or its Host is not allowed",
        "408": "It took too long to arrive",
        "409": "Its fields do not have the same number of rows",
        "413": "It is too large",
        "431": "Its headers are too large",
        "503": "There are too many large requests at once",
    }
    error = {"application/json": {"schema": _object({"error": {"type": "string"}}, ["error"])}}
    return {status: {"description": words[status], "content": error} for status in statuses}


def _request(exported: Exported, rows: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Returns the schema of a request, and an example unless that is too large."""
    spec = exported.spec
    byte = {"type": "integer", "minimum": 0, "maximum": 255}
    each = {o.name: _rows(o.shape, byte if o.dtype == "uint8" else _FLOAT, rows) for o in spec.observations}
    zeros = {o.name: np.zeros((1, *o.shape), o.dtype) for o in spec.observations}
    choices = sum(spec.branches)
    small = sum(array.size for array in zeros.values()) + choices + exported.memory_size <= _LARGEST_EXAMPLE
    observations = _object(each, list(each))
    fields: dict[str, Any] = {"observations": observations}
    if len(each) == 1:
        fields["observations"] |= next(iter(each.values())) | {"type": ["array", "object"]}
    if choices:
        fields["action_masks"] = _optional(_mask(spec.branches), rows, _MASK_WORDS)
    fields["deterministic"] = {"type": "boolean", "default": True, "description": "false: actions are drawn"}
    if exported.memory_size:
        about = "what the last reply gave, as many rows as the observations; zeros, or nothing: an episode begins"
        fields["memory"] = _optional(_rows((exported.memory_size,), _FLOAT)["items"], rows, about)
    if not spec.branches:
        fields["action_masks"] = {"type": "null"}
    if not exported.memory_size:
        fields["memory"] = {"type": "null"}
    schema = _object(fields, ["observations"])
    if not small:
        return schema, None
    values = {name: array.tolist() for name, array in zeros.items()}
    example: dict[str, Any] = {"observations": next(iter(values.values())) if len(values) == 1 else values}
    example |= {"action_masks": [[1] * choices]} if choices else {}
    example |= {"deterministic": True}
    example |= {"memory": [[0.0] * exported.memory_size]} if exported.memory_size else {}
    return schema, example


def _optional(row: dict[str, Any], rows: int, about: str) -> dict[str, Any]:
    """Returns the schema of a field of N rows that may be null."""
    return {"type": ["array", "null"], "items": row, "minItems": 1, "maxItems": rows, "description": about}


def _mask(branches: Sequence[int]) -> dict[str, Any]:
    """Returns the schema of a row of masks: each branch has an entry that is allowed."""
    size = sum(branches)
    row: dict[str, Any] = {"type": "array", "items": {"enum": [0, 1, True, False]}, "minItems": size, "maxItems": size}
    if size * len(branches) > _MOST_MASK_WORDS:
        return row
    forbidden: dict[str, Any] = {"enum": [0, False]}
    stuck: list[dict[str, Any]] = [
        {"prefixItems": [{}] * sum(branches[:i]) + [forbidden] * branch_size} for i, branch_size in enumerate(branches)
    ]
    return row | {"allOf": [{"not": each} for each in stuck]}


def _reply(exported: Exported) -> dict[str, Any]:
    parts: dict[str, tuple[int, dict[str, Any]]] = {
        "continuous_actions": (exported.spec.continuous_size, _ACTION),
        "discrete_actions": (len(exported.spec.branches), _CHOICE),
        "memory": (exported.memory_size, _FLOAT),
    }
    fields = {name: _rows((size,), item) for name, (size, item) in parts.items() if size}
    return _object(fields, list(fields))


def _outputs(exported: Exported) -> dict[str, Any]:
    """Returns the schema of a reply in RLlib's form."""
    spec = exported.spec
    discrete = _rows(() if len(spec.branches) == 1 else (len(spec.branches),), _CHOICE)
    continuous = _rows((spec.continuous_size,), _ACTION)
    both = _object({"continuous": continuous, "discrete": discrete}, ["continuous", "discrete"])
    actions = both if spec.branches and spec.continuous_size else discrete if spec.branches else continuous
    fields = {"actions": actions}
    if exported.memory_size:
        fields["memory"] = _rows((exported.memory_size,), _FLOAT)
    return _object({"outputs": _object(fields, list(fields))}, ["outputs"])


def _rows(shape: tuple[int, ...], item: dict[str, Any], most: int | None = None) -> dict[str, Any]:
    for size in reversed(shape):
        item = {"type": "array", "items": item, "minItems": size, "maxItems": size}
    rows = {"type": "array", "items": item, "minItems": 1}
    return rows if most is None else rows | {"maxItems": most}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
