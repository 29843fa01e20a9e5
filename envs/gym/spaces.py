"""Actions of a spec as those of a Gymnasium space, and back; and what an `info` holds: masks and numbers.

Shapes: C continuous actions, B discrete branches, A mask entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.gym.observations import Space, refusal
from envs.gym.values import WrongValue, number, shortened
from envs.spec import Array, UserError

Build = Callable[[Array, Array], Any]
"""Makes an action, or one part of it, from rows (C,) and (B,)."""
Read = Callable[[Any, Array, Array], None]
"""Puts one part of an action into rows (C,) and (B,)."""

MOST_CHOICES = 2**20
"""A policy may choose among so many, all its branches together: each takes a row of weights, and a mask entry."""


class ActionCodec:
    """Turns one row of continuous and discrete actions into an action of `space`, and back.

    Box gives continuous actions, [-1, 1] clipped and scaled to its bounds; Discrete one branch; MultiDiscrete a branch
    for each entry; MultiBinary branches of two. Dict and Tuple are taken in their order.

    Raises:
        UserError: a space of another kind, a Box without bounds, or no action at all.
    """

    def __init__(self, space: Space) -> None:
        self.continuous_size = 0
        self.branches: tuple[int, ...] = ()
        self._readers: list[Read] = []
        self.decode = self._builder(space, "action space", ())
        """Returns the action for rows `continuous` (C,) float32 and `discrete` (B,) int32."""
        if sum(self.branches) > MOST_CHOICES or self.continuous_size > MOST_CHOICES:
            raise UserError(
                f"The action space is too large: it has {sum(self.branches):,} discrete choices and "
                f"{self.continuous_size:,} continuous actions, and at most {MOST_CHOICES:,} of each are served. A "
                "choice among very many can be made in several smaller ones (MultiDiscrete), or as a number (Box)."
            )
        if not self.continuous_size and not self.branches:
            raise UserError(f"The action space is empty: {space}. An agent needs at least one action.")

    def encode(self, action: Any) -> tuple[Array, Array]:
        """Returns the rows (C,) float32, clipped to [-1, 1], and (B,) int32 that `decode` makes `action` from.

        Raises:
            ValueError: the action is not one of the space: a part is missing, of another shape, or out of range.
        """
        continuous, discrete = np.zeros(self.continuous_size, np.float32), np.zeros(len(self.branches), np.int32)
        try:
            for read in self._readers:
                read(action, continuous, discrete)
        except (TypeError, KeyError, IndexError) as error:
            raise ValueError(f"it has not the action space's parts ({error!r})") from error
        return continuous, discrete

    def _builder(self, space: Space, where: str, path: tuple[Any, ...]) -> Build:
        if isinstance(space, spaces.Dict):
            members = {key: self._builder(sub, f"{where}[{key!r}]", (*path, key)) for key, sub in space.spaces.items()}
            return lambda c, d: {key: build(c, d) for key, build in members.items()}
        if isinstance(space, spaces.Tuple):
            builders = [self._builder(sub, f"{where}[{i}]", (*path, i)) for i, sub in enumerate(space.spaces)]
            return lambda c, d: tuple(build(c, d) for build in builders)
        if isinstance(space, spaces.Box):
            start = self.continuous_size
            self.continuous_size += math.prod(space.shape)
            build, read = _box_codec(space, where, path, slice(start, self.continuous_size))
            self._readers.append(read)
            return build
        first = len(self.branches)
        if isinstance(space, spaces.Discrete):
            counts, offset = np.array([space.n]), np.asarray(space.start)
        elif isinstance(space, spaces.MultiDiscrete):
            counts, offset = space.nvec, np.asarray(space.start)
        elif isinstance(space, spaces.MultiBinary):
            counts, offset = np.full(space.shape, 2), np.zeros(space.shape, np.int64)
        else:
            raise refusal(space, where)
        self._readers.append(_choice_reader(where, path, first, counts, offset))
        self.branches += tuple(int(count) for count in counts.flat)
        if sum(self.branches) > MOST_CHOICES:
            return lambda c, d: None  # refused once all parts are counted
        if isinstance(space, spaces.Discrete):
            choices = [np.int64(space.start + choice) for choice in range(int(space.n))]
            return lambda c, d: choices[d[first]]
        stop, shape, dtype = len(self.branches), space.shape, space.dtype
        return lambda c, d: (d[first:stop].reshape(shape) + offset).astype(dtype)


def write_mask(mask: Any, branches: tuple[int, ...], row: Array) -> None:
    """Puts an `action_mask` of `info` into `row` (A,) bool: one array over all choices, or one for each branch.

    Raises WrongValue if it holds no numbers, its size differs from `branches`, or a branch is left without a choice.
    """
    several = isinstance(mask, (tuple, list)) and len(mask) > 0 and np.ndim(mask[0]) > 0
    flat = np.concatenate([np.ravel(part) for part in mask]) if several else np.ravel(mask)
    if flat.dtype.kind not in "biuf":
        raise WrongValue(f"action_mask is {shortened(mask)}, where a number or bool for each choice is right")
    if len(flat) != sum(branches):
        raise WrongValue(f"action_mask has {len(flat)} entries; branches {list(branches)} need {sum(branches)}")
    row[...] = flat
    starts = np.cumsum((0, *branches[:-1]))
    allowed = np.logical_or.reduceat(row, starts)
    if not allowed.all():
        raise WrongValue(f"action_mask allows nothing in branch {int(np.argmin(allowed))}: at least one choice must be")


def _box_codec(space: spaces.Box, where: str, path: tuple[Any, ...], part: slice) -> tuple[Build, Read]:
    """Returns what makes a Box's action from a slice of continuous actions, and what reads it back."""
    if not space.is_bounded("both"):
        raise UserError(
            f"The {where} is {space}: a continuous action needs finite bounds on both sides. "
            "Bound it by a wrapper (env.wrappers), or in the environment itself."
        )
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    centre, half = high / 2 + low / 2, high / 2 - low / 2  # a sum of the largest numbers would be infinite
    divisor = np.where(high > low, half, 1.0).ravel()  # where both are one number, any action means it
    shape, dtype = space.shape, space.dtype
    whole = np.issubdtype(dtype, np.integer) or dtype == np.bool_

    def build(continuous: Array, discrete: Array) -> Any:
        unit = np.minimum(np.maximum(continuous[part], -1.0), 1.0).reshape(shape)
        scaled = centre + half * unit
        return (np.rint(scaled) if whole else scaled).astype(dtype)

    def read(action: Any, continuous: Array, discrete: Array) -> None:
        value = np.asarray(follow(action, path), np.float64)
        if value.size != low.size or not np.isfinite(value).all():
            raise ValueError(f"the {where} takes {low.size} finite numbers, not {value.tolist()}")
        continuous[part] = np.clip((value.ravel() - centre.ravel()) / divisor, -1, 1)

    return build, read


def _choice_reader(where: str, path: tuple[Any, ...], first: int, counts: Array, offset: Array) -> Read:
    """Reads one choice for each of `counts`, from branch `first` on; values count from `offset`."""
    most = counts.ravel() - 1

    def read(action: Any, continuous: Array, discrete: Array) -> None:
        value = np.asarray(follow(action, path))
        fits = value.size == len(most) and value.dtype.kind in "iub"
        choices = value.ravel() - np.ravel(offset) if fits else most + 1
        if not ((choices >= 0) & (choices <= most)).all():
            lowest = np.broadcast_to(np.ravel(offset), most.shape)
            right = " and ".join(f"{low}..{low + count}" for low, count in zip(lowest.tolist(), most.tolist()))
            raise ValueError(f"the {where} takes {right}, not {value.tolist()}")
        discrete[first : first + len(most)] = choices

    return read


def follow(observation: Any, path: Sequence[Any]) -> Any:
    """Returns the part of `observation` at the end of `path`."""
    for key in path:
        observation = observation[key]
    return observation


def scalar_metrics(info: Mapping[str, Any]) -> dict[str, float]:
    """Returns the plain numbers in an `info`, without `duration`; what is too large for a float is infinite.

    Keys that are no text, or hold what cannot be written, become some that can be.
    """
    return {
        key if type(key) is str and key.isprintable() and len(key) <= _LONGEST_KEY else _written(key): number(value, "")
        for key, value in info.items()
        if key != "duration" and isinstance(value, (int, float, np.integer, np.floating, np.bool_))
    }


def _written(key: Any) -> str:
    """Returns a name for a key of an `info`."""
    text = key if isinstance(key, str) else shortened(key)
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:_LONGEST_KEY])


_LONGEST_KEY = 200
