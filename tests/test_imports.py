"""Imports run down only, without circles, and torch comes late."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("envs.spec", "buffers", "envs", "algorithms", "trainer")
"""From the lowest to the highest. A module imports from its own layer and from lower ones."""
ALGORITHMS_USE = {"envs.spec", "envs.config", "envs.imports"}
"""What `algorithms` takes from `envs`: plain data, ranges of settings and registries; no environment and no process."""
NOT_YET_MOVED = {("envs.registry", "trainer.config.schema")}
"""Import paths that still lead up, until the settings classes that they name have moved down."""


class Import(NamedTuple):
    """`module` names `target` in this line: in an import statement, or as an import path in a string."""

    module: str
    target: str
    line: int
    statement: bool


def layer(module: str) -> int:
    """The highest layer whose name the module's name begins with; `envs.spec` is a layer of its own."""
    return 0 if module == LAYERS[0] else LAYERS.index(module.partition(".")[0])


def modules(root: Path) -> dict[str, Path]:
    """The files of our packages by module name."""
    found = {}
    for package in LAYERS[1:]:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(root: Path) -> list[Import]:
    """Everything that our modules import from each other, inside functions and for type checking too."""
    files, found = modules(root), []
    for module, file in files.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for name, statement in names(node):
                target = name
                while target and target not in files:  # a name inside a module
                    target = target.rpartition(".")[0]
                if target and target != module:
                    found.append(Import(module, target, node.lineno, statement))
    return found


def names(node: ast.AST) -> list[tuple[str, bool]]:
    """What a node names: by an import statement (true), or by an import path `package.module:Name` (false)."""
    if isinstance(node, ast.Import):
        return [(each.name, True) for each in node.names]
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "imports are absolute"
        return [(f"{node.module}.{each.name}", True) for each in node.names]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        path = re.fullmatch(r"([a-z_]\w*(?:\.\w+)+):\w+", node.value)
        return [(path[1], False)] if path else []
    return []


def upward(found: list[Import]) -> list[Import]:
    return [each for each in found if layer(each.target) > layer(each.module)]


def circles(found: list[Import]) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others."""
    beyond: dict[str, set[str]] = {}
    for each in found:
        if each.statement:
            beyond.setdefault(each.module, set()).add(each.target)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for module in beyond.get(todo.pop(), set()) - seen:
                seen.add(module)
                todo.append(module)
        return seen

    reach = {module: reached(module) for module in beyond}
    groups = {frozenset(other for other in reach[module] if module in reach.get(other, ())) for module in reach}
    return sorted(sorted(group) for group in groups if group)


@pytest.fixture(scope="module")
def found() -> list[Import]:
    return imports(ROOT)


def test_imports_run_down_only(found: list[Import]) -> None:
    assert [each for each in upward(found) if each[:2] not in NOT_YET_MOVED] == []


def test_there_are_no_import_circles(found: list[Import]) -> None:
    assert circles(found) == []


def test_buffers_know_plain_data_alone(found: list[Import]) -> None:
    assert {each.target for each in found if layer(each.module) == 1 and layer(each.target) != 1} == {"envs.spec"}


def test_algorithms_know_no_environment(found: list[Import]) -> None:
    used = {each.target for each in found if layer(each.module) == 3 and layer(each.target) in (0, 2)}
    assert used <= ALGORITHMS_USE


def test_envs_and_buffers_never_import_torch() -> None:
    users = {
        module
        for module, file in modules(ROOT).items()
        if layer(module) < 3
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        if any(re.match(r"torch\b", name) for name, _ in names(node))
    }
    assert users == set()


def test_commands_and_settings_start_without_torch() -> None:
    """A command refuses bad input before anything that takes seconds to import."""
    early = [
        module
        for module in modules(ROOT)
        if layer(module) < 3
        or module.endswith(".__main__")
        or module == "algorithms.registry"
        or (layer(module) == 3 and module.endswith((".settings", ".validation")))
    ]
    assert {"trainer.__main__", "trainer.evaluate.__main__", "algorithms.settings"} <= set(early)
    code = f"""
import importlib, sys
sys.modules["torch"] = None  # whoever imports it fails
for module in {early!r}:
    importlib.import_module(module)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("file", "text", "found_up", "found_circles"),
    [
        ("envs/low.py", "import trainer.high", ["trainer.high"], []),
        ("envs/low.py", "from trainer import high", ["trainer.high"], []),
        ("envs/low.py", "def later():\n    from trainer.high import Name", ["trainer.high"], []),
        ("envs/low.py", "if TYPE_CHECKING:\n    from trainer.high import Name", ["trainer.high"], []),
        ("envs/low.py", "KINDS = {'a': 'trainer.high:Name'}", ["trainer.high"], []),
        ("envs/spec.py", "import envs.low", ["envs.low"], []),
        ("buffers/low.py", "import envs.low", ["envs.low"], []),
        ("trainer/low.py", "import trainer.high", [], [["trainer.high", "trainer.low"]]),
        ("trainer/low.py", "PATH = 'trainer.high:Name'  # found when it is asked for", [], []),
        ("trainer/low.py", "import envs.low", [], []),
    ],
)
def test_what_breaks_the_rule_would_be_found(tmp_path, file, text, found_up, found_circles) -> None:
    written = {
        "envs/low.py": "",
        "trainer/low.py": "",
        "trainer/high.py": "def f():\n    import trainer.low",
        file: text,
    }
    for name, content in written.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    found = imports(tmp_path)
    assert [each.target for each in upward(found)] == found_up
    assert circles(found) == found_circles
