"""Fields of settings: where a range stands beside its field, and the one walker that checks all of them.

Settings are dataclasses. `setting(3e-4, above=0)` is a field with a range; `path_field()` is one that takes any string.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any

from envs.spec import UserError


def setting(
    default: Any = MISSING,
    *,
    default_factory: Callable[[], Any] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Returns a field whose value, or each element of a list, lies within a range; None is always allowed."""
    range_ = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata = {"range": {key: bound for key, bound in range_.items() if bound is not None}}
    if default_factory is not None:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def path_field(default: Any = None) -> Any:
    """Returns a field, null by default, that takes any string on the command line without quotes for Hydra."""
    return field(default=default, metadata={"path": True})


def check_ranges(settings: Any, prefix: str = "") -> None:
    """Checks the values of a dataclass, and of those within it, against the ranges beside their fields.

    `prefix` is where the settings stand in the configuration, without a dot behind it.

    Raises:
        UserError: a value is out of its range, NaN, or infinite.
    """
    for each in fields(settings):
        value = getattr(settings, each.name)
        key = f"{prefix}.{each.name}" if prefix else each.name
        if is_dataclass(value):
            check_ranges(value, key)
        elif isinstance(value, dict):
            for name, element in value.items():
                if is_dataclass(element):
                    check_ranges(element, f"{key}.{name}")
        elif isinstance(value, list):
            for i, element in enumerate(value):
                _check(f"{key}[{i}]", element, each.metadata.get("range"))
        else:
            _check(key, value, each.metadata.get("range"))


def _check(key: str, value: Any, range_: dict[str, float] | None) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if range_ and not all(_COMPARISONS[name](value, bound) for name, bound in range_.items()):
        raise UserError(f"{key}={value} must {_described(range_)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value} must be a finite number")


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "at_least": lambda value, bound: value >= bound,
    "above": lambda value, bound: value > bound,
    "at_most": lambda value, bound: value <= bound,
    "below": lambda value, bound: value < bound,
}


def _described(range_: dict[str, float]) -> str:
    if range_.keys() == {"at_least", "at_most"}:
        return f"lie between {range_['at_least']} and {range_['at_most']}"
    if range_.keys() == {"above", "below"}:
        return f"lie between {range_['above']} and {range_['below']}, both excluded"
    return "be " + " and ".join(f"{name.replace('_', ' ')} {bound}" for name, bound in range_.items())
