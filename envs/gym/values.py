"""What an env returns from `reset` and `step`, checked: a mistake is named, and not taken for bad luck."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.spec import UserError


class WrongValue(UserError):
    """An env gave what its spaces or Gymnasium's interface do not allow, or what nothing can be learned from."""


def number(value: Any, what: str) -> float:
    """Returns `value` as a float: a number of any kind, or an array of one; infinity where it is too large.

    Raises WrongValue, which says `what` it is, for anything else.
    """
    try:
        if isinstance(value, (int, float, np.integer, np.floating, np.bool_)):
            return float(value)
        one = np.asarray(value)
        if one.size == 1 and one.dtype.kind in "biuf":
            return float(one.item())
    except OverflowError:  # an int of hundreds of digits
        return float("inf") if value > 0 else float("-inf")
    except ValueError:  # what numpy makes no array of
        one = np.zeros(0)
    raise WrongValue(f"{what} is {shortened(value)}, where one number is right")


def reset_result(result: Any) -> tuple[Any, Mapping[str, Any]]:
    """Returns what `reset` gave: observation and info; WrongValue if it is not these two."""
    if type(result) is not tuple or len(result) != 2:
        raise WrongValue(f"reset() returned {_described(result)}; right is (observation, info)")
    return result[0], _info(result[1], "reset()")


def step_result(result: Any) -> tuple[Any, Any, Any, Any, Mapping[str, Any]]:
    """Returns what `step` gave; WrongValue if it is not observation, reward, terminated, truncated and info."""
    if type(result) is not tuple or len(result) != 5:
        raise WrongValue(
            f"step() returned {_described(result)}; right is (observation, reward, terminated, truncated, info)"
        )
    observation, reward, terminated, truncated, info = result
    return observation, reward, terminated, truncated, _info(info, "step()")


def ended(value: Any, name: str) -> bool:
    """Returns `terminated` or `truncated` as a bool; WrongValue if it is not one value that is true or false."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    try:
        return bool(number(value, name))
    except WrongValue:
        raise WrongValue(f"{name} is {shortened(value)}, where True or False is right") from None


def finite_reward(value: Any) -> float:
    """Returns a reward as a float; WrongValue if it is not one finite number."""
    reward = value if type(value) is float else number(value, "the reward")
    if not -_LARGEST <= reward <= _LARGEST:
        raise WrongValue(f"the reward is {reward}, where only finite numbers can be learned from")
    return reward


def duration_seconds(value: Any) -> float:
    """Returns the `duration` of an `info`; WrongValue if it is not seconds, 0 or more."""
    seconds = value if type(value) is float else number(value, "info['duration'], the seconds that a step lasts,")
    if not 0.0 <= seconds < math.inf:
        raise WrongValue(f"info['duration'] is {shortened(value)}; it has to be seconds, 0 or more")
    return seconds


def shortened(value: Any) -> str:
    """Returns how a value looks, in one line of at most 100 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # of the user's class, or an int of more digits than Python writes
        text = f"of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _info(info: Any, whose: str) -> Mapping[str, Any]:
    if type(info) is not dict and not isinstance(info, Mapping):
        raise WrongValue(f"the info of {whose} is {shortened(info)}, where a dict is right")
    checked: Mapping[str, Any] = info
    return checked


def _described(result: Any) -> str:
    if isinstance(result, tuple):
        return f"{len(result)} values"
    shape = f" of shape {list(result.shape)}" if isinstance(result, np.ndarray) else ""
    return f"{type(result).__name__}{shape}"


_SHOWN = 100
_LARGEST = float(np.finfo(np.float32).max)
