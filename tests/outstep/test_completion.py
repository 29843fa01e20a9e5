"""Completion of the command line in bash, zsh and fish."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from outstep import completion
from outstep.commands import COMMANDS
from outstep.completion import completions, main


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("LOCALAPPDATA", str(folder))
        completion._table()
    return folder


@pytest.fixture(autouse=True)
def here(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("LOCALAPPDATA", str(cache))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(line):
    return [word.text for word in completions(line, completion._table())]


def test_commands_are_offered_with_their_lines():
    words = completions("outstep ", completion._table())
    assert [word.text for word in words] == [*COMMANDS.names(), "--help", "--version"]
    assert all(word.about.endswith(".") for word in words[:-2])
    assert offered("outstep tr") == offered("outstep help tr") == ["train"]
    assert offered("outstep sagemaker de") == ["deploy"]


def test_keys_are_offered_up_to_their_next_dot():
    assert offered("outstep train algo") == ["algorithm=", "algorithm."]
    assert offered("outstep train algorithm.cl") == ["algorithm.cloning.", "algorithm.clip=", "algorithm.clip_end="]
    assert offered("outstep train algorithm.network.memory.c") == ["algorithm.network.memory.cell="]
    assert offered("outstep evaluate ep") == ["episodes="]
    assert offered("outstep sweep algorithm.ga") == ["algorithm.gae_lambda="]
    assert offered("outstep sweep pru") == ["pruner="]
    assert offered("outstep sweep be") == ["behaviors=", "best"]
    assert offered("outstep sagemaker train image=a vol") == ["volume_gib="]
    assert offered("outstep train --help algorithm.clip_") == ["algorithm.clip_end"]
    assert offered("outstep train --c") == ["--cfg", "--config-dir"]


def test_keys_of_another_choice_than_the_given_one_are_not_offered():
    assert offered("outstep train algorithm=sac algorithm.cli") == []
    assert offered("outstep train env=unity env.exec") == ["env.executable="]
    assert offered("outstep train env=gym env.exec") == []
    assert "algorithm.learning_rate=" in offered("outstep train algorithm=sac algorithm.l")
    assert "algorithm.clip=" in offered("outstep train algorithm=my_package.mine algorithm.cl")


def test_values_are_offered():
    assert {"algorithm=ppo", "algorithm=sac"} <= set(offered("outstep train algorithm="))
    assert offered("outstep train device=c") == ["device=cpu", "device=cuda"]
    assert offered("outstep train checkpoint.replay=") == ["checkpoint.replay=true", "checkpoint.replay=false"]
    assert offered("outstep train algorithm.clip=") == ["algorithm.clip=0.2"]
    assert offered("outstep train algorithm.nonsense=") == []


def test_experiments_of_ones_own_are_offered(here):
    for folder, name in (("experiment", "mine"), ("conf/experiment", "other")):
        Path(folder).mkdir(parents=True)
        (Path(folder) / f"{name}.yaml").touch()
    assert "+experiment=snoopy_sac" in offered("outstep train +experiment=s")
    assert offered("outstep train +experiment=m") == ["+experiment=mine"]
    assert offered("outstep train --config-dir conf +experiment=o") == ["+experiment=other"]
    assert offered("outstep train --config-dir=conf +experiment=o") == ["+experiment=other"]


def test_runs_and_files_are_offered_as_paths():
    Path("runs/a/2026").mkdir(parents=True)
    Path("game.yaml").touch()
    Path(".hidden").touch()
    assert offered("outstep evaluate run=") == ["run=latest", "run=runs/a/", "run=game.yaml", "run=runs/"]
    assert offered("outstep evaluate run=runs/a/2") == ["run=runs/a/2026/"]
    assert offered("outstep convert ") == ["game.yaml", "runs/"]
    assert offered("outstep demos show ru") == ["runs/"]
    assert offered("outstep compare runs/a/") == ["runs/a/2026/"]
    assert offered("outstep train run.dir=nowhere/") == []


@pytest.mark.parametrize("line", ["", "outstep", "outstep nonsense ", "outstep train 'a", "outstep sagemaker x y", " "])
def test_a_line_that_makes_no_sense_is_borne(line):
    offered(line)


def test_the_answer_is_kept_until_what_it_was_made_of_changes(cache, monkeypatch):
    made = []
    monkeypatch.setattr(completion, "_made", lambda: made.append(1) or {"commands": {}, "settings": {}, "choices": {}})
    completion._table()
    assert made == []
    file = cache / "outstep" / "completion.json"
    kept = file.read_bytes()
    changed = json.loads(kept)
    changed["made_of"][next(iter(changed["made_of"]))] = 1
    for content in (json.dumps(changed).encode(), b"no JSON", b"[]"):
        file.write_bytes(content)
        completion._table()
    assert len(made) == 3
    file.write_bytes(kept)
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))  # where no folder can be made
    monkeypatch.setenv("LOCALAPPDATA", str(file))
    completion._table()
    assert len(made) == 4


def test_a_shell_is_answered_without_a_heavy_import():
    code = (
        "import sys; from outstep.__main__ import main\n"
        "main(['completion', 'words', 'fish', 'outstep train algorithm.clip'])\n"
        "sys.exit(bool({'trainer', 'torch', 'numpy', 'omegaconf', 'hydra'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("algorithm.clip=\tHow far the probability ratio may move")


@pytest.mark.parametrize(("words", "seen"), [(["tcsh"], "not tcsh; "), ([], ""), (["bash", "zsh"], "not bash zsh; ")])
def test_an_unknown_shell_is_refused_in_one_line(words, seen, capsys):
    assert main(words) == 2
    out, error = capsys.readouterr()
    assert (out, error) == ("", f"error: completion: give bash, zsh or fish, {seen}see outstep completion --help\n")


@pytest.mark.parametrize(
    ("shell", "ask", "expected"),
    [
        (
            "bash",
            'COMP_LINE="outstep train run.tags=m"; COMP_POINT=24; _outstep outstep; echo "$COMPREPLY|"',
            "mlagents |",
        ),
        (
            "bash",
            'COMP_LINE="outstep convert a"; COMP_POINT=17; _outstep outstep; echo "$COMPREPLY|"',
            r"a\ b\$.yaml |",
        ),
        ("fish", 'complete -C "outstep train run.tags=m"', "run.tags=mlagents"),
    ],
)
def test_each_shell_takes_its_script(shell, ask, expected, here):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (here / "a b$.yaml").touch()
    (here / "bin").mkdir()
    program = here / "bin" / "outstep"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m outstep "$@"\n')
    program.chmod(0o755)
    assert main([shell]) == 0
    script = f"{completion.SCRIPTS[shell]}\n{ask}\n"
    path = f"{here / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_zsh_reads_its_script():
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    assert subprocess.run(["zsh", "-n", "-c", completion.SCRIPTS["zsh"]], capture_output=True).returncode == 0
