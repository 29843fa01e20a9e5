"""Demonstrations in an ML-Agents trainer YAML: the reward signal `gail`, and `behavioral_cloning`.

Entries are what `trainer.convert_behaviors` makes of a behavior: its values in ML-Agents' words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.spec import UserError
from trainer import convert_keys as keys
from trainer.convert_keys import Left, read, read_network


def read_gail(data: Any, where: str, default: Mapping[str, Any] | None, left: list[Left]) -> dict[str, Any]:
    """GAIL's values, on top of those of `default_settings`.

    Raises:
        UserError: what `trainer.convert_keys.read` raises, or there is no `demo_path`.
    """
    own = read(data, where, keys.SIGNALS["gail"], left)
    network = read_network(own.get("network_settings"), f"{where}.network_settings", left)
    if "network_settings" not in own and "encoding_size" in own:  # with both, ML-Agents takes the former
        network = {"hidden_units": own["encoding_size"]}
    base = default or keys.GAIL_DEFAULTS
    values = {**base, **own, "network_settings": {**base["network_settings"], **network}}
    _need_demos(values, where)
    left.append(Left(where, data, _ABSORBING))
    return values


def read_cloning(data: Any, where: str, default: Mapping[str, Any] | None, left: list[Left]) -> dict[str, Any]:
    """Values of `behavioral_cloning`, on top of those of `default_settings`.

    Raises:
        UserError: as `read_gail`.
    """
    values = {**(default or keys.CLONING_DEFAULTS), **read(data, where, keys.CLONING, left)}
    _need_demos(values, where)
    left.append(Left(where, data, _STRENGTH))
    if values["steps"] == 0:
        left.append(
            Left(f"{where}.steps", 0, f"for ever there, not at all here: cloning.samples={FOR_EVER} is for ever")
        )
    return values


def gail(entry: Mapping[str, Any], where: str, discount: float, left: list[Left]) -> dict[str, Any]:
    """Settings of `reward.gail`, always the same keys if there are demonstrations.

    Raises:
        UserError: the `discount` is 1.
    """
    values = entry["signals"].get("gail")
    if values is None:
        return {"demos": None}
    where = f"{where}.reward_signals.gail"
    if discount >= 1:
        raise UserError(f"{where} needs a gamma below 1: what follows an end is worth its reward / (1 - gamma)")
    if values["gamma"] != discount:
        remedy = f"one discount serves all rewards: algorithm.discount={discount:g}, that of the extrinsic one"
        left.append(Left(f"{where}.gamma", values["gamma"], remedy))
    network, normalize = values["network_settings"], entry["network_settings"]["normalize"]
    if network["normalize"] != normalize:
        remedy = f"the discriminator sees what the policy does: algorithm.network.normalize={str(normalize).lower()}"
        left.append(Left(f"{where}.network_settings.normalize", network["normalize"], remedy))
    return {
        "demos": values["demo_path"],
        "strength": values["strength"],
        "form": "positive",
        "use_actions": values["use_actions"],
        "hidden": [network["hidden_units"]] * max(1, network["num_layers"]),
        "learning_rate": values["learning_rate"],
        "updates_per_sample": _updates_per_sample(entry),
        "batch_size": entry["hyperparameters"]["batch_size"],
        # No keys there, but its constants: the largest reward is -log(1e-7).
        "gradient_penalty": 10.0,
        "bound": 16.1,
    }


def cloning(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `algorithm.cloning`, always the same keys if there are demonstrations."""
    values = entry["cloning"]
    if values is None:
        return {"demos": None}
    return {
        "demos": values["demo_path"],
        "strength": values["strength"],
        "samples": values["steps"] or FOR_EVER,
        "batch_size": values["batch_size"] or entry["hyperparameters"]["batch_size"],
    }


def _updates_per_sample(entry: Mapping[str, Any]) -> float:
    """Gradient steps of ML-Agents' discriminator: with PPO one beside each of the policy's."""
    values: Mapping[str, Any] = entry["hyperparameters"]
    if entry["trainer_type"] == "ppo":
        minibatches = values["buffer_size"] // values["batch_size"]
        updates: float = values["num_epoch"] * minibatches / values["buffer_size"]
        return updates
    steps = values["steps_per_update"]
    for name in keys.REWARD_SIGNAL_STEPS:
        steps = values.get(name, steps)
    return 1 / float(steps)


def _need_demos(values: Mapping[str, Any], where: str) -> None:
    if "demo_path" not in values:
        raise UserError(f"{where}.demo_path is missing: give a .demo file, or a folder of them")


FOR_EVER = 10**12
"""More samples than any run has: over them, a weight that falls to 0 hardly falls."""
_ABSORBING = (
    "what follows the end of an episode is judged like any other step, so that surviving earns nothing by itself; "
    "reward/gail and gail/* in TensorBoard tell how it goes"
)
_STRENGTH = (
    "strength is the weight of the cloning loss beside the algorithm's, not the learning rate of an optimizer of its "
    "own: see cloning/loss in TensorBoard, and change it if need be"
)
