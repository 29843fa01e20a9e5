import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from envs.gymnasium import GymEnv, behavior_spec
from trainer import __main__ as command
from trainer.checkpoint import CheckpointStore
from trainer.compose import CONF, load_config
from trainer.config import TrainConfig

ENV = ["env.id=CartPole-v1"]
BAD_INPUT: list[tuple[list[str], str]] = [
    ([], "env.id is missing: give it, for example env.id=CartPole-v1"),
    (["+experiment=snoopy_sack"], "unknown experiment 'snoopy_sack'; did you mean snoopy_sac? there is basic_ppo,"),
    (["experiment=snoopy_sac"], "+experiment=snoopy_sac"),
    (["env=gim"], "unknown env 'gim'; did you mean gym? there is basic, bubble_shooter, corridor, gym"),
    (["algorithm=td3"], "unknown algorithm 'td3'; there is custom, ppo, sac"),
    (["reward=gail"], "unknown reward 'gail'; there is extrinsic"),
    (["env=3"], "env=3: a config group takes the name of one of its choices"),
    (["env=null"], "env=null: a config group takes the name of one of its choices"),
    ([*ENV, "evn.id=x"], "unknown key evn; did you mean env?"),
    ([*ENV, "env.instnces=3"], "unknown key env.instnces; did you mean env.instances?"),
    ([*ENV, "+env.instnces=3"], "unknown key env.instnces; did you mean env.instances?"),
    ([*ENV, "++env.instnces=3"], "unknown key env.instnces; did you mean env.instances?"),
    ([*ENV, "+algorithm.lerning_rate=1"], "unknown key algorithm.lerning_rate; did you mean algorithm.learning_rate?"),
    ([*ENV, "+algorithm.network.hiden=[1]"], "algorithm.network.hiden; did you mean algorithm.network.hidden?"),
    ([*ENV, "+experimnt=snoopy_sac"], "unknown key experimnt; did you mean experiment?"),
    ([*ENV, "algorithm.batch_size=3"], "unknown key algorithm.batch_size; did you mean algorithm."),
    ([*ENV, "+xyz=3"], "unknown key xyz; the configuration holds env, algorithm,"),
    ([*ENV, "env.instances=abc"], "env.instances=abc: expected an integer, not 'abc'"),
    ([*ENV, "env.instances=1.5"], "env.instances=1.5: expected an integer, not '1.5'"),
    ([*ENV, "env.time_scale=fast"], "env.time_scale=fast: expected a number"),
    ([*ENV, "algorithm.network.normalize=7up"], "algorithm.network.normalize=7up: expected true or false"),
    ([*ENV, "env.stepping=sync"], "env.stepping=sync: expected one of async, lockstep"),
    ([*ENV, "device=gpu"], "device=gpu: expected one of auto, cpu, cuda"),
    ([*ENV, "run.mode=fast"], "run.mode=fast: expected one of async, inline"),
    ([*ENV, "algorithm.network.hidden=[a]"], "algorithm.network.hidden=[a]: expected an integer"),
    ([*ENV, "algorithm.network.hidden=64"], "algorithm.network.hidden=64: expected a list, such as [1,2]"),
    ([*ENV, "seed=null"], "seed=null: it needs a value"),
    ([*ENV, "run=4"], "run=4: it holds keys of its own"),
    ([*ENV, "seed=1,2"], "seed=1,2"),
    ([*ENV, "seed=${sed}"], "Interpolation key 'sed' not found"),
    ([*ENV, "seed"], "cannot read 'seed': write key=value"),
    ([*ENV, "run.name=a=b"], "cannot read 'run.name=a=b'"),
    ([*ENV, "env.instances=0"], "env.instances=0 must be above 0"),
    ([*ENV, "env.min_instances=0"], "env.min_instances=0 must be above 0"),
    ([*ENV, "env.min_instances=17"], "env.min_instances=17 is more than env.instances=16"),
    ([*ENV, "env.workers=17"], "env.workers=17 is more than env.instances=16"),
    ([*ENV, "env.time_scale=-1"], "env.time_scale=-1.0 must be 0 or more"),
    ([*ENV, "env.step_timeout=nan"], "env.step_timeout=nan must be above 0"),
    ([*ENV, "stop.samples=-5"], "stop.samples=-5 must be above 0"),
    ([*ENV, "checkpoint.keep=0"], "checkpoint.keep=0 must be above 0"),
    ([*ENV, "goal.also_window_samples=[0]"], "goal.also_window_samples[0]=0 must be above 0"),
    ([*ENV, "seed=-1"], "seed=-1 must be 0 or more"),
    ([*ENV, "algorithm.discount=1.5"], "algorithm.discount=1.5 must lie between 0 and 1"),
    ([*ENV, "algorithm=sac", "algorithm.batch_size=0"], "algorithm.batch_size=0 must be at least 1"),
    ([*ENV, "algorithm.name=sac"], "algorithm.name=sac does not fit"),
    ([*ENV, "reward.extrinsic.strength=-1"], "reward.extrinsic.strength=-1.0 must be at least 0"),
    ([*ENV, "goal.metric=x"], "goal.metric=x needs one of goal.at_most and goal.at_least; there is neither"),
    ([*ENV, "goal.metric=x", "goal.at_most=1", "goal.at_least=1"], "there is goal.at_most=1.0 and goal.at_least=1.0"),
    ([*ENV, "goal.at_most=1"], "goal.at_most=1.0 needs goal.metric"),
    (["env.id=Cartpole-v1"], "CartPole-v1"),
    (["env.id=no_such_module:Game-v0"], "no_such_module"),
    ([*ENV, "env.wrappers=[no.such:Wrapper]"], "no.such"),
    ([*ENV, "algorithm.buffer_memory_mib=100000000"], "the buffer (algorithm.buffer_memory_mib) 97656.25 GiB"),
    (["resume=nowhere"], "nowhere is not a run's folder, it does not exist"),
    (["resume=."], ". is not a run's folder, it has no config.yaml"),
    ([*ENV, "init=nowhere"], "nowhere is not a run's folder, it does not exist"),
    ([*ENV, "run.dir="], "run.dir is empty"),
    ([*ENV, "--config-dir", "nowhere"], "--config-dir nowhere is not a folder"),
    ([*ENV, "--config-path", "nowhere"], "--config-path"),
    ([*ENV, "--config-name", "nowhere"], "nowhere"),
]


class Trained:
    """Stands in for the training, and tells what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[TrainConfig, Path, Path | None]] = []
        self.status = 0

        class Module:
            train = self

        monkeypatch.setitem(sys.modules, "trainer.run", Module)  # type: ignore[arg-type]

    def __call__(self, config: TrainConfig, folder: Path, resume_from: Path | None) -> int:
        self.calls.append((config, folder, resume_from))
        return self.status


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trained:
    monkeypatch.chdir(tmp_path)
    return Trained(monkeypatch)


@pytest.mark.parametrize(("argv", "message"), BAD_INPUT, ids=[" ".join(argv) or "nothing" for argv, _ in BAD_INPUT])
def test_bad_input_is_one_message_and_status_2_and_nothing_begins(
    argv: list[str], message: str, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(argv) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert out == ""
    assert not trained.calls
    assert not list(tmp_path.iterdir())


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
    (config, first, resume_from), (_, second, _) = trained.calls
    assert first.parent == second.parent == Path(parent)
    assert first != second
    assert not set("=: ") & set(str(first))
    assert resume_from is None
    assert load_config(first) == config


def test_run_dir_is_the_folder(trained: Trained, tmp_path: Path) -> None:
    assert command.main([*ENV, f"run.dir={tmp_path}/a=b c"]) == 0
    assert trained.calls[0][1] == tmp_path / "a=b c"
    assert load_config(tmp_path / "a=b c").env.id == "CartPole-v1"


def test_a_folder_that_holds_a_run_is_not_used_again(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*ENV, "run.dir=a"]) == 0
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


def test_resume_goes_on_in_the_runs_folder(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*ENV, "run.dir=a"]) == 0
    assert command.main(["resume=a"]) == 2
    assert "resume=a: the run has no checkpoint yet" in capsys.readouterr().err
    CheckpointStore(Path("a/checkpoints")).save("1", {}, LEARNED)
    before = Path("a/config.yaml").read_text()
    assert command.main(["resume=a", "stop.samples=9"]) == 0
    config, folder, resume_from = trained.calls[-1]
    assert (folder, resume_from, config.stop.samples, config.env.id) == (Path("a"), Path("a"), 9, "CartPole-v1")
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
