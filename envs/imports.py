"""Import paths and registries: how a configuration names classes and functions, ours and a user's own."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import traceback
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from envs.own_folders import file_module, hidden, is_ours, offer_own_names, own_file, run_own_init
from envs.spec import UserError


def imported(path: str, key: str) -> Any:
    """Returns what `package.module:Name` or `./folder/file.py:Name` names; `key` says where it was given.

    Raises:
        UserError: it is no such path, its module cannot be imported, or has nothing of that name.
    """
    module, colon, name = str(path).rpartition(":")
    if not (colon and module and name):
        raise UserError(f"{key}: {path!r} is no import path: write package.module:Class, or ./file.py:Class")
    found = getattr(imported_module(module, f"{key}: {path}"), name, None)
    if found is None:
        raise UserError(f"{key}: {path}: module {module} has no {name}{hidden_hint(module)}")
    return found


def imported_module(module: str, what: str) -> ModuleType:
    """Returns the module `package.module` or that of a file, `./folder/file.py`; `what` begins messages.

    Raises:
        UserError: there is none, it cannot be imported, or is one of a user's folder of which parts cannot be found.
    """
    name = module
    try:
        if module.endswith(".py") or "/" in module:
            if not Path(module).expanduser().is_file():
                raise UserError(f"{what}: there is no file {module} (seen from {Path.cwd()})")
            name = file_module(module)
            offer_own_names()
        elif not is_ours(module):
            if hidden(module) and "." in module:
                raise UserError(f"{what} is refused{hidden_hint(module)}")
            run_own_init(module)
            offer_own_names()
        return importlib.import_module(name)
    except UserError:
        raise
    except BaseException as error:  # the user's code, which may also call sys.exit
        if isinstance(error, KeyboardInterrupt) and not error.args:  # Ctrl+C
            raise
        missed = (error.name or "") if isinstance(error, ImportError) else ""
        hint = hidden_hint(missed) or hidden_hint(module)
        raise UserError(f"{what} cannot be imported ({_reason(error)}){hint}{_places(error)}") from error


def described(error: BaseException) -> str:
    """Returns in few lines what went wrong in the user's code, and where."""
    return _reason(error) + _places(error)


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({'' if error.code is None else error.code})"
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # of the user's class
        text = "its text cannot be made"
    lines = [line[:_SHOWN] for line in f"{type(error).__name__}: {text}".rstrip(": ").splitlines()]
    return "\n".join(lines[:_SHOWN_LINES])


def _places(error: BaseException) -> str:
    """Returns where the user's code failed: its last calls, a line each."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"\n  {error.filename}:{error.lineno}: {(error.text or '').strip()[:_SHOWN]}"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_users(each.filename)]
    return "".join(
        f"\n  {each.filename}:{each.lineno} in {each.name}: {(each.line or '')[:_SHOWN]}"
        for each in frames[-_SHOWN_LINES:]
    )


_OURS = Path(__file__).resolve().parents[1]
_SHOWN, _SHOWN_LINES = 300, 5


def _is_users(file: str) -> bool:
    """Returns whether a file of a traceback is neither ours, nor Gymnasium's, nor of the import system."""
    path = Path(file)
    ours = any(_OURS / package in path.parents for package in ("algorithms", "envs", "trainer"))
    return not (ours or file.startswith("<frozen") or "gymnasium" in path.parts or path.parts[-2:-1] == ("importlib",))


def absolute(path: str) -> str:
    """Returns an import path whose file can be found from anywhere; any other string as it is."""
    file, colon, name = path.rpartition(":")
    return f"{Path(file).expanduser().resolve()}:{name}" if colon and name and file.endswith(".py") else path


def hidden_hint(module: str) -> str:
    """Returns what to do about files of the user's that cannot be imported, as ours bear their names; else nothing."""
    if not (files := hidden(module)):
        return ""
    package, own = module.partition(".")[0], own_file(module)
    way = f", or write {_seen_from_here(own)} in place of {module}" if own else ""
    return (
        f": {', '.join(map(str, files))} cannot be imported, as Outstep's own package {package} comes first. "
        f"Rename it{way}"
    )


def _seen_from_here(file: Path) -> str:
    here = Path.cwd()
    return f"./{file.relative_to(here).as_posix()}" if here in file.parents else str(file)


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
        """Returns what `name` stands for, a name or an import path `module:Class`.

        `key` is where it was given; it may be empty. Raises UserError if there is nothing of that name, or it cannot be
        imported.
        """
        self.check(name, key)
        found: T = imported(self._paths().get(name, name), key or self.kind)
        return found

    def check(self, name: str, key: str) -> None:
        """Refuses an unknown name by a UserError, as `find` does, and imports nothing."""
        paths = self._paths()
        if name not in paths and ":" not in name:
            close = difflib.get_close_matches(name, paths, n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            seen = f"{key}={name}" if key else name
            raise UserError(f"{seen}: unknown {self.kind}; {meant}there is {', '.join(paths)}")

    def summary(self, name: str) -> str:
        """Returns the first line of the docstring of what `name` stands for, without importing it; empty if none."""
        module, _, attribute = self._paths()[name].partition(":")
        try:
            spec = importlib.util.find_spec(module)
            tree = ast.parse(Path(spec.origin).read_bytes()) if spec and spec.origin else ast.Module([], [])
        except Exception:  # of an installed package that is damaged
            return ""
        kinds = (ast.FunctionDef, ast.ClassDef)
        found = next((node for node in tree.body if isinstance(node, kinds) and node.name == attribute), None)
        return (ast.get_docstring(found) or "").partition("\n")[0] if found else ""

    def _paths(self) -> dict[str, str]:
        return {**self._built_in, **_installed(self.group), **self._built_in}  # ours come first, and win


@cache
def _installed(group: str) -> dict[str, str]:
    """Returns the import paths, by name, that installed packages add to a group; read once, as it takes some time."""
    return {point.name: point.value for point in entry_points(group=group)}
