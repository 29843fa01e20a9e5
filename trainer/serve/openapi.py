"""How the endpoint describes itself (OpenAPI): a model's own shapes, and an example of a request that it answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from algorithms.onnx.contract import Exported

_LARGEST_EXAMPLE = 2000
"""How many numbers an example may have; of larger requests, as of images, only the shape is described."""


def description(exported: Exported) -> str:
    """Returns what the model does, in a sentence."""
    spec = exported.spec
    seen = ", ".join(f"`{o.name}` {o.dtype}{list(o.shape)}" for o in spec.observations)
    done = [f"{spec.continuous_size} continuous actions from -1 to 1"] if spec.continuous_size else []
    done += [f"discrete branches of {list(spec.branches)} choices"] if spec.branches else []
    memory = f" It remembers {exported.memory_size} numbers." if exported.memory_size else ""
    return f"The policy of `{spec.name}`: observes {seen}; acts by {' and '.join(done)}.{memory}"


def invocation_docs(exported: Exported) -> dict[str, Any]:
    """Returns the request and the reply of `/invocations`."""
    fields, example = _request(exported)
    body: dict[str, Any] = {"schema": {"oneOf": [fields, _object({"inputs": fields}, ["inputs"])]}}
    if example is not None:
        body["examples"] = {
            "rows": {"summary": "N rows", "value": example},
            "inputs": {"summary": "the same, in the other shape", "value": {"inputs": example}},
        }
    words = {"400": "It cannot be answered", "408": "It took too long to arrive", "413": "It is too large"}
    error = {"application/json": {"schema": _object({"error": {"type": "string"}}, ["error"])}}
    responses: dict[str, Any] = {status: {"description": each, "content": error} for status, each in words.items()}
    reply = {
        "application/json": {"schema": {"anyOf": [_reply(exported), _object({"outputs": {"type": "object"}}, [])]}}
    }
    responses["200"] = {"description": "What the policy does, a row for each of the request", "content": reply}
    return {"requestBody": {"required": True, "content": {"application/json": body}}, "responses": responses}


def _request(exported: Exported) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Returns the schema of a request, and an example unless that is too large."""
    spec = exported.spec
    byte = {"type": "integer", "minimum": 0, "maximum": 255}
    each = {o.name: _rows(o.shape, byte if o.dtype == "uint8" else {"type": "number"}) for o in spec.observations}
    zeros = {o.name: np.zeros((1, *o.shape), o.dtype) for o in spec.observations}
    single = len(each) == 1
    choices = sum(spec.branches)
    fields = {"observations": next(iter(each.values())) if single else _object(each, list(each))}
    values = {name: array.tolist() for name, array in zeros.items()}
    example: dict[str, Any] = {"observations": next(iter(values.values())) if single else values}
    if choices:
        about = "1 = allowed, for each choice of each branch, branches one after another; without: all are"
        fields["action_masks"] = _rows((choices,), {"enum": [0, 1, True, False]}) | {"description": about}
        example["action_masks"] = [[1] * choices]
    fields["deterministic"] = {"type": "boolean", "default": True, "description": "false: actions are drawn"}
    example["deterministic"] = True
    if exported.memory_size:
        about = "what the last reply gave; zeros, or nothing, where an episode begins"
        fields["memory"] = _rows((exported.memory_size,), {"type": "number"}) | {"description": about}
        example["memory"] = [[0.0] * exported.memory_size]
    small = sum(array.size for array in zeros.values()) + choices + exported.memory_size <= _LARGEST_EXAMPLE
    return _object(fields, ["observations"]), example if small else None


def _reply(exported: Exported) -> dict[str, Any]:
    parts: dict[str, tuple[int, dict[str, Any]]] = {
        "continuous_actions": (exported.spec.continuous_size, {"type": "number", "minimum": -1, "maximum": 1}),
        "discrete_actions": (len(exported.spec.branches), {"type": "integer", "minimum": 0}),
        "memory": (exported.memory_size, {"type": "number"}),
    }
    fields = {name: _rows((size,), item) for name, (size, item) in parts.items() if size}
    return _object(fields, list(fields))


def _rows(shape: tuple[int, ...], item: dict[str, Any]) -> dict[str, Any]:
    for size in reversed(shape):
        item = {"type": "array", "items": item, "minItems": size, "maxItems": size}
    return {"type": "array", "items": item, "minItems": 1}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}
