"""Every setting with its meaning, which stands in the docstring beside its field. Nothing here imports torch."""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from enum import Enum
from functools import cache
from typing import Any, cast, get_args, get_origin, get_type_hints

import yaml
from omegaconf import OmegaConf

from algorithms.registry import ALGORITHMS, algorithm_settings
from algorithms.rewards.registry import REWARDS, CustomSignalSettings
from envs.config import EnvConfig
from envs.registry import BUILT_IN, find_kind
from trainer.config.schema import BehaviorConfig, TrainConfig

_CALLED = {bool: "true or false", int: "integer", float: "number", str: "text"}
"""What their values are called."""
_ANY = 2**31 - 1
"""Bounds of so much or more say only what a number can hold."""


@dataclass(frozen=True)
class Setting:
    """A key that can be given to a command."""

    key: str
    """Dotted, as the command line has it."""
    kind: str
    """Its values: `integer`, `number or null`, `list of texts`, or the choices, `auto, cpu, cuda`."""
    default: str
    """As YAML has it; `???` where a value has to be given."""
    allowed: str
    """The range of its values, such as `0 to 1`; empty if there is none."""
    usual: str
    """Where good values mostly lie, such as `0.1 to 0.3`; empty if nothing is known."""
    meaning: str
    """What it does and in which unit, in one line."""
    is_path: bool = False
    """Whether it takes a path, or something else that may hold any character."""


@dataclass(frozen=True)
class Group:
    """Settings that stand together."""

    name: str
    """The key above them; `algorithm=ppo` for what only that choice has; empty for keys with none above."""
    meaning: str
    """What they are about: a sentence."""
    settings: list[Setting]


def list_settings(schema: type) -> list[Group]:
    """Returns all settings of a command by its schema, those of every built-in choice among them.

    What all choices have alike stands in a group without a choice, once.
    """
    groups = list(_groups("", schema))
    if schema is TrainConfig:
        groups += _of_choices("env", {name: find_kind(name) for name in BUILT_IN})
        algorithms = {name: algorithm_settings(name) for name in ALGORITHMS.built_in()}
        groups += _of_choices("algorithm", algorithms)
        signals = {name: REWARDS.find(name, "reward") for name in REWARDS.built_in()}
        for name, kind in {**signals, "<name>": CustomSignalSettings}.items():
            groups += _groups(f"reward.{name}", kind)
        groups += _groups("behaviors.<name>", BehaviorConfig)
    return groups


def settings_of(kind: type) -> dict[str, Setting]:
    """Returns by name the settings that a dataclass has itself; not those of dataclasses within it."""
    hints, documents = get_type_hints(kind), _docstrings(kind)
    return {
        each.name: _setting(each, hints[each.name], documents.get(each.name, ""))
        for each in fields(kind)
        if not each.metadata.get("filled_in") and not holds_settings(hints[each.name])
    }


def holds_settings(hint: Any) -> bool:
    """Returns whether a field of this type stands for the settings within it; a config group is a setting itself."""
    return is_dataclass(hint) and not issubclass(cast(type, hint), EnvConfig)


def first_sentence(kind: type) -> str:
    """Returns the first sentence of a class's docstring."""
    return re.split(r"(?<=\.)\s", inspect.cleandoc(kind.__doc__ or ""))[0].replace("\n", " ")


def shown(value: Any) -> str:
    """Returns a value as YAML has it, in one line."""
    plain = OmegaConf.to_container(OmegaConf.create([value]), enum_to_str=True)
    written: str = yaml.safe_dump(plain, default_flow_style=True, width=math.inf)
    return written.strip()[1:-1]


def _groups(key: str, kind: type) -> Iterator[Group]:
    """Yields the settings of a dataclass that stands at `key`, and then those of the dataclasses within it."""
    prefix = f"{key}." if key else ""
    yield Group(
        key, first_sentence(kind), [replace(each, key=f"{prefix}{name}") for name, each in settings_of(kind).items()]
    )
    for name, hint in get_type_hints(kind).items():
        if holds_settings(hint):
            yield from _groups(f"{prefix}{name}", hint)


def _of_choices(key: str, kinds: Mapping[str, type]) -> Iterator[Group]:
    """Yields the groups of a config group with these choices: what all have alike, what some have, what one has."""
    found = [(choice, group) for choice, kind in kinds.items() for group in _groups(key, kind)]
    having: dict[Setting, list[str]] = {}
    for choice, group in found:
        for each in group.settings:
            having.setdefault(each, []).append(choice)
    distinct = dict.fromkeys(tuple(choices) for choices in having.values())
    for choices in sorted(distinct, key=len, reverse=True):
        common = next(base for base in kinds[choices[0]].__mro__ if all(issubclass(kinds[c], base) for c in choices))
        name = key if len(choices) == len(kinds) else f"{key}={' or '.join(choices)}"
        for choice, group in found:
            if choice == choices[0] and (
                settings := [each for each in group.settings if having[each] == list(choices)]
            ):
                of_all = group.name == key
                yield Group(
                    name if of_all else group.name, first_sentence(common) if of_all else group.meaning, settings
                )


def _setting(field: Field[Any], hint: Any, document: str) -> Setting:
    """Returns a field as a setting whose key is its name; the last sentence of its docstring may say what is usual."""
    default = field.default if field.default_factory is MISSING else field.default_factory()
    text = " ".join(document.split())
    usual = re.search(r" ?Usual: ([^ ]+ to [^ ]+)\.", text)
    return Setting(
        key=field.name,
        kind=_kind(hint),
        default="???" if default in ("???", MISSING) else shown(default),
        allowed=_allowed(field.metadata.get("range", {})),
        usual=usual[1] if usual else "",
        meaning=text.replace(usual[0], "") if usual else text,
        is_path="path" in field.metadata,
    )


def _kind(hint: Any) -> str:
    arguments = get_args(hint)
    if get_origin(hint) is list:
        return "list" if arguments[0] is Any else f"list of {_kind(arguments[0])}s"
    if get_origin(hint) is dict:
        return "keys and values"
    if arguments:  # of a union
        return " or ".join("null" if each is type(None) else _kind(each) for each in arguments)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(hint.__members__)
    return _CALLED.get(hint, "choice")


def _allowed(bounds: Mapping[str, float]) -> str:
    """Returns a range of `envs.config.setting` in words."""
    bounds = {name: bound for name, bound in bounds.items() if bound < _ANY}
    if bounds.keys() == {"at_least", "at_most"}:
        return f"{bounds['at_least']} to {bounds['at_most']}"
    words = {"at_least": "{} or more", "above": "above {}", "at_most": "up to {}", "below": "below {}"}
    return ", ".join(words[name].format(bound) for name, bound in bounds.items())


def _docstrings(kind: type) -> dict[str, str]:
    """Returns the docstrings of a dataclass's fields, which Python itself does not keep."""
    documents: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        documents.update(_in_module(each.__module__).get(each.__qualname__, {}))
    return documents


@cache
def _in_module(module: str) -> dict[str, dict[str, str]]:
    """Returns the docstrings of fields by class and name; none of a module without a source."""
    try:
        source = inspect.getsource(sys.modules[module])
        classes = list(_classes(ast.parse(source)))
    except (KeyError, OSError, TypeError, SyntaxError):
        return {}
    return {name: dict(_fields(node)) for name, node in classes}


def _classes(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.ClassDef]]:
    for each in node.body:
        if isinstance(each, ast.ClassDef):
            yield f"{prefix}{each.name}", each
            yield from _classes(each, f"{prefix}{each.name}.")


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, after in itertools.pairwise(node.body):
        name = field.target if isinstance(field, ast.AnnAssign) else None
        document = after.value if isinstance(after, ast.Expr) else None
        if isinstance(name, ast.Name) and isinstance(document, ast.Constant) and isinstance(document.value, str):
            yield name.id, inspect.cleandoc(document.value)
