"""Arrays of numbers, made of nested lists from a client: types and lengths are checked before an array is made.

An array that numpy makes of unchecked lists may be of text, as wide as its longest one: gigabytes, of a small request.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import numpy as np

from envs.spec import Array, UserError

LONGEST_NAME = 200
"""How many characters of a client's own text a message repeats."""


def numbers(sent: Any, field: str, shape: tuple[int, ...], booleans: bool = False) -> Array:
    """Returns (N, *shape) float64; UserError if there is anything but numbers (or booleans) in that shape."""
    wanted = f"{field} must be numbers of shape {shape_words(shape)}, N rows"
    types = {int, float, bool} if booleans else {int, float}
    sizes = (len(sent) if isinstance(sent, list) else 0, *shape)
    values = [sent]
    for size in sizes:
        if not values or set(map(type, values)) - {list} or set(map(len, values)) - {size}:
            raise UserError(f"{_fault(sent, field, sizes, types)}: {wanted}")
        values = list(chain.from_iterable(values))
    if not values or not types.issuperset(map(type, values)):
        raise UserError(f"{_fault(sent, field, sizes, types)}: {wanted}")
    try:
        return np.array(values, np.float64).reshape(sizes)
    except OverflowError as error:
        raise UserError(f"{field} cannot be read ({error}): {wanted}") from error


def refuse_values(array: Array, wrong: Array, field: str, right: str) -> None:
    """Raises a UserError that names the first value of an array that is `wrong` (bool, of the array's shape)."""
    if wrong.any():
        first = int(wrong.argmax())
        place = _place(first, wrong.shape)
        raise UserError(f"{field}{place} is {array.flat[first]:.10g}: only {right} will do")


def shape_words(shape: tuple[int, ...]) -> str:
    """Returns the shape of N rows, as messages show it."""
    return f"[{', '.join(map(str, ('N', *shape)))}]"


def kind(value: Any) -> str:
    """Returns what sort of JSON value this is."""
    kinds = {dict: "an object", list: "an array", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def shown(value: Any) -> str:
    """Returns a value as JSON, cut short; what holds others by its kind alone."""
    if isinstance(value, (dict, list)):
        return kind(value)
    text = json.dumps(value[:40] if isinstance(value, str) else value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def cut(name: object) -> str:
    """Returns a name of a client's or of a model file, cut short, in characters that can be printed and encoded."""
    text = str(name)
    text = text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _fault(sent: Any, field: str, sizes: tuple[int, ...], types: set[type]) -> str:
    """Returns why nested lists are not numbers of these sizes: a value that is no number, else a wrong length."""
    if odd := _odd(sent, types):
        place, value = odd
        return f"{field}{place} is {shown(value)}"
    first, seen = sent, list[int]()
    while isinstance(first, list) and len(seen) <= len(sizes):
        seen.append(len(first))
        first = first[0] if first else None
    if tuple(seen) != sizes or 0 in seen:
        return f"{field} has shape {seen}"
    values, depth = [sent], 0
    while all(isinstance(value, list) and len(value) == sizes[depth] for value in values):
        values, depth = list(chain.from_iterable(values)), depth + 1
        if depth == len(sizes):
            break
    lengths = [len(value) if isinstance(value, list) else None for value in values]
    right = sizes[depth] if depth < len(sizes) else None
    i = next(i for i, length in enumerate(lengths) if length != right)
    words = kind(values[i]) if None in (lengths[i], right) else f"{lengths[i]} long, not {right}"
    return f"{field} cannot be read ({field}{_place(i, sizes[:depth])} is {words})"


def _odd(sent: Any, types: set[type]) -> tuple[str, Any] | None:
    """Returns the first value in nested lists, however deep, that is of none of the types, and its place."""
    path, waiting = [-1], [iter((sent,))]
    while waiting:
        for value in waiting[-1]:
            path[-1] += 1
            if isinstance(value, list):
                waiting.append(iter(value))
                path.append(-1)
                break
            if type(value) not in types:
                return "".join(f"[{i}]" for i in path[1:]), value
        else:
            waiting.pop()
            path.pop()
    return None


def _place(index: int, sizes: tuple[int, ...]) -> str:
    return "".join(f"[{i}]" for i in np.unravel_index(index, sizes))
