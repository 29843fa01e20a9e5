"""Models whose metadata, or what else a file may hold, ask for trouble: each made of a valid one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import onnx

from algorithms.onnx.contract import METADATA

_LARGE = 100 * 2**20


def hostile_models(valid: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields kinds of trouble, and files."""
    for kind, change in _CHANGES.items():
        yield kind, _changed(valid, change)
    for kind, text in _TEXTS.items():
        yield kind, _with_text(valid, text)
    yield "metadata of 100 MB", _with_text(valid, '{"a": "' + "a" * _LARGE + '"}')
    yield "nothing", b""
    yield "half of it", valid[: len(valid) // 2]
    yield "100 MB of zeros", bytes(_LARGE)
    yield "weights that are elsewhere", _elsewhere(valid)


def _observation(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["spec"]["observations"][0].update(fields)


def _spec(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["spec"].update(fields)


_CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a name of 1 MB": _spec(name="a" * 2**20),
    "a name that is no text": _spec(name="\ud800"),
    "an observation's name of 1 MB": _observation(name="a" * 2**20),
    "names that are the same": lambda data: data["spec"]["observations"].append(data["spec"]["observations"][0]),
    "no observations": _spec(observations=[]),
    "a million observations": lambda data: data["spec"].update(
        observations=[dict(data["spec"]["observations"][0], name=str(i)) for i in range(10**6)]
    ),
    "observations as text": _spec(observations="abc"),
    "a shape of text": _observation(shape="4"),
    "a shape of words": _observation(shape=["batch"]),
    "a shape of a fraction": _observation(shape=[4.5]),
    "a huge shape": _observation(shape=[10**12]),
    "a shape beyond integers": _observation(shape=[10**30, 10**30]),
    "a shape of a million axes": _observation(shape=[1] * 10**6),
    "a negative shape": _observation(shape=[-4]),
    "an empty shape": _observation(shape=[]),
    "a shape of zero": _observation(shape=[0]),
    "a type of objects": _observation(dtype="O"),
    "a scale of NaN": _observation(scale=float("nan")),
    "a scale of infinity": _observation(scale=float("inf")),
    "a scale beyond floats": _observation(scale=10**400),
    "a negative size": _spec(continuous_size=-1),
    "a huge size": _spec(continuous_size=10**12),
    "huge branches": _spec(branches=[10**12]),
    "a million branches": _spec(branches=[1] * 10**6),
    "branches of zero": _spec(branches=[0, 0]),
    "nothing to do": _spec(continuous_size=0, branches=[]),
    "a huge memory": lambda data: data.update(memory_size=10**12),
    "a negative memory": lambda data: data.update(memory_size=-1),
    "a memory of infinity": lambda data: data.update(memory_size=float("inf")),
    "a spec that is a list": lambda data: data.update(spec=[]),
    "no spec": lambda data: data.pop("spec"),
}
_TEXTS = {
    "no JSON": "{",
    "a list": "[]",
    "a number": "1" * 10_000,
    "nested metadata": "[" * 10**6,
    "nested objects": '{"a":' * 10**6,
}


def _changed(valid: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    model = onnx.load_from_string(valid)
    data = json.loads(next(entry.value for entry in model.metadata_props if entry.key == METADATA))
    change(data)
    return _with_text(valid, json.dumps(data))


def _with_text(valid: bytes, text: str) -> bytes:
    model = onnx.load_from_string(valid)
    others = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**others, METADATA: text})
    content: bytes = model.SerializeToString()
    return content


def _elsewhere(valid: bytes) -> bytes:
    """Weights that lie in a file of the user's own."""
    model = onnx.load_from_string(valid)
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="/etc/passwd")
    content: bytes = model.SerializeToString()
    return content
