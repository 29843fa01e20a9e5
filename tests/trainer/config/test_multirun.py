"""`-m` makes a grid in series. Hydra's own settings are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from envs.spec import UserError
from trainer.config.command import run_command
from trainer.config.compose import CONF, compose
from trainer.config.schema import EvaluateConfig, ExportConfig, PushConfig, TrainConfig

GYM = "env.id=A-v0"


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


def test_a_signal_ends_a_grid() -> None:
    status, made = run_here("-m", GYM, "seed=1,2,3", statuses=[0, 130])
    assert (status, len(made)) == (130, 2)


def test_a_run_that_fails_does_not_end_a_grid(capsys: pytest.CaptureFixture[str]) -> None:
    made = []

    def run(config: TrainConfig) -> int:
        made.append(config.seed)
        if config.seed == 2:
            raise UserError("the game is broken")
        return 0

    assert run_command(["-m", GYM, "seed=1,2,3"], TrainConfig, "config", lambda _: None, run) == 2
    assert made == [1, 2, 3]
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["Run 1 of 3: seed=1", "Run 2 of 3: seed=2", "error: the game is broken", "Run 3 of 3: seed=3"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("hydra: {sweep: {dir: sweeps}}", "hydra.sweep.dir=sweeps"),
        ("hydra: {sweeper: {params: {seed: '1,2'}}}", "hydra.sweeper.params.seed=1,2"),
        ("hydra: {launcher: {_target_: x.Y}}", "hydra.launcher._target_=x.Y"),
        ("hydra: {job: {chdir: true}}", "hydra.job.chdir=True"),
        ("hydra: {callbacks: {mine: {_target_: x.Y}}}", "hydra.callbacks.mine._target_=x.Y"),
        ("hydra: {mode: MULTIRUN}", "hydra.mode=RunMode.MULTIRUN"),
        ("defaults: [override /hydra/job_logging: none]", "hydra.job_logging."),
    ],
)
@pytest.mark.parametrize("flag", [[], ["-m"]])
def test_hydras_settings_in_a_file_are_refused(
    text: str, key: str, flag: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    assert run_here(*flag, "--config-dir", str(tmp_path / "conf"), "+experiment=mine", GYM) == (2, [])
    message = capsys.readouterr().err
    assert message.startswith(f"error: {key}")
    assert "has no effect here" in message
    assert message.count("\n") == 1


def test_a_file_may_set_what_hydras_flags_show(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nseed: 3\nhydra: {help: {app_name: mine}, job: {name: mine}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    status, made = run_here("--config-dir", str(tmp_path), "+experiment=mine", GYM)
    assert (status, [each.seed for each in made]) == (0, [3])


def test_all_runs_are_checked_before_the_first_begins(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("-m", GYM, "seed=1,-1") == (2, [])
    assert run_here("-m", GYM, "seed=1,2", "run.dir=one") == (2, [])
    first, second = capsys.readouterr().err.splitlines()
    assert "seed=-1 must lie between" in first
    assert second.endswith("2 runs need one each")


@pytest.mark.parametrize(("schema", "name"), [(ExportConfig, "export"), (PushConfig, "push")])
def test_models_of_several_runs_need_places_of_their_own(
    schema: type, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", "run=a", "checkpoint=best,last", "to=one"]
    assert run_command(words, schema, name, lambda _: None, lambda _: 0) == 2
    assert capsys.readouterr().err == "error: to=one: 2 runs need one each\n"


def test_what_a_run_refuses_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    def run(config: TrainConfig) -> int:
        raise UserError("the game is missing")

    assert run_command([GYM], TrainConfig, "config", lambda _: None, run) == 2
    assert capsys.readouterr().err == "error: the game is missing\n"


def test_other_commands_make_a_grid_too() -> None:
    made: list[str] = []

    def run(config: EvaluateConfig) -> int:
        made.append(config.run)
        return 0

    words = ["-m", "run=a,b", "env.instances=2,3", "seed=1,2"]
    assert run_command(words, EvaluateConfig, "evaluate", lambda _: None, run) == 0
    assert made == ["a,b"] * 4


@pytest.mark.parametrize("flag", ["", "-m "])
@pytest.mark.parametrize(
    "setting",
    [
        *("hydra.run.dir=x", "hydra/launcher=joblib", "hydra/launcher=nowhere", "hydra.launcher.n_jobs=2"),
        *("hydra/sweeper=optuna", "hydra.sweeper._target_=x.Y", "hydra.sweeper.max_batch_size=0"),
        *("+hydra.sweeper.params={seed:'1,2'}", "hydra.sweeper.params.seed=3", "hydra.sweep.dir=x"),
        *("hydra.sweep.dirr=x", "hydra.job.chdir=true", "+hydra.job.env_set.A=b", "hydra.verbose=true"),
        *("hydra.mode=MULTIRUN", "hydra/job_logging=none", "+hydra.callbacks.a._target_=x.Y", "~hydra/hydra_logging"),
    ],
)
def test_hydras_settings_are_refused(flag: str, setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(GYM, *f"{flag}{setting}".split()) == (2, [])
    message = capsys.readouterr().err
    assert message.startswith(f"error: {setting} has no effect here")
    assert "run.dir=" in message
    assert "-m seed=1,2" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-m seed=interval(0,1)", "seed=interval(0,1): -m takes single values"),
        ("-m sed=1,2", "unknown key sed; did you mean seed?"),
    ],
)
def test_a_grid_that_cannot_be_made_is_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(GYM, *words.split()) == (2, [])
    seen = capsys.readouterr().err
    assert seen.startswith(f"error: {message}")
    assert seen.count("\n") == 1


def test_a_configuration_without_a_command_line_takes_none_of_hydras_settings() -> None:
    with pytest.raises(UserError, match=r"hydra.run.dir=x has no effect here"):
        compose([GYM, "hydra.run.dir=x"], TrainConfig, "config")


def test_only_the_public_interface_of_hydra_is_used() -> None:
    sources = [
        path for name in ("trainer", "algorithms", "envs", "buffers") for path in (CONF.parent / name).rglob("*.py")
    ]
    assert len(sources) > 100
    assert not [path for path in sources if "hydra._internal" in path.read_text(encoding="utf-8")]
