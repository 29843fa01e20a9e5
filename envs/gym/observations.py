"""Observations of Gymnasium spaces as arrays of a spec. What lies outside its space is refused, not changed.

A check costs next to nothing where it can: a byte that numpy did not have to convert is what it was, and one number
that is not finite makes a sum of squares that is not finite. Which number it was is looked for only then.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from envs.gym.sequences import entities_spec, entities_writer
from envs.gym.values import WrongValue, shortened
from envs.spec import Array, ObservationSpec, UserError, channels_first

Space = spaces.Space[Any]
Write = Callable[[Any, Array], None]
"""Puts one part of an observation into a row (*shape); WrongValue if its space does not hold it."""
Arrange = Callable[[Array], Array]
"""Brings an array of a space's shape into that of its row."""

LARGEST_BYTES = 2**28
"""An observation of one instance may take so much, all its parts together: rows hold thousands of them."""

_LARGEST_PIXEL = 65_535
"""The brightest pixel of 16 bits. Larger bounds, such as the largest float, say nothing about pixels."""

# What does not fit is refused below by name; numpy's own words would only come before it.
warnings.filterwarnings("ignore", ".* encountered in cast", RuntimeWarning, r"envs\.gym\.(observations|sequences)")


class ObservationPart(NamedTuple):
    """One array of the spec: where it comes from in the env's observation, and how it gets into a row."""

    spec: ObservationSpec
    path: tuple[Any, ...]
    """Keys and indices that lead from the whole observation to this part."""
    write: Write


def observation_parts(
    space: Space, prepare_images: bool = True, max_entities: int | None = None
) -> tuple[ObservationPart, ...]:
    """Returns the arrays that `space` is split into: Dict and Tuple are flattened in order; the rest is one array each.

    Box stays uint8 where it is uint8 (scaled by 1 / high) and becomes float32 elsewhere; Discrete and MultiDiscrete
    become one-hot uint8; MultiBinary stays uint8; a Sequence of Box becomes a set of entities. What holds no number is
    left out. Two parts whose keys make the same name are numbered.

    What has three axes is an image, and what has four is stacked images, the first axis being the stack. Those become
    one image whose channels are those of the first frame, then those of the next: of frames (H, W, C), channel
    `k * C + c` is channel `c` of frame `k`. Pixels of bool become uint8. Others that are no uint8 are scaled by the
    larger of their bounds' magnitudes, to [0, 1] or [-1, 1], unless they have no bounds, or none of a pixel. A vector
    of uint8 with several highs, which one scale would not suit, becomes float32, so that networks normalize each entry.

    Args:
        space: an observation space.
        prepare_images: whether the last paragraph holds; it did not in earlier versions.
        max_entities: how many elements a Sequence has at most.

    Raises:
        UserError: a space of another kind, or one that is too large; the message names it by its path.
    """
    parts: list[ObservationPart] = []
    size = 0
    for leaf, path, where in _leaves(space, (), "observation space"):
        name, arrange = _name(path, {part.spec.name for part in parts}), None
        if isinstance(leaf, spaces.Sequence):
            spec = entities_spec(leaf, name, where, max_entities)
        else:
            spec, arrange = _spec(leaf, name, where, prepare_images)
        if 0 in spec.shape:  # holds nothing
            continue
        size += math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
        if size > LARGEST_BYTES:
            raise UserError(
                f"The {where} is {shortened(leaf)}: with it an observation takes {size / 2**20:,.0f} MiB, and at most "
                f"{LARGEST_BYTES >> 20} MiB are served. Make it smaller by a wrapper (env.wrappers); a choice among "
                "very many (Discrete) can be a number or its digits (Box)."
            )
        parts.append(ObservationPart(spec, path, _writer(leaf, spec, arrange)))
    if not parts:
        raise UserError(f"The observation space is empty: {space}. It needs at least one array.")
    return tuple(parts)


def _leaves(space: Space, path: tuple[Any, ...], where: str) -> Iterator[tuple[Space, tuple[Any, ...], str]]:
    """Returns the parts of a space that hold no others, with their paths, as keys and in words."""
    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        yield space, path, where
        return
    members: Iterable[tuple[Any, Space]]
    members = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
    for key, sub in members:
        yield from _leaves(sub, (*path, key), f"{where}[{key!r}]")


def _name(path: tuple[Any, ...], taken: set[str]) -> str:
    """Returns a name of the keys in `path` that is not among those `taken`."""
    name = "/".join(str(key) for key in path) or "observation"
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    return unique


def _spec(space: Space, name: str, where: str, prepare_images: bool) -> tuple[ObservationSpec, Arrange | None]:
    """Returns how a part is laid out, and what brings its values into that shape, if they have another."""
    if not isinstance(space, spaces.Space):
        raise refusal(space, where)
    shape: tuple[int, ...] = space.shape or (1,)
    image = prepare_images and len(shape) in (3, 4)
    dtype, scale = "uint8", 1.0
    if isinstance(space, spaces.Box):
        one_high = space.dtype == np.uint8 and bool((space.high == space.high.max(initial=0)).all())
        if space.dtype == np.uint8 and (image or not prepare_images or one_high):
            scale = 1.0 / max(int(space.high.max(initial=1)), 1)
        elif space.dtype != np.bool_ or not image:
            dtype, scale = "float32", _pixel_scale(space) if image else 1.0
    elif isinstance(space, spaces.Discrete):
        shape = (int(space.n),)
    elif isinstance(space, spaces.MultiDiscrete):
        shape = (sum(map(int, space.nvec.flat)),)
    elif not isinstance(space, spaces.MultiBinary):
        raise refusal(space, where)
    arrange = None
    if image and len(shape) == 4:
        shape, arrange = _merged(shape)
    return ObservationSpec(name, shape, dtype, scale), arrange


def _pixel_scale(space: spaces.Box) -> float:
    """Returns what brings the values of an image to [0, 1] or [-1, 1]; 1 without bounds, or with none of a pixel."""
    largest = float(max(np.abs(bound.astype(np.float64)).max(initial=0) for bound in (space.low, space.high)))
    return 1.0 / largest if 0 < largest <= _LARGEST_PIXEL else 1.0


def _merged(shape: tuple[int, ...]) -> tuple[tuple[int, int, int], Arrange]:
    """Returns the shape of stacked images (K, *frame) merged into channels, and what merges them."""
    count, first, middle, last = shape
    merged = (first, middle, count * last)
    if channels_first(shape[1:]):
        merged = (count * first, middle, last)
        return merged, lambda frames: frames.reshape(merged)
    return merged, lambda frames: np.moveaxis(frames, 0, 2).reshape(merged)


def _writer(space: Space, spec: ObservationSpec, arrange: Arrange | None) -> Write:
    if isinstance(space, spaces.Sequence):
        return entities_writer(space, spec)
    if isinstance(space, spaces.Discrete):
        return _one_choice(space, spec.name)
    if isinstance(space, spaces.MultiDiscrete):
        return _choices(space, spec.name)
    return (_numbers if spec.dtype == "float32" else _bytes)(space, spec.name, arrange)


def _numbers(space: Space, name: str, arrange: Arrange | None) -> Write:
    """Writes numbers of any kind as float32. Bounds are not checked: a number beyond them is learned from as it is."""
    shape = space.shape or (1,)

    def write(value: Any, row: Array) -> None:
        if type(value) is not np.ndarray or value.shape != shape or value.dtype.kind not in "fiub":
            value = _array(value, shape, space, name)
        row[...] = value if arrange is None else arrange(value)
        # 0.5 us, a third of what looking at each number costs. Squares may overflow, so a closer look decides.
        if not math.isfinite(np.vdot(row, row)) and not np.isfinite(row).all():
            with np.errstate(all="ignore"):
                place = _first(~np.isfinite(value.astype(np.float32)))
            right = "where only finite numbers can be learned from"
            if np.isfinite(value[place]):
                right = f"which is too large: float32 holds numbers up to {_LARGEST:.3g}"
            raise WrongValue(f"observation {name!r} at {list(place)} is {value[place]}, {right}")

    return write


def _bytes(space: Space, name: str, arrange: Arrange | None) -> Write:
    """Writes whole numbers from 0 to 255, within the bounds of a Box, or those of bits."""
    shape = space.shape or (1,)
    low, high = (space.low, space.high) if isinstance(space, spaces.Box) else (np.uint8(0), np.uint8(1))
    lowest, highest = int(np.max(low)), int(np.min(high))
    # A byte of these kinds that numpy converts stays what it was, or lies above the bounds.
    safe = {np.dtype(np.uint8), np.dtype(np.bool_)} | ({np.dtype(np.int8)} if int(np.max(high)) < 128 else set())
    low_row, high_row = (bound if np.ndim(bound) == 0 else bound.reshape(shape) for bound in (low, high))
    if arrange is not None and np.ndim(low):
        low_row, high_row = arrange(low_row), arrange(high_row)

    def write(value: Any, row: Array) -> None:
        if type(value) is not np.ndarray or value.shape != shape or value.dtype.kind not in "uibf":
            value = _array(value, shape, space, name)
        arranged = value if arrange is None else arrange(value)
        row[...] = arranged
        if (
            (value.dtype not in safe and np.count_nonzero(row != arranged))
            or (highest < 255 and np.count_nonzero(row > high_row))
            or (lowest > 0 and np.count_nonzero(row < low_row))
        ):
            with np.errstate(all="ignore"):
                outside = (value != value.astype(np.uint8)) | (value < low) | (value > high)
            place = _first(outside)
            seen = value[place]
            hint = ""
            if value.dtype.kind == "f" and 0 < seen < 1:
                hint = f". If images are normalized, the space has to say so: Box(0, 1, {shape}, np.float32)"
            raise _wrong(name, place, seen, space, f"whole numbers from {lowest} to {highest} are right{hint}")

    return write


def _one_choice(space: spaces.Discrete, name: str) -> Write:
    """Writes one choice as a one-hot row."""
    start, count = int(space.start), int(space.n)

    def write(value: Any, row: Array) -> None:
        try:
            choice = operator.index(value) - start
        except TypeError:
            one = np.asarray(value)
            choice = int(one.item()) - start if one.size == 1 and one.dtype.kind in "iub" else -1
        if not 0 <= choice < count:
            right = f"one whole number from {start} to {start + count - 1} is right"
            raise WrongValue(f"observation {name!r} is {shortened(value)}, outside of its space {space}: {right}")
        row[...] = 0
        row[choice] = 1

    return write


def _choices(space: spaces.MultiDiscrete, name: str) -> Write:
    """Writes several choices as one-hot groups, one after another."""
    counts = space.nvec.ravel().astype(np.int64)
    starts, offset = np.cumsum(counts) - counts, np.ravel(space.start).astype(np.int64)
    limits, shifted = counts.astype(np.uint64), bool(offset.any())

    def write(value: Any, row: Array) -> None:
        seen = np.asarray(value)
        if seen.size != len(counts) or seen.dtype.kind not in "iub":
            raise WrongValue(f"observation {name!r} is {shortened(value)}, outside of its space {space}")
        choices = seen.ravel().astype(np.int64, copy=False)
        if shifted:
            choices = choices - offset
        outside = choices.view(np.uint64) >= limits  # below 0 is far above
        if np.count_nonzero(outside):
            (index,) = _first(outside)
            right = f"{offset[index]} to {offset[index] + counts[index] - 1}"
            place = np.unravel_index(index, space.shape)
            raise _wrong(name, place, seen.ravel()[index], space, f"whole numbers from {right} are right")
        row[...] = 0
        row[starts + choices] = 1

    return write


def _array(value: Any, shape: tuple[int, ...], space: Space, name: str) -> Array:
    """Returns an observation as numbers in the shape that its space says; WrongValue if it has not as many."""
    try:
        array = np.asarray(value)
    except Exception as error:  # a list of unlike parts, or an object of the user's
        raise WrongValue(f"observation {name!r} is no array: {error}; its space says {space}") from None
    if array.dtype.kind not in "biuf":
        raise WrongValue(f"observation {name!r} is {shortened(value)}, which are not numbers; its space says {space}")
    if array.size != math.prod(shape):  # numpy would repeat a smaller one without a word
        raise WrongValue(f"observation {name!r} has shape {list(array.shape)}; its space says {list(shape)}")
    return array.reshape(shape)


def _first(marks: Array) -> tuple[int, ...]:
    """Returns the first place that is true."""
    return tuple(int(i) for i in np.unravel_index(int(marks.argmax()), marks.shape))


def _wrong(name: str, place: Iterable[Any], value: Any, space: Space, right: str) -> WrongValue:
    where = [int(i) for i in place]
    return WrongValue(f"observation {name!r} at {where} is {value}, outside of its space {shortened(space)}: {right}")


def refusal(space: Any, where: str) -> UserError:
    """Returns what is said of a space of a kind that is not served."""
    return UserError(
        f"The {where} is {type(space).__name__}: {space}. "
        "Box, Discrete, MultiDiscrete, MultiBinary, Sequence of Box in observations, and Dict and Tuple of them are "
        "served; "
        "convert it by a wrapper (env.wrappers)."
    )


_LARGEST = float(np.finfo(np.float32).max)
