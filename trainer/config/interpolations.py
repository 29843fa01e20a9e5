"""Interpolations, such as `${oc.env:HOME}`: resolved for a run, but saved and shown as they were written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf

_BEGIN = "${"


def interpolations(values: Any) -> dict[Any, Any]:
    """Returns what dicts and lists hold of interpolations: by key or place, at each level."""
    entries = values.items() if isinstance(values, Mapping) else enumerate(values)
    found: dict[Any, Any] = {}
    for key, value in entries:
        if isinstance(value, str) and _BEGIN in value:
            found[key] = value
        elif isinstance(value, (Mapping, list)) and (below := interpolations(value)):
            found[key] = below
    return found


def unresolved(node: DictConfig | ListConfig) -> Any:
    """Returns what a node holds with the interpolations of single values as they are written.

    Those of whole dicts and lists are followed.
    """
    keys: Any = list(node) if isinstance(node, DictConfig) else range(len(node))
    plain: Any = OmegaConf.to_container(node, resolve=False, enum_to_str=True)
    if not isinstance(plain, (dict, list)):  # an interpolation itself
        return plain
    for key in keys:
        if not OmegaConf.is_missing(node, key) and isinstance(child := node[key], (DictConfig, ListConfig)):
            plain[key] = unresolved(child)
    return plain


def with_interpolations(values: Any, found: Any) -> Any:
    """Returns resolved values with all that `interpolations` has found in place of what they were resolved to."""
    if isinstance(found, str):
        return found
    if isinstance(values, Mapping):
        return {key: with_interpolations(value, found.get(key, {})) for key, value in values.items()}
    if isinstance(values, list):
        return [with_interpolations(value, found.get(place, {})) for place, value in enumerate(values)]
    return values


def as_text(values: Any) -> Any:
    """Returns values in which nothing is resolved: interpolations stand for themselves."""
    if isinstance(values, str):
        return re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + "\\${", values)
    if isinstance(values, Mapping):
        return {key: as_text(value) for key, value in values.items()}
    if isinstance(values, list):
        return [as_text(value) for value in values]
    return values


def without_text(values: Mapping[Any, Any], schema: DictConfig) -> dict[Any, Any]:
    """Returns the values without interpolations as text where `schema` wants numbers and the like."""
    kind = OmegaConf.get_type(schema)
    kinds = get_type_hints(kind) if is_dataclass(kind) else {}
    kept = {}
    for key, value in values.items():
        child = None if key not in schema or OmegaConf.is_missing(schema, key) else schema[key]
        if isinstance(value, Mapping) and isinstance(child, DictConfig):
            kept[key] = without_text(value, child)
        elif _takes_text(kinds.get(key, Any)) or not interpolations([value]):
            kept[key] = value
    return kept


def _takes_text(kind: Any) -> bool:
    """Returns whether a value of a type may be a string, or hold strings."""
    parts = get_args(kind)
    if get_origin(kind) is dict:
        parts = parts[1:]  # of the values alone
    return kind in (Any, str) or any(map(_takes_text, parts))
