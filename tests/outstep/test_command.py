"""The command `outstep`."""

import importlib.metadata
import subprocess
import sys

import pytest

import outstep
from envs.imports import _installed
from envs.spec import UserError
from outstep.__main__ import main
from outstep.commands import COMMANDS
from tests.docs.blocks import file_of


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])


def echo(words):
    """Prints what it is given.

    And nothing else.
    """
    print(*words)
    return 7


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_with_one_line(words, capsys):
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in COMMANDS.names():
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith(".")
        assert len(line) < 120


def test_the_version_is_that_of_the_distribution(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"outstep {outstep.__version__}\n"
    assert outstep.__version__ == importlib.metadata.version("outstep")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trian", "error: trian: unknown command; did you mean train? there is train, sweep, check,"),
        ("+experiment=snoopy_sac", "error: +experiment=snoopy_sac is not a command: write outstep train +experiment"),
        ("--resume", "error: --resume is not a command: write outstep train resume=...; see --help"),
        ("eval", "error: eval is not a command: write outstep evaluate run=runs/...; see --help"),
        ("no_module:main", "error: command: no_module:main cannot be imported (ModuleNotFoundError"),
    ],
)
def test_an_unknown_command_is_refused_in_one_line(word, message, capsys):
    assert main([word]) == 2
    out, error = capsys.readouterr()
    assert error.startswith(message)
    assert (out, error.count("\n")) == ("", 1)


@pytest.mark.parametrize("words", [["version"], ["-V"], ["demos", "--version"], ["player", "--version"]])
def test_the_version_is_given_to_whoever_asks(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out == f"outstep {outstep.__version__}\n"


@pytest.mark.parametrize("words", [["help", "demos"], ["--help", "demos"]])
def test_help_may_come_before_the_command(words, monkeypatch, capsys):
    monkeypatch.setattr("trainer.demos.__main__.main", lambda words: print(*words) or 0)
    assert main(words) == 0
    assert capsys.readouterr().out == "--help\n"


def test_a_command_gets_the_words_behind_its_name_and_its_status_is_returned(monkeypatch, capsys):
    paths = {name: COMMANDS._paths()[name] for name in COMMANDS.names()}
    for name, path in paths.items():
        monkeypatch.setattr(path.replace(":", "."), lambda words, name=name: print(name, *words) or 3)
        assert main([name, "a=b", "--help"]) == 3
        assert capsys.readouterr().out == f"{name} a=b --help\n"


def test_a_command_of_ones_own_is_named_by_its_import_path_or_file(capsys):
    assert main([f"{__name__}:echo", "a", "b"]) == 7
    assert main([f"{__file__}:echo", "c"]) == 7
    assert capsys.readouterr().out == "a b\nc\n"


def test_the_command_in_the_documentation_works(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_tools.py").write_text(file_of("docs/extending.md", "my_tools.py"))
    (tmp_path / "summary.json").write_text('{"episode_reward_mean": 2.5}')
    monkeypatch.chdir(tmp_path)
    assert main(["my_tools:scores", "."]) == 0
    assert main(["./my_tools.py:scores", "."]) == 0
    del sys.modules["my_tools"]
    assert capsys.readouterr().out == ". 2.5\n. 2.5\n"


def test_an_installed_package_adds_a_command(monkeypatch, capsys):
    point = importlib.metadata.EntryPoint("echo", f"{__name__}:echo", "outstep.commands")
    monkeypatch.setattr("envs.imports.entry_points", lambda group: [point] if group == point.group else [])
    monkeypatch.setattr("envs.imports._installed", _installed.__wrapped__)  # which remembers nothing
    assert main(["echo", "a"]) == 7
    assert main(["--help"]) == 0
    assert "\n  echo        Prints what it is given.\n" in capsys.readouterr().out


def test_a_command_that_is_damaged_is_listed_without_a_line(monkeypatch):
    point = importlib.metadata.EntryPoint("gone", "no_module.at_all:main", "outstep.commands")
    monkeypatch.setattr("envs.imports.entry_points", lambda group: [point])
    monkeypatch.setattr("envs.imports._installed", _installed.__wrapped__)
    assert COMMANDS.summary("gone") == ""
    with pytest.raises(UserError, match="cannot be imported"):
        COMMANDS.find("gone", "")


def test_the_package_and_the_help_import_nothing_heavy():
    code = (
        "import sys, outstep; from outstep.__main__ import main\n"
        "assert not {'trainer', 'torch', 'hydra', 'gymnasium', 'numpy', 'importlib.metadata'} & set(sys.modules)\n"
        "main(['--help'])\n"
        "sys.exit(bool({'torch', 'hydra', 'gymnasium', 'trainer.config'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
