"""Files and folders that are not what a command needs: refused by name, and left as they are, byte for byte."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envs.gym.adapter import GymEnv, behavior_spec
from tests.trainer.imitation.toys import write_demo
from trainer import __main__ as train
from trainer.checkpoint import CheckpointStore
from trainer.config.compose import compose, save_config
from trainer.config.schema import TrainConfig
from trainer.convert import __main__ as convert
from trainer.demos import __main__ as demos
from trainer.evaluate import __main__ as evaluate
from trainer.record import __main__ as record
from trainer.runtime.run_lock import run_lock

CARTPOLE = behavior_spec(GymEnv("CartPole-v1").make(), "CartPole-v1").to_dict()
NO_URLS = "linux_url: , darwin_url: , win_url: "
ANOTHER = {**CARTPOLE, "branches": [5]}


class Executed:
    """A pickle of one makes a file where it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def a_run(folder: Path, spec=None, *overrides: str) -> Path:
    """The folder of a run that has learned `spec`, if any."""
    folder.mkdir(parents=True)
    save_config(compose(["env.id=CartPole-v1", *overrides], TrainConfig, "config"), folder)
    if spec is not None:
        learned = {"behaviors": {"CartPole-v1": {"spec": spec, "samples": 1}}, "mean": 1.0}
        CheckpointStore(folder / "checkpoints").save("1", {}, learned)
    return folder


def damaged(folder: Path) -> Path:
    """A run whose only checkpoint has one byte changed."""
    (state,) = a_run(folder, CARTPOLE).glob("checkpoints/*/state.json")
    state.write_bytes(state.read_bytes().replace(b"1", b"2", 1))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the rows name: files by their content, folders of runs."""
    at = tmp_path_factory.mktemp("made")
    whole = write_demo(at / "whole.demo").read_bytes()
    (at / "empty.demo").touch()
    (at / "cut.demo").write_bytes(whole[:-3])
    (at / "text.demo").write_text("This is no demonstration.")
    (at / "pickle.demo").write_bytes(pickle.dumps(Executed(at / "executed")))
    (at / "wide.txt").write_bytes(whole)
    (at / "nothing").mkdir()
    for name, content in {"game.exe": b"MZ program", "game.x86_64": b"\x7fELF program", "notes": b"text"}.items():
        (at / name).write_bytes(content)
        (at / name).chmod(0o644 if name == "game.x86_64" else 0o755)
    (at / "builds").mkdir()
    (at / "builds" / "Game.exe").write_bytes(b"MZ program")
    for name, text in {
        "none.yaml": "a: [",
        "list.yaml": "- 1",
        "tag.yaml": "a: !!python/object/apply:os.getcwd []",
        "old.yaml": "default: {trainer: ppo}",
        "wrong.yaml": "behaviors: {A: {trainer_type: ppo, hyperparameters: {batch_sise: 3}}}",
        "good.yaml": "behaviors: {A: {trainer_type: ppo}}",
        "registry.yaml": f"environments:\n- Mac: {{{NO_URLS}, expected_reward: 1, description: }}",
        "odd_registry.yaml": "environments: 3",
        "torn_registry.yaml": "environments: [\n  a",
    }.items():
        (at / name).write_text(text)
    (at / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    a_run(at / "learned", CARTPOLE)
    a_run(at / "unlearned")
    a_run(at / "another", ANOTHER)
    damaged(at / "damaged")
    (a_run(at / "torn", CARTPOLE) / "config.yaml").write_text("env: [")
    (a_run(at / "newer", CARTPOLE) / "config.yaml").write_text("algorithm: {name: ppo, new: 1}\nenv: {id: A-v0}")
    return at


@pytest.fixture
def refused_there(refused, made, tmp_path):
    """As `refused`, with all that was made in the folder `../made`."""
    shutil.copytree(made, tmp_path / "made")
    return refused


BASIC, GYM = "env=basic algorithm=sac", "env.id=CartPole-v1"
MADE = "../made/"
DEMOS = [
    (f"{BASIC} algorithm.demos={MADE}gone.demo", f"algorithm.demos={MADE}gone.demo does not exist; record it"),
    (f"{BASIC} algorithm.demos={MADE}nothing", f"algorithm.demos={MADE}nothing: the folder holds no .demo file"),
    (f"{BASIC} algorithm.demos={MADE}*.dem", f"algorithm.demos={MADE}*.dem: no file fits the pattern"),
    (f"{BASIC} algorithm.demos={MADE}wide.txt", f"{MADE}wide.txt is not a .demo file"),
    (f"{BASIC} algorithm.demos={MADE}empty.demo", f"{MADE}empty.demo: it is empty, where the header"),
    (f"{BASIC} algorithm.demos={MADE}cut.demo", f"{MADE}cut.demo: it ends in record 24 of 24"),
    (f"{BASIC} algorithm.demos={MADE}text.demo", f"{MADE}text.demo: it is no demonstration of ML-Agents"),
    (f"{BASIC} algorithm.demos={MADE}pickle.demo", f"{MADE}pickle.demo: it is no demonstration of ML-Agents"),
    (f"{GYM} reward.gail.demos={MADE}whole.demo", "its discrete branches are [3], not [2]"),
    (f"{BASIC} reward.gail.demos={MADE}whole.demo reward.gail.strength=-1", "strength=-1.0 must be at least 0"),
]
RUNS = [
    (f"resume={MADE}gone", f"{MADE}gone is not a run's folder, it does not exist"),
    (f"resume={MADE}nothing", f"{MADE}nothing is not a run's folder, it has no config.yaml"),
    (f"resume={MADE}unlearned", f"resume={MADE}unlearned: the run has no checkpoint yet"),
    (f"resume={MADE}damaged", f"{MADE}damaged/checkpoints holds no checkpoint that can be loaded"),
    (
        f"resume={MADE}another",
        "behavior 'CartPole-v1': the environment has discrete branches [2], not [5]",
    ),
    (f"resume={MADE}torn", f"{MADE}torn/config.yaml is damaged or of another version: while parsing"),
    (f"resume={MADE}newer", f"{MADE}newer/config.yaml is damaged or of another version: unknown key algorithm.new"),
    (f"resume={MADE}learned seed=5", f"seed=5: the run in {MADE}learned was started with seed=0"),
    (f"resume={MADE}learned algorithm=sac", f"algorithm=sac: the run in {MADE}learned was started with algorithm=ppo"),
    (f"resume={MADE}learned seeed=5", "unknown key seeed; did you mean seed?"),
    (f"{GYM} init={MADE}unlearned", f"init={MADE}unlearned: the run has no checkpoint yet"),
    (f"{GYM} init={MADE}damaged", f"{MADE}damaged/checkpoints holds no checkpoint that can be loaded"),
    (
        f"{GYM} init={MADE}another",
        "behavior 'CartPole-v1': the environment has discrete branches [2], not [5]",
    ),
    (f"env=basic init={MADE}learned", "holds no behavior 'Basic-v0'; it has CartPole-v1"),
    (f"{GYM} run.dir={MADE}learned", f"run.dir={MADE}learned holds a run already: go on with resume={MADE}learned"),
    (f"{GYM} run.dir={MADE}notes/run", "is no folder and cannot become one: a file is in its place"),
]
PLAYERS = [
    (f"env.executable={MADE}game.exe", f"env.executable={MADE}game.exe is a build for Windows, and this is Linux"),
    (f"env.executable={MADE}game.x86_64", f"game.x86_64 may not be executed: chmod +x {MADE}game.x86_64"),
    (f"env.executable={MADE}notes", f"env.executable={MADE}notes is no program"),
    (f"env.executable={MADE}builds", "is a folder: name the build's executable in it (it holds Game.exe)"),
    (f"env.registry=Gamy env.manifest={MADE}registry.yaml", "env.registry=Gamy: there is no such entry, but Mac"),
    (f"env.registry=Mac env.manifest={MADE}registry.yaml", "the registry has no build of it for linux"),
    (f"env.registry=Game env.manifest={MADE}list.yaml", f"env.manifest={MADE}list.yaml cannot be read: "),
    (f"env.registry=Game env.manifest={MADE}odd_registry.yaml", f"env.manifest={MADE}odd_registry.yaml cannot be read"),
    (f"env.registry=Game env.manifest={MADE}torn_registry.yaml", f"env.manifest={MADE}torn_registry.yaml cannot be"),
]
COMMANDS = [
    (evaluate, f"run={MADE}unlearned", f"{MADE}unlearned/checkpoints holds no checkpoint that can be loaded"),
    (evaluate, f"run={MADE}damaged", f"{MADE}damaged/checkpoints holds no checkpoint that can be loaded"),
    (evaluate, f"run={MADE}learned env=unity env.executable={MADE}notes", "is no program: give the path of your build"),
    (record, f"player={MADE}unlearned to=a.demo", "holds no checkpoint that can be loaded"),
    (record, f"player={MADE}nothing to=a.demo", f"{MADE}nothing is not a run's folder, it has no config.yaml"),
    (record, f"env=basic player=bot to={MADE}whole.demo", f"to={MADE}whole.demo exists: name another file, or replace"),
    (record, f"env=basic player=bot to={MADE}notes/a.demo", "notes is a file, and should be a folder"),
    (record, f"env=basic player=bot to={MADE}builds", f"to={MADE}builds must end in .demo"),
    (demos, f"show {MADE}cut.demo", f"{MADE}cut.demo: it ends in record 24 of 24"),
    (demos, f"show {MADE}notes", f"{MADE}notes is not a .demo file"),
    (convert, f"{MADE}gone.yaml", f"{MADE}gone.yaml cannot be read (No such file or directory)"),
    (convert, f"{MADE}none.yaml", f"{MADE}none.yaml is not valid YAML: while parsing"),
    (convert, f"{MADE}list.yaml", f"{MADE}list.yaml holds no keys, such as behaviors"),
    (convert, f"{MADE}tag.yaml", f"{MADE}tag.yaml is not valid YAML: could not determine a constructor for the tag"),
    (convert, f"{MADE}latin.yaml", f"{MADE}latin.yaml is not written in UTF-8"),
    (convert, f"{MADE}old.yaml", "is written in the format before ML-Agents' release 3"),
    (convert, f"{MADE}wrong.yaml", "batch_sise"),
    (convert, f"{MADE}good.yaml to=1.yaml", "to=1.yaml: experiments are found by name in a folder `experiment`"),
]


@pytest.mark.parametrize(("line", "message"), DEMOS + RUNS)
def test_files_that_a_run_cannot_use_are_refused(refused_there, line, message):
    reported = refused_there(*line.split())
    assert message in reported
    assert "\n" not in reported


@pytest.mark.skipif(sys.platform != "linux", reason="names builds for other systems than Linux")
@pytest.mark.parametrize(("line", "message"), PLAYERS)
def test_files_that_are_no_player_are_refused(refused_there, line, message):
    reported = refused_there("env=unity", *line.split())
    assert message in reported
    assert "\n" not in reported


@pytest.mark.parametrize(("command", "line", "message"), COMMANDS)
def test_files_that_a_command_cannot_use_are_refused(refused_there, command, line, message):
    reported = refused_there(*line.split(), main=command.main)
    assert message in reported
    assert "\n" not in reported


def test_a_run_that_is_still_going_on_is_not_resumed(refused, tmp_path):
    folder = a_run(tmp_path / "run", CARTPOLE)
    code = "import sys; from pathlib import Path; from trainer.runtime.run_lock import run_lock\n"
    code += "with run_lock(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    environment = {**os.environ, "PYTHONPATH": str(Path(train.__file__).parents[1])}
    other = subprocess.Popen(
        [sys.executable, "-c", code, folder], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()
        reported = refused(f"resume={folder}")
        assert reported.startswith(
            f"the run in {folder} is still going on, in another process: wait for its end or end it"
        )
    finally:
        other.kill()
        other.communicate()
    with run_lock(folder):  # a kill leaves nothing behind
        pass


def test_nothing_of_a_file_is_executed(made):
    assert not (made / "executed").exists()
