"""Folders and files of a user's own that bear the names of our packages."""

import os
import subprocess
import sys

import pytest

from envs.own_folders import ROOT
from tests.outstep.folders import make_folder

COMMAND = "from outstep.__main__ import main; import sys; sys.exit(main())"


def run(folder, code, *words, path=""):
    """Runs `code` as the command `outstep` would run: the current folder is not on the path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(path), str(ROOT)])), "COLUMNS": "200"}
    start = "import sys; sys.path.remove(''); "
    done = subprocess.run(
        [sys.executable, "-c", start + code, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def outstep(folder, *words, path=""):
    return run(folder, COMMAND, *words, path=path)


def imported(folder, code):
    """What `code` prints, with the folder ahead of ours on the path and `outstep` imported first."""
    status, out, error = run(folder, f"import outstep\n{code}", path=folder)
    assert (status, error) == (0, "")
    return out


def test_modules_of_the_users_are_found_in_ours_which_come_first(tmp_path):
    make_folder(tmp_path, "trainer.py")
    code = (
        "import envs.castle, algorithms.notes, envs.spec, trainer.config\n"
        "print(envs.castle.SIZE, algorithms.notes.TEXT, envs.spec.UserError.__name__, 'castle' in dir(envs))"
    )
    assert imported(tmp_path, code) == "3 mine UserError True"


def test_the_init_runs_after_ours_once_somebody_asks_for_a_name_and_replaces_none(tmp_path):
    make_folder(tmp_path)
    code = (
        "import envs, gymnasium\nfrom envs.imports import imported\n"
        "before = 'Keep-v0' in gymnasium.registry\n"
        "print(before, imported('tools:HEIGHT', 'key'), envs.HEIGHT, 'Keep-v0' in gymnasium.registry)\n"
        "import envs.spec; print(envs.spec.__name__)"
    )
    assert imported(tmp_path, code) == "False 3 3 True\nenvs.spec"


@pytest.mark.parametrize("entry", ["", "envs.castle:Castle-v0", "envs:Keep-v0", "./envs/castle.py:Castle-v0"])
def test_an_environment_is_played_in_spawned_processes(tmp_path, entry):
    make_folder(tmp_path, "trainer.py")
    chosen = ["env=gym", f"env.id={entry}", "env.wrappers=[envs.castle:Wrapper]"] if entry else ["env=basic"]
    words = [*chosen, "player=tools:bot" if entry else "player=bot", "episodes=2", "to=x.demo"]
    status, out, error = outstep(tmp_path, "record", *words)
    assert status == 0, error
    assert "x.demo: 2 episodes" in out
    code = (
        "import sys; from envs.gym.adapter import GymEnv; from envs.gym.probe import probe\n"
        f"if __name__ == '__main__': print(probe(GymEnv({entry or 'CartPole-v1'!r}), 0, 60).spec.name)"
    )
    (tmp_path / "mine.py").write_text(f"import outstep\n{code}\n")
    played = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True)
    assert (played.returncode, played.stdout.strip()) == (0, (entry or "CartPole-v1").rpartition(":")[2]), played.stderr


@pytest.mark.parametrize(
    ("name", "word", "message"),
    [
        (
            "envs/spec.py",
            "envs.castle:Castle-v0",
            "is refused: {0} cannot be imported, as Outstep's own package",
        ),
        ("envs/spec.py", "envs.castle:Castle-v0", "Rename it, or write ./envs/castle.py in place of envs.castle"),
        ("envs/unity/x.py", "envs.castle:Castle-v0", "is refused: {1}/envs/unity cannot be imported"),
        ("castles.py", "./castle:Castle-v0", "there is no file ./castle (seen from {1})"),
        ("castles.py", "castles:Castle-v0", "castles:Castle-v0' cannot be imported"),
        ("envs/__init__.py", "envs.castle:Castle-v0", "{0} fails, ValueError: mine"),
        ("envs/games/x.py", "envs.games:X-v0", "write ./envs/games/__init__.py in place of envs.games"),
    ],
)
def test_what_cannot_be_found_beside_ours_is_refused_in_one_message(tmp_path, name, word, message):
    make_folder(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise ValueError('mine')\n")
    if name == "envs/games/x.py":
        (tmp_path / "envs/games/__init__.py").touch()
    status, out, error = outstep(tmp_path, "train", f"env.id={word}")
    assert (status, out) == (2, "")
    assert error.count("\n") <= 1  # the place in the user's file
    assert error.startswith("error: ")
    assert message.format(tmp_path / name, tmp_path) in error


def test_a_module_beside_ours_is_named_by_its_file(tmp_path):
    (tmp_path / "envs.py").write_text("import gymnasium\ngymnasium.register('X-v0', entry_point='os:getcwd')\n")
    status, _, error = outstep(tmp_path, "train", "env.id=envs:X-v0")
    assert (status, "Rename it, or write ./envs.py in place of envs" in error) == (2, True)
    code = "from envs.gym.adapter import GymEnv; GymEnv('./envs.py:X-v0').check()"
    assert imported(tmp_path, code) == ""


@pytest.mark.parametrize("clash", [False, True])
def test_a_file_is_found_whatever_else_its_folder_holds_and_from_any_folder(tmp_path, clash):
    make_folder(tmp_path / "mine", *(["envs/spec.py", "envs/games.py"] if clash else []))
    (tmp_path / "elsewhere").mkdir()
    words = ["env=gym", "player=./tools.py:bot", "episodes=2", "env.id=./envs/castle.py:Castle-v0"]
    for folder in (tmp_path / "mine", tmp_path / "elsewhere"):
        status, out, error = outstep(folder, "record", *words, "to=x.demo")
        assert (status, "x.demo: 2 episodes" in out) == (0, True), error
        words = [word.replace("./", f"{tmp_path}/mine/") for word in words if "tools" not in word]
        words.append("player=bots:bot")
        (tmp_path / "elsewhere" / "bots.py").write_text("bot = lambda env, rng: lambda seen: 1\n")


def test_a_class_of_a_file_is_pickled_to_a_process_that_has_not_imported_it(tmp_path):
    make_folder(tmp_path / "mine", "envs/spec.py")
    code = f"from envs.imports import imported; import pickle; c = imported('{tmp_path}/mine/envs/maze.py:SIZE', 'key')"
    assert imported(tmp_path, f"{code}; print(c)") == "3"
    (tmp_path / "mine" / "envs" / "plain.py").write_text("class Plain:\n    pass\n")
    made = f"from envs.imports import imported; Plain = imported('{tmp_path}/mine/envs/plain.py:Plain', 'key')\n"
    pickled = imported(tmp_path, made + "import pickle; print(pickle.dumps(Plain()).hex())")
    read = f"import envs, pickle; print(type(pickle.loads(bytes.fromhex('{pickled}'))).__name__)"
    assert imported(tmp_path, read) == "Plain"


def test_configurations_hold_absolute_files(tmp_path):
    make_folder(tmp_path)
    words = ["--cfg", "job", "env.id=./envs/castle.py:Castle-v0", "env.wrappers=[{path: envs/castle.py:Wrapper}]"]
    status, out, error = outstep(tmp_path, "train", *words)
    assert (status, error) == (0, "")
    assert f"id: {tmp_path}/envs/castle.py:Castle-v0\n" in out
    assert f"path: {tmp_path}/envs/castle.py:Wrapper\n" in out
    player = "env.player=env=envs/castle.py:Castle-v0 agents=2"
    _, out, _ = outstep(tmp_path, "train", "--cfg", "job", "env=unity", player)
    assert f"player: env={tmp_path}/envs/castle.py:Castle-v0 agents=2" in " ".join(out.split())
    _, out, _ = outstep(tmp_path, "train", "--cfg", "job", "--config-dir", "conf", "+experiment=castle")
    assert f"id: {tmp_path}/envs/castle.py:Castle-v0\n" in out


def test_our_player_finds_the_same_modules_from_any_folder(tmp_path):
    make_folder(tmp_path / "mine")
    words = ["player", "launcher=../castle.x86_64", "env=./envs/castle.py:Castle-v0", "fault=die:0"]
    status, _, error = outstep(tmp_path / "mine", *words)
    assert status == 0, error
    make_folder(tmp_path / "other", "envs/unity/__init__.py", "envs/imports.py")
    done = subprocess.run([tmp_path / "castle.x86_64"], cwd=tmp_path / "other", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "The scripted fault: die.\n")
