"""Reward signals in an ML-Agents trainer YAML, and behavioral cloning.

Entries are what `trainer.convert.behaviors` makes of a behavior: its values in ML-Agents' words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.spec import UserError
from trainer.convert import keys
from trainer.convert.keys import NOTHING, Left, read
from trainer.convert.networks import encoder_of, read_network

NOVELTY = ("curiosity", "rnd")
"""Signals that pay for what is new; they have the same names here."""


def read_signal(
    name: str, data: Any, where: str, default: Mapping[str, Any] | None, left: list[Left]
) -> dict[str, Any]:
    """Returns values of a signal, on top of those of `default_settings`. UserError as of `read`, or without demos."""
    own = read(data, where, keys.SIGNALS[name], left)
    values = {**(default or keys.defaults(keys.SIGNALS[name])), **own}
    given, network_where = own.get("network_settings"), f"{where}.network_settings"
    if name == "extrinsic":  # it has no networks: what is said of them is looked at, and goes
        read_network(values.pop("network_settings", None), network_where, keys.defaults(keys.NETWORK), [])
        return values
    base = (default or keys.defaults(keys.SIGNALS[name]))["network_settings"]
    if given and given.get("memory") is not None:
        remedy = "reward signals have no memory, in ML-Agents neither"
        left.append(Left(f"{network_where}.memory", given["memory"], remedy, NOTHING))
    network = read_network(given, network_where, base, left)
    if given is None and "encoding_size" in own:  # with both, ML-Agents takes the former
        network["hidden_units"] = own["encoding_size"]
    if name == "gail":
        _need_demos(values, where)
    left.append(Left(where, data, _SCALED if name in NOVELTY else _ABSORBING))
    return {**values, "network_settings": network}


def read_cloning(data: Any, where: str, default: Mapping[str, Any] | None, left: list[Left]) -> dict[str, Any]:
    """Returns values of `behavioral_cloning`, on top of `default_settings`. UserError as of `read_signal`."""
    values = {**(default or keys.defaults(keys.CLONING)), **read(data, where, keys.CLONING, left)}
    _need_demos(values, where)
    left.append(Left(where, data, _CLONED))
    return values


def novelty(name: str, entry: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Returns settings of `reward.curiosity` or `reward.rnd`, the same keys if it pays."""
    if entry["signals"].get(name, {"strength": 0})["strength"] == 0:
        return {"strength": 0.0}
    encoding_size = max(2, entry["signals"][name]["network_settings"]["hidden_units"])
    return {**_learned(name, entry, left), "encoding_size": encoding_size}


def gail(entry: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Returns settings of `reward.gail`, always the same keys if there are demos."""
    values = entry["signals"].get("gail")
    if values is None:
        return {"demos": None}
    return {
        "demos": values["demo_path"],
        **_learned("gail", entry, left),
        "reward_type": "positive",
        "use_actions": values["use_actions"],
        # ML-Agents has constants in place of keys for these: the largest reward is -log(1e-7).
        "gradient_penalty": 10.0,
        "bound": 16.1,
    }


def _learned(name: str, entry: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Returns the settings that all signals with networks of their own share."""
    values, where = entry["signals"][name], f"{entry['where']}.reward_signals.{name}"
    discount = min(values["gamma"], _LARGEST_DISCOUNT)
    if discount < values["gamma"]:
        remedy = f"lowered to {discount}: what follows an end is worth its reward / (1 - gamma)"
        left.append(Left(f"{where}.gamma", values["gamma"], remedy))
    network, normalize = values["network_settings"], entry["network_settings"]["normalize"]
    if network["normalize"] != normalize:
        remedy = f"its networks see what the policy does: algorithm.network.normalize={str(normalize).lower()}"
        left.append(Left(f"{where}.network_settings.normalize", network["normalize"], remedy))
    encoder = encoder_of(entry)
    if keys.ENCODERS[network["vis_encode_type"]] != encoder:
        remedy = f"its networks see images as the policy does: algorithm.network.encoder={encoder}"
        left.append(Left(f"{where}.network_settings.vis_encode_type", network["vis_encode_type"], remedy))
    return {
        "strength": values["strength"],
        "discount": discount,
        "hidden": [network["hidden_units"]] * max(1, network["num_layers"]),
        "learning_rate": values["learning_rate"],
        "updates_per_sample": _updates_per_sample(entry),
        "batch_size": entry["hyperparameters"]["batch_size"],
    }


def cloning(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings of `algorithm.cloning`, always the same keys if there are demonstrations."""
    values = entry["cloning"]
    if values is None:
        return {"demos": None}
    return {
        "demos": values["demo_path"],
        "strength": values["strength"],
        "anneal_samples": values["steps"] or FOR_EVER,
        "batch_size": values["batch_size"] or entry["hyperparameters"]["batch_size"],
        "learning_rate": entry["hyperparameters"]["learning_rate"],
        "epochs": values["num_epoch"] or 3,
        "epoch_samples": values["samples_per_update"] or None,
    }


def _updates_per_sample(entry: Mapping[str, Any]) -> float:
    """Returns the gradient steps of ML-Agents' signals for each sample: with PPO one beside each of the policy's."""
    values: Mapping[str, Any] = entry["hyperparameters"]
    if entry["algorithm"] in keys.ON_POLICY:
        minibatches = values["buffer_size"] // values["batch_size"]
        return float(values["num_epoch"] * minibatches / values["buffer_size"])
    own = [values[name] for name in keys.REWARD_SIGNAL_STEPS if name in values]
    return 1 / float([values["steps_per_update"], *own][-1])


def _need_demos(values: Mapping[str, Any], where: str) -> None:
    """Raises UserError if there is no `demo_path` among the values."""
    if "demo_path" not in values:
        raise UserError(f"{where}.demo_path is missing: give a .demo file, or a folder of them")


_LARGEST_DISCOUNT = 0.9999
FOR_EVER = 10**12
"""More samples than any run has: over them, a weight that falls to 0 hardly falls."""
_CLONED = (
    "masks of actions count in the loss, and continuous actions are compared as the game gets them: PPO there compares "
    "what it gets times 3"
)
_ABSORBING = (
    "what follows the end of an episode is rewarded like any other step, so that surviving earns nothing by itself; "
    "reward/gail and gail/* in TensorBoard show its progress"
)
_SCALED = (
    "what is paid is scaled by its root mean square over the run, so a strength may weigh more or less here: compare "
    "reward/curiosity or reward/rnd with reward/extrinsic in TensorBoard, and see docs/curiosity.md"
)
