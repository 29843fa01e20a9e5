"""Which settings may change when a run is resumed."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from copy import deepcopy
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf

from envs.spec import UserError
from trainer.config.aliases import current_key, is_old, without_behavior
from trainer.config.files import resolve_files

MAY_DIFFER = (
    "stop",
    "checkpoint",
    "cluster",
    "device",
    "learners",
    "env.instances",
    "env.min_instances",
    "env.parameters",
    "run.log_samples",
    "run.log_seconds",
    "run.loggers",
    "run.picture_minutes",
    "run.profile",
    "trust",
    "resume",
)
"""The keys that may change, and all below them; all others stay as the run was started."""
MAY_MOVE = ("reward.gail.demos", "algorithm.cloning.demos", "algorithm.demos")
"""Paths, also those of a behavior, that may change if the run has them, because files move."""


def resumed(saved: DictConfig, folder: str, overrides: Sequence[Override], paths: Collection[str]) -> DictConfig:
    """Returns the configuration `saved` of the run in `folder` with what `overrides` change; `paths` are keys of paths.

    Raises:
        UserError: an override changes what must stay as it is.
        OmegaConfBaseException: unknown keys and wrong values.
    """
    node = deepcopy(saved)
    for override in overrides:
        key = override.get_key_element().lstrip("+")
        if key in saved.run.choices or key == "experiment":
            before, given = saved.run.choices.get(key), override.value()
        else:
            parent, _, last = key.rpartition(".")
            if is_old(key) and last not in (OmegaConf.select(saved, parent) or ()):
                key = current_key(key)
            OmegaConf.update(node, key, override.value())
            resolve_files(node)
            before, given = OmegaConf.select(saved, key), OmegaConf.select(node, key)
            if key in paths and isinstance(given, str):
                given = os.path.expanduser(given)
        if before != given and not _may_be_given(key, before, given):
            raise UserError(
                f"{key}={_text(given)}: the run in {folder} was started with {key}={_text(before)}. A resumed run may "
                f"only be given {', '.join(MAY_DIFFER[:-2])}, and new paths of its demonstrations; a new run can start "
                f"from its weights with init={folder}"
            )
    node.resume = folder
    return node


def _may_be_given(key: str, before: Any, given: Any) -> bool:
    """Returns whether a run that was started with `before` may be resumed with another value."""
    if any(key == k or key.startswith(f"{k}.") for k in MAY_DIFFER):
        return True
    if without_behavior(key).startswith("stop."):
        return True
    return without_behavior(key) in MAY_MOVE and isinstance(before, str) and isinstance(given, str)


def _text(value: Any) -> str:
    if isinstance(value, (DictConfig, ListConfig)):
        return str(OmegaConf.to_container(value))
    if value is None:
        return "null"
    return getattr(value, "name", str(value))
