"""Import paths and registries: how a configuration names classes and functions, ours and a user's own."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from envs.spec import UserError


def imported(path: str, key: str) -> Any:
    """What `package.module:Name` names; `key` says where the configuration has it.

    Raises:
        UserError: it is no such path, its module cannot be imported, or has nothing of that name.
    """
    module, colon, name = str(path).partition(":")
    if not (colon and module and name):
        raise UserError(f"{key}: {path!r} is no import path: write package.module:Class")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # the user's code
        raise UserError(f"{key}: {path} cannot be imported ({type(error).__name__}: {error})") from error
    if found is None:
        raise UserError(f"{key}: {path}: module {module} has no {name}")
    return found


T = TypeVar("T")


class Registry(Generic[T]):
    """Things of one kind, found by name: built-in ones, those of installed packages, and any by import path.

    Nothing is imported before it is asked for.

    Args:
        kind: what they are called in messages: `algorithm`.
        group: the group of entry points by which installed packages add theirs: `outstep.algorithms`.
        built_in: import paths by name. A new built-in one is a line here.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str]) -> None:
        self.kind, self.group, self._built_in = kind, group, built_in

    def names(self) -> list[str]:
        """Returns all names, the built-in ones first."""
        return list(self._paths())

    def built_in(self) -> list[str]:
        """Returns the names of what is ours."""
        return list(self._built_in)

    def find(self, name: str, key: str) -> T:
        """Returns what `name` stands for, a name or an import path `module:Class`; `key` is where it was given.

        Raises:
            UserError: there is nothing of that name, or it cannot be imported.
        """
        self.check(name, key)
        found: T = imported(self._paths().get(name, name), key)
        return found

    def check(self, name: str, key: str) -> None:
        """Refuses an unknown name by a UserError, as `find` does, and imports nothing."""
        paths = self._paths()
        if name not in paths and ":" not in name:
            close = difflib.get_close_matches(name, paths, n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            raise UserError(f"{key}={name}: unknown {self.kind}; {meant}there is {', '.join(paths)}")

    def _paths(self) -> dict[str, str]:
        installed = {point.name: point.value for point in entry_points(group=self.group)}
        return {**self._built_in, **{name: path for name, path in installed.items() if name not in self._built_in}}
