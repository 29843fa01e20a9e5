"""Reward signals in an ML-Agents trainer YAML: what all of them share, and curiosity and RND.

Entries are what `trainer.convert.behaviors` makes of a behavior: its values in ML-Agents' words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.spec import UserError
from trainer.convert import keys
from trainer.convert.keys import Left, read
from trainer.convert.networks import encoder_of, read_network, read_signal_network

NOVELTY = ("curiosity", "rnd")
"""Signals that pay for what is new; they have the same names here."""


def read_signal(
    name: str, data: Any, where: str, default: Mapping[str, Any] | None, left: list[Left]
) -> dict[str, Any]:
    """Returns values of a signal, on top of those of `default_settings`.

    Raises:
        UserError: what `trainer.convert.keys.read` raises, or GAIL has no `demo_path`.
    """
    own = read(data, where, keys.SIGNALS[name], left)
    values = {**(default or keys.defaults(keys.SIGNALS[name])), **own}
    given, network_where = own.get("network_settings"), f"{where}.network_settings"
    if name == "extrinsic":  # it has no networks: what is said of them is looked at, and goes
        read_network(values.pop("network_settings", None), network_where, keys.defaults(keys.NETWORK), [])
        return values
    base = (default or keys.defaults(keys.SIGNALS[name]))["network_settings"]
    network = read_signal_network(given, network_where, base, left)
    if given is None and "encoding_size" in own:  # with both, ML-Agents takes the former
        network["hidden_units"] = own["encoding_size"]
    if name == "gail":
        need_demos(values, where)
    left.append(Left(where, data, _SCALED if name in NOVELTY else _ABSORBING))
    return {**values, "network_settings": network}


def need_demos(values: Mapping[str, Any], where: str) -> None:
    """Raises UserError if there is no `demo_path` among the values."""
    if "demo_path" not in values:
        raise UserError(f"{where}.demo_path is missing: give a .demo file, or a folder of them")


def novelty(name: str, entry: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Returns settings of `reward.curiosity` or `reward.rnd`, the same keys if it pays. UserError as of `learned`."""
    if entry["signals"].get(name, {"strength": 0})["strength"] == 0:
        return {"strength": 0.0}
    encoding_size = max(2, entry["signals"][name]["network_settings"]["hidden_units"])
    return {**learned(name, entry, left), "encoding_size": encoding_size}


def learned(name: str, entry: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Returns the settings that all signals with networks of their own share.

    Raises:
        UserError: the discount is 1.
    """
    values, discount, where = entry["signals"][name], entry["discount"], f"{entry['where']}.reward_signals.{name}"
    if discount >= 1:
        raise UserError(f"{where} needs a gamma below 1: what follows an end is worth its reward / (1 - gamma)")
    if values["gamma"] != discount:
        remedy = f"one discount serves all rewards: algorithm.discount={discount:g}, that of the extrinsic one"
        left.append(Left(f"{where}.gamma", values["gamma"], remedy))
    network, normalize = values["network_settings"], entry["network_settings"]["normalize"]
    if network["normalize"] != normalize:
        remedy = f"its networks see what the policy does: algorithm.network.normalize={str(normalize).lower()}"
        left.append(Left(f"{where}.network_settings.normalize", network["normalize"], remedy))
    encoder = encoder_of(entry)
    if keys.ENCODERS.get(network["vis_encode_type"]) != encoder:
        remedy = f"its networks see images as the policy does: algorithm.network.encoder={encoder}"
        left.append(Left(f"{where}.network_settings.vis_encode_type", network["vis_encode_type"], remedy))
    return {
        "strength": values["strength"],
        "hidden": [network["hidden_units"]] * max(1, network["num_layers"]),
        "learning_rate": values["learning_rate"],
        "updates_per_sample": _updates_per_sample(entry),
        "batch_size": entry["hyperparameters"]["batch_size"],
    }


def _updates_per_sample(entry: Mapping[str, Any]) -> float:
    """Returns the gradient steps of ML-Agents' signals for each sample: with PPO one beside each of the policy's."""
    values: Mapping[str, Any] = entry["hyperparameters"]
    if entry["trainer_type"] == "ppo":
        minibatches = values["buffer_size"] // values["batch_size"]
        return float(values["num_epoch"] * minibatches / values["buffer_size"])
    own = [values[name] for name in keys.REWARD_SIGNAL_STEPS if name in values]
    return 1 / float([values["steps_per_update"], *own][-1])


_ABSORBING = (
    "what follows the end of an episode is rewarded like any other step, so that surviving earns nothing by itself; "
    "reward/gail and gail/* in TensorBoard show its progress"
)
_SCALED = (
    "what is paid is scaled by its root mean square over the run, so a strength may weigh more or less here: compare "
    "reward/curiosity or reward/rnd with reward/extrinsic in TensorBoard, and see docs/curiosity.md"
)
