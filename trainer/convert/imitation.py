"""Demonstrations in an ML-Agents trainer YAML: the reward signal `gail`, and `behavioral_cloning`.

Entries are what `trainer.convert.behaviors` makes of a behavior: its values in ML-Agents' words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.convert import keys
from trainer.convert.keys import Left, read
from trainer.convert.signals import learned, need_demos


def read_cloning(data: Any, where: str, default: Mapping[str, Any] | None, left: list[Left]) -> dict[str, Any]:
    """Returns values of `behavioral_cloning`, on top of those of `default_settings`.

    Raises:
        UserError: what `trainer.convert.keys.read` raises, or there is no `demo_path`.
    """
    values = {**(default or keys.defaults(keys.CLONING)), **read(data, where, keys.CLONING, left)}
    need_demos(values, where)
    left.append(Left(where, data, _STRENGTH))
    if values["steps"] == 0:
        left.append(
            Left(f"{where}.steps", 0, f"for ever there, not at all here: cloning.anneal_samples={FOR_EVER} is for ever")
        )
    return values


def gail(entry: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Returns settings of `reward.gail`, always the same keys if there are demonstrations.

    Raises:
        UserError: as `trainer.convert.signals.learned`.
    """
    values = entry["signals"].get("gail")
    if values is None:
        return {"demos": None}
    return {
        "demos": values["demo_path"],
        **learned("gail", entry, left),
        "reward_type": "positive",
        "use_actions": values["use_actions"],
        # ML-Agents has constants in place of keys for these: the largest reward is -log(1e-7).
        "gradient_penalty": 10.0,
        "bound": 16.1,
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
    }


FOR_EVER = 10**12
"""More samples than any run has: over them, a weight that falls to 0 hardly falls."""
_STRENGTH = (
    "strength is the weight of the cloning loss beside the algorithm's, not the learning rate of an optimizer of its "
    "own: see cloning/loss in TensorBoard, and change it if need be"
)
