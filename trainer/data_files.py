"""Reads YAML and JSON that anybody may have written: plain data, within bounds that are checked before memory is taken.

What is wrong with a file is a ValueError of one line; a file that cannot be read at all is an OSError.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 2**20
"""The size of a YAML file. That of a run is some 6 KB, and 4 KB more for each behavior with settings of its own."""
MOST_NODES = 100_000
"""Keys and values of a YAML file, counted again wherever an alias repeats them."""
MOST_DEPTH = 64
MOST_DIGITS = 40
MOST_JSON_BYTES = 2**26


def read_data(file: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Returns what is in a file of at most so many bytes; a device or a pipe, which may have no end, is not read."""
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as opened:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is not a file")
        content = opened.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it has more than {most_bytes:,} bytes")
    return content


def read_json(file: Path) -> Any:
    """Returns what a file of JSON holds."""
    return parse_json(read_data(file, MOST_JSON_BYTES))


def parse_json(content: bytes) -> Any:
    """Returns what a text of JSON holds."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_yaml(content: bytes) -> Any:
    """Returns what a text of YAML holds: dicts, lists, strings, numbers, booleans and None.

    Numbers are those that Hydra reads, so `1e-3` is one; a date is a string.
    """
    text = content.decode("utf-8-sig")
    try:
        _check_size(text)
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError:  # of what aliases hold
        raise ValueError("it is nested too deeply") from None
    except (TypeError, KeyError, AttributeError, IndexError) as error:  # of yaml, with tags such as `!!bool x`
        raise ValueError(f"a value does not fit its tag ({type(error).__name__}: {error})") from error


_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is ten times as fast; not every yaml has it


def _check_size(text: str) -> None:
    """Refuses what would be too large in memory, by the parser's events alone."""
    sizes: dict[str, int] = {}
    """Of each anchor: the nodes that an alias to it repeats."""
    open_: list[tuple[str | None, int]] = []
    """The mappings and lists around an event: anchor, and the count where it begins."""
    count = 0
    for event in yaml.parse(text, Loader=_Safe):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor[:80]} stands for nothing before it, or for what it is in")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, count))
            count += 1
            sizes.pop(event.anchor, None)
            if len(open_) > MOST_DEPTH:
                raise ValueError(f"it is nested more than {MOST_DEPTH} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, begun = open_.pop()
            if anchor is not None:
                sizes[anchor] = count - begun
        if count > MOST_NODES:
            raise ValueError(f"it holds more than {MOST_NODES:,} keys and values, repetitions by aliases included")


class _Loader(_Safe):  # type: ignore[misc]
    """Takes what Hydra takes for a number, and no date."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
        for first, resolvers in _Safe.yaml_implicit_resolvers.items()
    }

    def construct_yaml_int(self, node: Any) -> Any:
        if len(node.value) > MOST_DIGITS:
            raise ValueError(f"it holds a number of {len(node.value):,} digits")
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
        |\.[0-9_]+(?:[eE][-+][0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
        re.VERBOSE,
    ),
    list("-+0123456789."),
)
