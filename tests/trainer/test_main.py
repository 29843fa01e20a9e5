import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from envs.gym.adapter import GymEnv, behavior_spec
from trainer import __main__ as command
from trainer.checkpoint import CheckpointStore
from trainer.config.compose import CONF, load_config
from trainer.config.schema import TrainConfig
from trainer.runtime.run_lock import run_lock

ENV = ["env.id=CartPole-v1"]


class Trained:
    """Stands in for the training, and tells what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[TrainConfig, Path]] = []
        self.status = 0
        monkeypatch.setattr("trainer.runtime.start.train", self)

    def __call__(self, config: TrainConfig, folder: Path) -> int:
        self.calls.append((config, folder))
        return self.status


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trained:
    monkeypatch.chdir(tmp_path)
    return Trained(monkeypatch)


def test_without_a_gpu_cuda_is_refused(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = SimpleNamespace(__version__="2.13.0", cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", torch)  # type: ignore[arg-type]
    assert command.main([*ENV, "device=cuda"]) == 2
    assert "device=cuda, but torch 2.13.0 finds no GPU" in capsys.readouterr().err
    assert not trained.calls


def test_a_missing_optional_library_is_named(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    assert command.main(["env.id=LunarLander-v3"]) == 2
    assert 'pip install "gymnasium[box2d]"' in capsys.readouterr().err
    assert not trained.calls


@pytest.mark.parametrize(
    ("argv", "parent"),
    [
        (["+experiment=basic_ppo"], "runs/basic_ppo"),
        ([*ENV, "algorithm=sac"], "runs/gym_sac"),
        ([*ENV, "run.name='a=b: c/d'"], "runs/a-b--c-d"),
    ],
)
def test_runs_lie_by_experiment_and_time_under_names_that_every_system_bears(
    argv: list[str], parent: str, trained: Trained
) -> None:
    assert command.main(argv) == 0
    assert command.main(argv) == 0
    (config, first), (_, second) = trained.calls
    assert first.parent == second.parent == Path(parent)
    assert first != second
    assert not set("=: ") & set(str(first))
    assert config.resume is None
    assert load_config(first) == config


def test_run_dir_is_the_folder(trained: Trained, tmp_path: Path) -> None:
    assert command.main([*ENV, f"run.dir={tmp_path}/a=b c"]) == 0
    assert trained.calls[0][1] == tmp_path / "a=b c"
    assert load_config(tmp_path / "a=b c").env.id == "CartPole-v1"


def test_a_folder_that_holds_a_run_is_not_used_again(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*ENV, "run.dir=a"]) == 0
    CheckpointStore(Path("a/checkpoints")).save("1", {}, LEARNED)
    assert command.main([*ENV, "run.dir=a"]) == 2
    assert "run.dir=a holds a run already: go on with resume=a" in capsys.readouterr().err
    Path("file").touch()
    assert command.main([*ENV, "run.dir=file/a"]) == 2
    assert "a file is in its place" in capsys.readouterr().err


LEARNED = {
    "behaviors": {
        "CartPole-v1": {
            "spec": behavior_spec(GymEnv("CartPole-v1").make(), "CartPole-v1").to_dict(),
            "samples": 1,
        }
    }
}
"""What a checkpoint of these runs says of its behavior."""


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*ENV, "run.dir=a"]) == 0
    store = CheckpointStore(Path("a/checkpoints"))
    store.save_best({}, LEARNED)
    with run_lock(Path("a")):  # which ends with the process that was killed
        assert command.main([*ENV, "run.dir=a", "seed=1"]) == 2
    assert "run.dir=a holds a run that is still going on" in capsys.readouterr().err
    assert (load_config("a").seed, store.best() is None) == (0, False)
    assert command.main([*ENV, "run.dir=a", "seed=1"]) == 0
    assert (load_config("a").seed, store.best()) == (1, None)
    assert trained.calls[-1][1] == Path("a")


def test_resume_goes_on_in_the_runs_folder(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*ENV, "run.dir=a"]) == 0
    assert command.main(["resume=a"]) == 2
    assert "resume=a: the run has no checkpoint yet" in capsys.readouterr().err
    CheckpointStore(Path("a/checkpoints")).save("1", {}, LEARNED)
    before = Path("a/config.yaml").read_text()
    assert command.main(["resume=a", "stop.samples=9"]) == 0
    config, folder = trained.calls[-1]
    assert (folder, config.resume, config.stop.samples, config.env.id) == (Path("a"), "a", 9, "CartPole-v1")
    assert Path("a/config.yaml").read_text() == before


def test_init_takes_a_run_that_has_weights(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*ENV, "run.dir=a"]) == 0
    assert command.main([*ENV, "init=a"]) == 2
    assert "init=a: the run has no checkpoint yet" in capsys.readouterr().err
    CheckpointStore(Path("a/checkpoints")).save_best({}, LEARNED)
    assert command.main([*ENV, "init=a"]) == 0
    assert trained.calls[-1][0].init == "a"


def test_the_trainings_exit_status_is_the_commands(trained: Trained) -> None:
    trained.status = 130
    assert command.main([*ENV, "-m", "seed=1,2"]) == 130
    assert len(trained.calls) == 1, "an interrupt ends a sweep"


def test_the_command_refuses_bad_input_from_anywhere(tmp_path: Path) -> None:
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(CONF.parent)}
    argv = [sys.executable, "-m", "trainer", "+env.idd=3"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown key env.idd; did you mean env.id?\n"
    assert not list(tmp_path.iterdir())


SCRIPT = """
import sys
from trainer.__main__ import main
sys.exit(main(["env.id=CartPole-v1", "env.instances=2", "stop.samples=9", "device=cpu", "run.dir=run"]))
"""


@pytest.mark.parametrize("program", ["script.py", "-"])
def test_a_program_without_a_main_guard_and_one_from_a_pipe_train(tmp_path: Path, program: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(CONF.parent)}
    command = [sys.executable, program]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, input=SCRIPT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("The run ended (samples)") == 1
