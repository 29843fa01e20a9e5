"""A user's own folders and files beside the run: how they are found where they bear the names of our packages.

Ours come first on the path. What ours lack is looked for in folders of the same names elsewhere on it, so that the
user's `envs/castle.py` is `envs.castle`. A file can be named by its path instead, `./envs/castle.py`, which needs no
path at all. Only the standard library is imported here: this runs before everything else, in every process.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote

PACKAGES = ("outstep", "trainer", "algorithms", "buffers", "envs", "conf")
ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds our packages."""
_FOLDER = "folder%3A"
"""The names of packages that stand for a folder, wherever it lies, begin with this."""
_inits: dict[str, ModuleType] = {}
"""The user's own `__init__.py` files that were run, by package."""


def ours_first(*more: str) -> None:
    """Puts `more` folders on `sys.path`, and those that hold a namesake of our packages behind ours.

    Spawned processes are given the same path before they import anything of ours.
    """
    path = [*more, *sys.path]
    place = max((i for i, entry in enumerate(path) if _folder(entry) == ROOT), default=0)
    before = [entry for entry in path[:place] if _folder(entry) != ROOT]
    namesakes = [str(_folder(entry)) for entry in before if _holds_namesake(entry)]
    behind = [entry for entry in path[place:] if _folder(entry) != ROOT]
    sys.path[:] = [entry for entry in before if not _holds_namesake(entry)] + [str(ROOT), *namesakes, *behind]


def install() -> None:
    """Lets `import` find what only the user's folders hold, after everything else has been tried."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)


def file_module(file: str) -> str:
    """Returns a module name by which `import` finds a file in this process and in those that it starts.

    It is the name that the file has on the path, where nothing else is found by that; else one below a package that
    stands for its folder, so that relative imports work there as well.
    """
    path = Path(file).expanduser().resolve()
    for entry in map(_folder, sys.path):
        if entry in path.parents and path.stem != "__init__":
            name = ".".join(path.relative_to(entry).with_suffix("").parts)
            try:
                run_own_init(name)
                spec = None if hidden(name) else importlib.util.find_spec(name)
            except Exception:  # noqa: S112 - of packages of the user's above it, which the file may not need
                continue
            if spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path:
                return name
    return f"{_FOLDER}{quote(str(path.parent), safe='').replace('.', '%2E')}.{path.stem}"


def offer_own_names() -> None:
    """Lets our packages have the names of the user's `__init__.py` files, which run when the first one is missed."""
    for package in PACKAGES:
        if _own_init(package) is not None:
            vars(importlib.import_module(package))["__getattr__"] = partial(_own_name, package)


def run_own_init(module: str) -> None:
    """Runs the `__init__.py` of the user's folder that `module` lies in, once, if it bears the name of one of ours."""
    package = module.partition(".")[0]
    if package in _inits or (init := _own_init(package)) is None:
        return
    loader = SourceFileLoader(package, str(init))
    spec = ModuleSpec(package, loader, origin=str(init), is_package=True)
    spec.submodule_search_locations, spec.has_location = [str(init.parent)], True
    _inits[package] = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(_inits[package])
    except Exception as error:
        del _inits[package]
        missed = error.name if isinstance(error, ImportError) else None
        raise ImportError(f"{init} fails, {type(error).__name__}: {error}", name=missed) from error


def is_ours(module: str) -> bool:
    """Returns whether a module, or the package that it lies in, is one of ours."""
    package, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    if package not in PACKAGES or name.startswith("__"):
        return package in PACKAGES
    return _has(ROOT / package, name) if name else _own_init(package) is None


def hidden(module: str) -> list[Path]:
    """Returns the user's files that `import` never finds, as ours bear their names, of the package of `module`."""
    package = module.partition(".")[0]
    if package not in PACKAGES:
        return []
    files = []
    for entry in _elsewhere():
        if (folder := entry / package).is_dir():
            names = {each.stem if each.suffix == ".py" else each.name for each in folder.iterdir()}
            common = [name for name in sorted(names) if _has(folder, name) and _has(ROOT / package, name)]
            files += [file if (file := folder / f"{name}.py").is_file() else folder / name for name in common]
        elif (file := entry / f"{package}.py").is_file():
            files.append(file)
    return files


def own_file(module: str) -> Path | None:
    """Returns the user's file that `module` would be if ours did not come first."""
    parts = module.split(".")
    ends = (Path(*parts, "__init__.py"), Path(*parts).with_suffix(".py"))
    files = (entry / end for entry in _elsewhere() for end in ends)
    return next((file for file in files if file.is_file()), None)


def command(module: str, *words: str) -> list[str]:
    """Returns a command line that runs `main` of a module of ours on the path of this process, from any folder."""
    path = [str(folder) for folder in map(_folder, sys.path) if folder.exists()]
    path = path if str(ROOT) in path else [str(ROOT), *path]
    code = f"import sys; sys.path[:] = {path}; from {module} import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, *words]


class _Finder:
    """Finds modules in the user's folders that bear our packages' names, and in folders that stand for themselves."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        if not rest and name.startswith(_FOLDER):
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [unquote(name[len(_FOLDER) :])]
            return spec
        if rest and "." not in rest and package in PACKAGES:
            folders = [str(folder) for entry in _elsewhere() if (folder := entry / package).is_dir()]
            return PathFinder.find_spec(name, folders)
        return None


def _folder(entry: str) -> Path:
    return Path(entry or os.curdir).resolve()


def _holds_namesake(entry: str) -> bool:
    folder = _folder(entry)
    return any((folder / package).is_dir() or (folder / f"{package}.py").is_file() for package in PACKAGES)


def _has(folder: Path, name: str) -> bool:
    """Whether a folder holds a module or package `name`; `__init__` and the like do not count."""
    return not name.startswith("__") and ((folder / f"{name}.py").is_file() or any((folder / name).glob("*.py")))


def _elsewhere() -> Iterator[Path]:
    """The folders on the path but ours, without copies of ours."""
    for entry in dict.fromkeys(map(_folder, sys.path)):
        if entry != ROOT and not (entry / "envs" / "own_folders.py").exists():
            yield entry


def _own_init(package: str) -> Path | None:
    """The first `__init__.py` of the user's in a folder of that name, if it is one of ours."""
    inits = (entry / package / "__init__.py" for entry in _elsewhere() if package in PACKAGES)
    return next((init for init in inits if init.is_file()), None)


def _own_name(package: str, name: str) -> Any:
    if not name.startswith("__"):
        run_own_init(package)
        return getattr(_inits[package], name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
