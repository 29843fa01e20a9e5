"""`-m`: a grid in series, or as Hydra's launcher makes it. What cannot take effect is refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, run_job
from hydra.plugins.launcher import Launcher
from omegaconf import open_dict

from envs.spec import UserError
from trainer.config.command import run_command
from trainer.config.compose import CONF, compose
from trainer.config.schema import EvaluateConfig, TrainConfig

GYM = "env.id=A-v0"
QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]


class BackwardLauncher(Launcher):
    """Makes runs in reverse, to be told from Hydra's own."""

    __module__ = "hydra_plugins.backward"  # Hydra takes plugins from there alone

    def __init__(self, note: str) -> None:
        self.note = note

    def setup(self, **given: Any) -> None:
        self.given = given

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        os.environ["LAUNCHED_WITH"] = self.note
        results = []
        for number, overrides in reversed(list(enumerate(job_overrides, initial_job_idx))):
            config = self.given["hydra_context"].config_loader.load_sweep_config(self.given["config"], list(overrides))
            with open_dict(config):
                config.hydra.job.num, config.hydra.job.id = number, str(number)
            results.append(
                run_job(
                    task_function=self.given["task_function"],
                    config=config,
                    job_dir_key="hydra.sweep.dir",
                    job_subdir_key="hydra.sweep.subdir",
                    hydra_context=self.given["hydra_context"],
                    configure_logging=False,
                )
            )
        return results


@pytest.fixture(autouse=True)
def _plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package, module = ModuleType("hydra_plugins"), ModuleType("hydra_plugins.backward")
    package.backward, module.BackwardLauncher = module, BackwardLauncher  # type: ignore[attr-defined]
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "hydra_plugins", package)
    monkeypatch.setitem(sys.modules, "hydra_plugins.backward", module)
    Plugins.instance().register(BackwardLauncher)
    node = {"_target_": "hydra_plugins.backward.BackwardLauncher", "note": "nothing"}
    ConfigStore.instance().store(group="hydra/launcher", name="backward", node=node, provider="tests")
    sweeper = {"_target_": "hydra_plugins.clever.CleverSweeper"}
    ConfigStore.instance().store(group="hydra/sweeper", name="clever", node=sweeper, provider="tests")
    monkeypatch.setenv("LAUNCHED_WITH", "")
    monkeypatch.chdir(tmp_path)


def run_here(*argv: str, statuses: Sequence[int] = ()) -> tuple[int, list[TrainConfig]]:
    made: list[TrainConfig] = []

    def run(config: TrainConfig) -> int:
        made.append(config)
        return dict(enumerate(statuses)).get(len(made) - 1, 0)

    return run_command(argv, TrainConfig, "config", lambda _: None, run), made


def test_a_grid_goes_in_order_and_leaves_nothing_of_hydras(tmp_path: Path) -> None:
    status, made = run_here("-m", GYM, "seed=range(1,3)", "algorithm=ppo,sac", "run.dir=null")
    assert status == 0
    assert [(each.seed, each.algorithm.name) for each in made] == [(1, "ppo"), (1, "sac"), (2, "ppo"), (2, "sac")]
    assert not list(tmp_path.iterdir())


def test_the_first_status_that_is_not_zero_ends_a_grid() -> None:
    status, made = run_here("-m", GYM, "seed=1,2,3", statuses=[0, 130])
    assert (status, len(made)) == (130, 2)


def test_another_launcher_makes_the_runs(tmp_path: Path) -> None:
    words = ["hydra/launcher=backward", "hydra.launcher.note=hello", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    status, made = run_here("-m", GYM, "seed=1,2", "algorithm.clip=0.1,0.3", *words)
    assert status == 0
    assert [(each.seed, each.algorithm.clip) for each in made] == [(2, 0.3), (2, 0.1), (1, 0.3), (1, 0.1)]  # type: ignore[union-attr]
    assert os.environ["LAUNCHED_WITH"] == "hello"
    assert [each.run.dir for each in made] == [str(tmp_path / "sweep" / str(number)) for number in (3, 2, 1, 0)]
    assert (tmp_path / "sweep" / "3" / ".hydra" / "overrides.yaml").exists()


def test_sweep_folders_are_where_runs_go(tmp_path: Path) -> None:
    words = [f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=${seed}-${hydra.job.num}", *QUIET]
    status, made = run_here("-m", GYM, "seed=7,8", *words)
    assert (status, [each.run.dir for each in made]) == (0, [str(tmp_path / "7-0"), str(tmp_path / "8-1")])
    _, made = run_here("-m", GYM, "seed=7", "run.dir=mine", *words)
    assert [each.run.dir for each in made] == ["mine"]


def test_settings_of_hydras_jobs_take_effect(tmp_path: Path) -> None:
    seen = []

    def run(config: TrainConfig) -> int:
        seen.append((os.environ.get("FROM_HYDRA"), Path.cwd()))
        return 0

    words = ["+hydra.job.env_set.FROM_HYDRA=yes", "hydra.job.chdir=true", f"hydra.sweep.dir={tmp_path}", *QUIET]
    assert run_command(["-m", GYM, "seed=1,2", *words], TrainConfig, "config", lambda _: None, run) == 0
    assert seen == [("yes", tmp_path / "0"), ("yes", tmp_path / "1")]


def test_params_of_the_sweeper_are_swept_and_the_command_line_is_stronger(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra: {sweeper: {params: {seed: '1,2', algorithm.clip: '0.1,0.2', init: /a=b}}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    _, made = run_here("-m", "--config-dir", str(tmp_path), GYM, "+experiment=mine", "algorithm.clip=0.3")
    assert [(each.seed, each.algorithm.clip, each.init) for each in made] == [(1, 0.3, "/a=b"), (2, 0.3, "/a=b")]  # type: ignore[union-attr]


def test_hydras_settings_in_a_file_take_effect_or_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    text = (
        f"# @package _global_\nhydra: {{sweep: {{dir: {tmp_path.as_posix()}}}, sweeper: {{params: {{seed: '1,2'}}}}}}\n"
    )
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(text)
    words = ["--config-dir", str(tmp_path / "conf"), "+experiment=mine", GYM]
    status, made = run_here("-m", *words, *QUIET)
    assert (status, [(each.seed, each.run.dir) for each in made]) == (
        0,
        [(1, os.path.join(tmp_path.as_posix(), "0")), (2, os.path.join(tmp_path.as_posix(), "1"))],
    )
    assert run_here(*words) == (2, [])
    assert f"hydra.sweep.dir={tmp_path.as_posix()} has no effect without -m" in capsys.readouterr().err


def test_a_launchers_runs_are_checked_before_the_first_begins(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("-m", GYM, "seed=1,-1", "hydra/launcher=backward") == (2, [])
    assert run_here("-m", GYM, "seed=1,2", "hydra.sweep.subdir=one") == (2, [])
    first, second = capsys.readouterr().err.splitlines()
    assert "seed=-1 must lie between" in first
    assert second.endswith("2 runs need one each")


@pytest.mark.parametrize("status", [1, 130])
def test_a_launched_runs_status_is_the_commands(status: int) -> None:
    words = ["-m", GYM, "seed=1,2", "hydra/launcher=backward"]
    assert run_here(*words, statuses=[status])[0] == status


def test_what_a_launched_run_refuses_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    def run(config: TrainConfig) -> int:
        raise UserError("the game is missing")

    words = ["-m", GYM, "seed=1,2", "hydra/launcher=backward"]
    assert run_command(words, TrainConfig, "config", lambda _: None, run) == 2
    assert capsys.readouterr().err.endswith("error: the game is missing\n")


def test_other_commands_are_launched_too() -> None:
    made: list[str] = []

    def run(config: EvaluateConfig) -> int:
        made.append(config.run)
        return 0

    words = ["-m", "run=a,b", "env.instances=2,3", "seed=1,2", "hydra/launcher=backward"]
    assert run_command(words, EvaluateConfig, "evaluate", lambda _: None, run) == 0
    assert made == ["a,b"] * 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("hydra.run.dir=x", "hydra.run.dir=x has no effect here: give run.dir=, or with -m hydra.sweep.dir="),
        ("-m hydra.run.dir=x", "hydra.run.dir=x has no effect here: give run.dir=, or with -m hydra.sweep.dir="),
        ("hydra/launcher=backward", "hydra/launcher=backward has no effect without -m"),
        ("hydra.sweep.dir=x", "hydra.sweep.dir=x has no effect without -m"),
        ("hydra.job.chdir=true", "hydra.job.chdir=True has no effect without -m"),
        ("hydra.verbose=true", "hydra.verbose=True has no effect without -m"),
        ("hydra.mode=MULTIRUN", "hydra.mode=MULTIRUN has no effect here: give -m for several runs"),
        ("-m hydra/sweeper=clever", "hydra/sweeper=clever has no effect here: -m makes the grid of the values"),
        ("-m hydra.sweeper._target_=x.Y", "hydra.sweeper._target_=x.Y has no effect here: -m makes the grid"),
        ("-m +hydra.callbacks.a._target_=x.Y", "hydra.callbacks.a._target_=x.Y has no effect here: callbacks are not"),
        (
            "-m +hydra.sweeper.params={seed:'1,2'}",
            "+hydra.sweeper.params={seed:'1,2'}: give it in a YAML file, or seed=1,2",
        ),
        ("-m hydra.sweeper.params.seed=3", "hydra.sweeper.params.seed=3: give it in a YAML file, or seed=1,2"),
        ("-m hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size=0 must be at least 1"),
        ("-m hydra.launcher._target_=x.Y", "Hydra's launcher cannot be made: Invalid plugin 'x.Y'"),
        ("-m hydra/launcher=nowhere", "unknown hydra/launcher 'nowhere'; there is backward, basic"),
        ("-m hydra/sweeper=optuna", "unknown hydra/sweeper 'optuna'; there is basic"),
        ("-m hydra.sweep.dirr=x", "unknown key hydra.sweep.dirr; did you mean hydra.sweep.dir?"),
        ("-m seed=interval(0,1)", "seed=interval(0,1): -m makes the grid of the values that it is given"),
        ("-m hydra/launcher=backward sed=1,2", "unknown key sed; did you mean seed?"),
    ],
)
def test_what_hydra_cannot_do_here_is_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(GYM, *words.split()) == (2, [])
    told = capsys.readouterr().err
    assert told.startswith(f"error: {message}")
    assert told.count("\n") == 1


def test_a_configuration_without_a_command_line_takes_none_of_hydras_settings() -> None:
    with pytest.raises(UserError, match=r"hydra.run.dir=x has no effect here"):
        compose([GYM, "hydra.run.dir=x"], TrainConfig, "config")


def test_only_the_public_interface_of_hydra_is_used() -> None:
    sources = [
        path for name in ("trainer", "algorithms", "envs", "buffers") for path in (CONF.parent / name).rglob("*.py")
    ]
    assert len(sources) > 100
    assert not [path for path in sources if "hydra._internal" in path.read_text(encoding="utf-8")]
