"""Gymnasium spaces both ways: observations into arrays of a spec, actions of a spec into an environment's own.

Shapes: C continuous actions, B discrete branches, A mask entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from envs.spec import Array, ObservationSpec, UserError, channels_first

Space = spaces.Space[Any]
Write = Callable[[Any, Array], None]
"""Puts one part of an observation into a row (*shape)."""
Build = Callable[[Array, Array], Any]
"""Makes an action, or one part of it, from rows (C,) and (B,)."""
Read = Callable[[Any, Array, Array], None]
"""Puts one part of an action into rows (C,) and (B,)."""


_LARGEST_PIXEL = 65_535
"""The brightest pixel of 16 bits. Larger bounds, such as the largest float, say nothing about pixels."""


class ObservationPart(NamedTuple):
    """One array of the spec: where it comes from in the env's observation, and how it gets into a row."""

    spec: ObservationSpec
    path: tuple[Any, ...]
    """Keys and indices that lead from the whole observation to this part."""
    write: Write


def observation_parts(space: Space, prepare_images: bool = True) -> tuple[ObservationPart, ...]:
    """Returns the arrays that `space` is split into: Dict and Tuple are flattened in order; the rest is one array each.

    Box stays uint8 where it is uint8 (scaled by 1 / high) and becomes float32 elsewhere; Discrete and MultiDiscrete
    become one-hot uint8; MultiBinary stays uint8.

    What has three axes is an image, and what has four is stacked images, the first axis being the stack. Those become
    one image whose channels are those of the first frame, then those of the next: of frames (H, W, C), channel
    `k * C + c` is channel `c` of frame `k`. Pixels of bool become uint8. Others that are no uint8 are scaled by the
    larger of their bounds' magnitudes, to [0, 1] or [-1, 1], unless they have no bounds, or none of a pixel.

    Args:
        space: an observation space.
        prepare_images: whether the last paragraph holds; it did not in earlier versions.

    Raises:
        UserError: a space of another kind; the message names it by its path.
    """
    parts = [_observation_part(*leaf, prepare_images) for leaf in _leaves(space, (), "observation space")]
    if not parts:
        raise UserError(f"The observation space is empty: {space}. It needs at least one array.")
    return tuple(parts)


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
            raise _refusal(space, where)
        self._readers.append(_choice_reader(where, path, first, counts, offset))
        self.branches += tuple(int(count) for count in counts.flat)
        if isinstance(space, spaces.Discrete):
            choices = [np.int64(space.start + choice) for choice in range(int(space.n))]
            return lambda c, d: choices[d[first]]
        stop, shape, dtype = len(self.branches), space.shape, space.dtype
        return lambda c, d: (d[first:stop].reshape(shape) + offset).astype(dtype)


def write_mask(mask: Any, branches: tuple[int, ...], row: Array) -> None:
    """Puts an `action_mask` of `info` into `row` (A,) bool: one array over all choices, or one for each branch.

    Raises ValueError if the sizes differ from `branches`, or a branch is left without a choice.
    """
    several = isinstance(mask, (tuple, list)) and np.ndim(mask[0]) > 0
    flat = np.concatenate([np.ravel(part) for part in mask]) if several else np.ravel(mask)
    if len(flat) != sum(branches):
        raise ValueError(f"action_mask has {len(flat)} entries; branches {list(branches)} need {sum(branches)}")
    row[...] = flat
    starts = np.cumsum((0, *branches[:-1]))
    allowed = np.logical_or.reduceat(row, starts)
    if not allowed.all():
        raise ValueError(f"action_mask allows nothing in branch {int(np.argmin(allowed))}: at least one choice must be")


def _leaves(space: Space, path: tuple[Any, ...], where: str) -> Iterator[tuple[Space, tuple[Any, ...], str]]:
    """Returns the parts of a space that hold no others, with their paths, as keys and in words."""
    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        yield space, path, where
        return
    members: Iterable[tuple[Any, Space]]
    members = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
    for key, sub in members:
        yield from _leaves(sub, (*path, key), f"{where}[{key!r}]")


def _observation_part(space: Space, path: tuple[Any, ...], where: str, prepare_images: bool) -> ObservationPart:
    name = "/".join(str(key) for key in path) or "observation"
    shape: tuple[int, ...] = space.shape or (1,)
    image = prepare_images and len(shape) in (3, 4)
    dtype, scale = "uint8", 1.0
    write: Write = _copy
    if isinstance(space, spaces.Box):
        if space.dtype == np.uint8:
            scale = 1.0 / max(int(space.high.max(initial=1)), 1)
        elif space.dtype != np.bool_ or not image:
            dtype, scale = "float32", _pixel_scale(space) if image else 1.0
    elif isinstance(space, spaces.Discrete):
        shape, write = (int(space.n),), _one_hot(np.zeros(1, np.int64), np.asarray([space.start]))
    elif isinstance(space, spaces.MultiDiscrete):
        counts = space.nvec.ravel()
        shape, write = (int(counts.sum()),), _one_hot(np.cumsum(counts) - counts, np.ravel(space.start))
    elif not isinstance(space, spaces.MultiBinary):
        raise _refusal(space, where)
    if image and len(shape) == 4:
        shape, write = _merged(shape)
    return ObservationPart(ObservationSpec(name, shape, dtype, scale), path, write)


def _pixel_scale(space: spaces.Box) -> float:
    """Returns what brings the values of an image to [0, 1] or [-1, 1]; 1 without bounds, or with none of a pixel."""
    largest = float(max(np.abs(bound.astype(np.float64)).max(initial=0) for bound in (space.low, space.high)))
    return 1.0 / largest if 0 < largest <= _LARGEST_PIXEL else 1.0


def _merged(shape: tuple[int, ...]) -> tuple[tuple[int, int, int], Write]:
    """Returns the shape of stacked images (K, *frame) merged into channels, and what writes them."""
    count, first, middle, last = shape
    if channels_first(shape[1:]):
        return (count * first, middle, last), partial(_copy_merged, shape, False)
    return (first, middle, count * last), partial(_copy_merged, shape, True)


def _copy(value: Any, row: Array) -> None:
    if np.shape(value) != row.shape:
        value = _shaped(value, row.shape)
    row[...] = value


def _copy_merged(shape: tuple[int, ...], last: bool, value: Any, row: Array) -> None:
    """Writes stacked images of `shape` as one, whose channels come `last` or first."""
    frames = _shaped(value, shape)
    row[...] = (np.moveaxis(frames, 0, 2) if last else frames).reshape(row.shape)


def _shaped(value: Any, shape: tuple[int, ...]) -> Array:
    """Returns an observation in the shape that its space says; ValueError if it has not as many numbers."""
    if np.size(value) != math.prod(shape):  # numpy would repeat a smaller one without a word
        raise ValueError(f"an observation has shape {list(np.shape(value))}; its space says {list(shape)}")
    return np.reshape(value, shape)


def _one_hot(starts: Array, offset: Array) -> Write:
    """Writes one-hot groups that begin at `starts`, for values that count from `offset`."""

    def write(value: Any, row: Array) -> None:
        row[...] = 0
        row[starts + np.ravel(value) - offset] = 1

    return write


def _box_codec(space: spaces.Box, where: str, path: tuple[Any, ...], part: slice) -> tuple[Build, Read]:
    """Returns what makes a Box's action from a slice of continuous actions, and what reads it back."""
    if not space.is_bounded("both"):
        raise UserError(
            f"The {where} is {space}: a continuous action needs finite bounds on both sides. "
            "Bound it by a wrapper (env.wrappers), or in the environment itself."
        )
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    centre, half = (high + low) / 2, (high - low) / 2
    divisor = np.where(high > low, half, 1.0).ravel()  # where both are one number, any action means it
    shape, dtype = space.shape, space.dtype
    whole = np.issubdtype(dtype, np.integer)

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


def _refusal(space: Any, where: str) -> UserError:
    return UserError(
        f"The {where} is {type(space).__name__}: {space}. "
        "Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of them are served; "
        "convert it by a wrapper (env.wrappers)."
    )


def follow(observation: Any, path: Sequence[Any]) -> Any:
    """Returns the part of `observation` at the end of `path`."""
    for key in path:
        observation = observation[key]
    return observation


def scalar_metrics(info: Mapping[str, Any]) -> dict[str, float]:
    """Returns the plain numbers in an `info`, without `duration`."""
    return {
        key: float(value)
        for key, value in info.items()
        if key != "duration" and isinstance(value, (int, float, np.integer, np.floating, np.bool_))
    }
