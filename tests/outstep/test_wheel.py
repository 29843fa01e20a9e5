"""The wheel, installed without this folder, in a folder of a user's own. Slow: `make test-extras`."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.outstep.folders import make_folder

pytestmark = [pytest.mark.extras, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
PACKAGES = ("outstep", "trainer", "algorithms", "buffers", "envs", "conf")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):  # apart, so that no build folder is left in ours
        if name.partition("/")[0] in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE") and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run(pip, check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def binaries(wheel, tmp_path_factory):
    """The folder of programs of an environment that has the wheel and what it needs, but not this checkout."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (python,) = [*folder.glob("bin/python"), *folder.glob("Scripts/python.exe")]
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    # Its packages only: files ending in .pth, by which this checkout is installed, work in site-packages alone.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--force-reinstall", "--ignore-installed", wheel], check=True)
    return python.parent


@pytest.fixture
def run(binaries, tmp_path):
    """Runs a program of the environment in `tmp_path`, or in `folder`; returns status, stdout and stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(program, *words, folder=tmp_path):
        command = [binaries / program, *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
        return done.returncode, done.stdout, done.stderr

    return run


CASTLE = ["env.instances=2", "env.wrappers=[./envs/castle.py:Wrapper]", "run.dir=a", "stop.samples=150", "device=cpu"]
SAC = ["algorithm=sac", "algorithm.start_samples=50"]


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    ours = [file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file()]
    names = {file.relative_to(ROOT).as_posix() for file in ours if "__pycache__" not in file.parts}
    assert names - held == set()
    assert {name for name in held if ".dist-info/" not in name} == names


def test_every_module_is_found_in_the_wheel_alone(run):
    code = (
        "import importlib, pkgutil, sys\n"
        f"for package in {PACKAGES}:\n"
        "    module = importlib.import_module(package)\n"
        "    assert module.__file__.startswith(sys.prefix), module.__file__\n"
        "    for each in pkgutil.walk_packages(module.__path__, package + '.'):\n"
        "        importlib.import_module(each.name)\n"
    )
    assert run("python", "-c", code) == (0, "", "")
    version = run("outstep", "--version")[1]
    assert run("python", "-c", "import outstep; print('outstep', outstep.__version__)")[1] == version


def test_every_command_works_in_a_folder_of_namesakes(run, tmp_path):
    others = ("envs.py", "algorithms.py", "trainer.py", "trainer/__init__.py", "outstep/__init__.py", "outstep.py")
    make_folder(tmp_path, *others, "conf.py")
    for command in ("train", "check", "evaluate", "report", "export", "serve", "record", "demos", "convert", "player"):
        status, out, error = run("outstep", command, "--help")
        assert (status, error) == (0, ""), command
        assert out
    status, _, error = run("outstep", "train", "env.id=envs.castle:Castle-v0", *CASTLE, *SAC)
    assert status == 0, error
    for words in (
        ["evaluate", "run=a", "episodes=2"],
        ["export", "run=a", "to=a.onnx"],
        ["report", "run=a", "to=a.html"],
        ["record", "env=gym", "env.id=envs:Keep-v0", "player=tools:bot", "episodes=2", "to=a.demo"],
        ["demos", "show", "a.demo"],
    ):
        status, _, error = run("outstep", *words)
        assert status == 0, (words, error)


def test_a_run_goes_on_in_another_folder_and_python_can_start_it_where_no_trainer_is(run, tmp_path):
    mine = make_folder(tmp_path / "mine", "envs.py", "algorithms.py", "buffers.py", "conf.py", "outstep/__init__.py")
    words = ["env.id=./envs/castle.py:Castle-v0", *CASTLE, *SAC]
    status, _, error = run("python", "-m", "trainer", *words, folder=mine)
    assert status == 0, error
    other = make_folder(tmp_path / "other", "envs/spec.py", "trainer.py")
    status, _, error = run("outstep", "evaluate", "run=../mine/a", "episodes=2", folder=other)
    assert status == 0, error
    status, _, error = run("outstep", "train", "resume=../mine/a", "stop.samples=250", folder=other)
    assert status == 0, error


def test_our_player_serves_an_environment_of_the_users(run, tmp_path):
    make_folder(tmp_path, "trainer.py")
    player = "env.player=env=envs.castle:Castle-v0 agents=2"
    status, _, error = run("outstep", "train", "env=unity", player, *CASTLE[2:], *SAC)
    assert status == 0, error


def test_what_cannot_work_is_one_message(run, tmp_path):
    make_folder(tmp_path, "trainer.py", "envs/spec.py")
    status, out, error = run("outstep", "train", "env.id=envs.castle:Castle-v0")
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert "write ./envs/castle.py in place of envs.castle" in error
