"""What comes from a file or a socket is data: nothing in the packages could make code of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["algorithms", "buffers", "envs", "outstep", "trainer"]
MAKES_CODE = {
    *(
        "pickle.load",
        "pickle.loads",
        "cloudpickle.loads",
        "pickle.Unpickler",
        "marshal.loads",
        "marshal.load",
        "shelve.open",
    ),
    *("torch.load", "torch.jit.load", "joblib.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("eval", "exec", "compile", "os.system", "os.popen", "hydra.utils.instantiate"),
}
OURS = {
    ("envs/process/messages.py", "pickle.loads"),
    ("trainer/runtime/learners.py", "pickle.loads"),
    ("envs/gym/factory.py", "cloudpickle.loads"),
}
"""Over a socket pair between a process and its own child, which has no name that anybody could connect to; and what a
program has given to a run, which lies in no file."""

IMPORTS = {
    "importlib.import_module",
    "imported",
    "imported_module",
    "loader.exec_module",
    "load_env_creator",
    "__import__",
    "hydra.utils.get_class",
}
"""What turns a name into code."""
NAMED_BY_THE_USER = {
    "algorithms/networks/custom.py",  # algorithm.network.custom
    "algorithms/registry.py",  # algorithm.path
    "algorithms/rewards/registry.py",  # reward.<name>.path
    "envs/gym/adapter.py",  # env.id, env.wrappers
    "envs/gym/factory.py",  # env.id
    "envs/imports.py",
    "envs/own_folders.py",  # the user's own __init__.py
    "envs/pettingzoo/environment.py",  # env.id
    "envs/unity/channels.py",  # env.channels
    "envs/unity/protocol/messages.py",  # the modules of mlagents-envs
    "envs/vector/environment.py",  # env.vector
    "outstep/__init__.py",  # its own modules, when they are first used
    "outstep/settings.py",  # outstep.train(env=...)
    "trainer/cluster/ingest_process.py",  # that of Ray, or of tests
    "trainer/selfplay/players.py",  # player, against, self_play.fixed
}
"""A run's configuration is its user's own, also when it is resumed. What reads checkpoints and demonstrations is not
here."""


def calls(tree):
    """Each call in a file, by its dotted name; not imports of a path that is written there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), node.args[0] if node.args else None
            beginning = given.values[0] if isinstance(given, ast.JoinedStr) else given
            if name not in IMPORTS or not isinstance(beginning, ast.Constant):
                yield name, node


@pytest.fixture(scope="module")
def called():
    """(file, name, keywords) of every call in the packages."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return [
        (file.relative_to(ROOT).as_posix(), name, {option.arg for option in node.keywords})
        for file in files
        for name, node in calls(ast.parse(file.read_text(encoding="utf-8")))
    ]


def test_only_what_our_own_processes_say_is_unpickled(called):
    given = {"allow_pickle", "shell"}
    assert {(file, name) for file, name, options in called if name in MAKES_CODE or options & given} == OURS


def test_only_the_users_configuration_names_code(called):
    assert {file for file, name, _ in called if name in IMPORTS} == NAMED_BY_THE_USER


@pytest.mark.parametrize("name", sorted(MAKES_CODE | IMPORTS))
def test_a_call_that_makes_code_of_data_would_be_found(name):
    assert [found for found, _ in calls(ast.parse(f"x = {name}(data)"))] == [name]
