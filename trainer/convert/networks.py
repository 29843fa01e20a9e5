"""Networks in an ML-Agents trainer YAML: their layers, encoders of images, and memory.

Entries are what `trainer.convert.behaviors` makes of a behavior: its values in ML-Agents' words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.spec import UserError
from trainer.convert import keys
from trainer.convert.keys import Left, mapping, read


def read_policy_network(data: object, where: str, default: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Returns a behavior's `network_settings`, on top of `default_settings`. UserError as of `read_network`."""
    values, given = read_network(data, where, default, left), mapping(data, where)
    left += [Left(f"{where}.{name}", "resnet", _RESNET) for name in keys.ENCODER_TYPE if given.get(name) == "resnet"]
    if given.get("memory") is not None and values["memory"]["sequence_length"] < 2:
        left.append(Left(f"{where}.memory.sequence_length", 1, _SINGLE))
    return values


def read_network(data: object, where: str, default: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Returns `network_settings`, on top of `default`. UserError as of `read`, or for a memory of odd size."""
    own = read(data, where, keys.NETWORK, left)
    for encoder in [own.pop(name) for name in keys.ENCODER_TYPE if name in own]:
        own["vis_encode_type"] = encoder
    if "memory" in own:
        own["memory"] = _read_memory(own["memory"], f"{where}.memory", default.get("memory"), left)
    elif "memory" in mapping(data, where):  # null takes away that of `default_settings`
        own["memory"] = None
    return {**default, **own}


def network(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `algorithm.network`, the same keys for the same algorithm, but for a memory."""
    values = entry["network_settings"]
    # Actions there are clipped to 3 deviations of the first and divided by 3.
    unit = {"initial_deviation": 1 / 3, "action_scale": 1 / 3} if entry["algorithm"] in keys.ON_POLICY else {}
    return {
        # ML-Agents has one layer even where none is asked for.
        "hidden": [values["hidden_units"]] * max(1, values["num_layers"]),
        "activation": "silu",  # as all networks have there
        **unit,
        "normalize": values["normalize"],
        "clip_inputs": 5.0,
        "joint_choices": 0,  # no key there: every branch is chosen by itself
        "encoder": encoder_of(entry),
        "encoder_units": values["hidden_units"],
        "memory": _memory(entry),
        "goal": keys.GOALS[values["goal_conditioning_type"]],
        "attention": {"size": 128, "heads": 4, "layers": 1},  # whatever the other layers have there
    }


def encoder_of(entry: Mapping[str, Any]) -> str:
    """Returns our name of the encoder of a behavior's images."""
    return keys.ENCODERS[entry["network_settings"]["vis_encode_type"]]


def sequence_length(entry: Mapping[str, Any]) -> int:
    """Returns the steps that are learned from together: 1 without memory, else 2 or more."""
    memory = entry["network_settings"].get("memory")
    return 1 if memory is None else max(2, memory["sequence_length"])


def _read_memory(data: object, where: str, default: Mapping[str, Any] | None, left: list[Left]) -> dict[str, Any]:
    values = {**(default or keys.defaults(keys.MEMORY)), **read(data, where, keys.MEMORY, left)}
    if values["memory_size"] % 2:
        raise UserError(
            f"{where}.memory_size={values['memory_size']} must be divisible by 2: half of it is the output of an LSTM, "
            "half its cell"
        )
    return values


def _memory(entry: Mapping[str, Any]) -> dict[str, Any]:
    values = entry["network_settings"].get("memory")
    if values is None:
        return {"cell": "none"}
    return {
        "cell": "lstm",
        "size": values["memory_size"] // 2,
        "sequence_length": sequence_length(entry),
        "burn_in": 0,  # no key there: nothing is replayed before a sequence
    }


_SINGLE = "raised to 2: a single step teaches nothing about memory"
_RESNET = (
    "the impala encoder: its poolings are padded and it has ReLU in place of Swish; it takes images from 8 pixels on"
)
