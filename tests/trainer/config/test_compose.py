import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from algorithms.ppo.settings import PPOSettings
from algorithms.sac.settings import SACSettings
from envs.config import Stepping
from envs.games.bubbles.bot import HUMAN_BUBBLES
from envs.gym.config import GymConfig
from envs.spec import UserError
from envs.unity.config import UnityConfig
from tests.trainer.tiny_runs import rewrite_config
from trainer.config.command import run_command
from trainer.config.compose import CONF, compose, load_config, save_config, search_path
from trainer.config.meanings import list_settings
from trainer.config.schema import EvaluateConfig, TrainConfig, Which, settings_of
from trainer.demos.load import demo_paths
from trainer.record.__main__ import main as record_main
from trainer.runtime.checks import check_train

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def compose_train(*overrides: str) -> TrainConfig:
    return compose(overrides, TrainConfig, "config")


def saved_run(folder: Path, *overrides: str) -> Path:
    folder.mkdir()
    save_config(compose_train(*overrides), folder)
    return folder


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_makes_sense(experiment: str, tmp_path: Path) -> None:
    demos = tmp_path / "level25.demo"
    overrides = []
    if experiment.endswith("_gail"):
        assert record_main(["env=bubble_shooter", "player=bot", f"to={demos}"]) == 0
        overrides = [f"reward.gail.demos={demos}"]
    config = compose_train(f"+experiment={experiment}", *overrides)
    check_train(config)
    assert config.run.choices["experiment"] == experiment
    assert config.algorithm.name in experiment or experiment in ("basic_unity", "duel_selfplay", "keepers_selfplay")


def test_the_goal_of_the_bubble_shooter_is_the_human_figure() -> None:
    for experiment in (each for each in EXPERIMENTS if each.startswith("snoopy")):
        goal = compose_train(f"+experiment={experiment}").goal
        assert (goal.metric, goal.window_samples, goal.also_window_samples) == ("bubbles", 5000, [1000])
        assert goal.at_most == pytest.approx(HUMAN_BUBBLES, abs=0.01)
        assert goal.at_most is not None
        assert goal.at_most <= HUMAN_BUBBLES


def test_lockstep_experiment_differs_from_its_asynchronous_twin_in_stepping_and_lag_alone() -> None:
    ours, other = compose_train("+experiment=snoopy_ppo"), compose_train("+experiment=snoopy_ppo_lockstep")
    assert (ours.env.stepping, other.env.stepping) == (Stepping["async"], Stepping["lockstep"])
    assert other.algorithm.max_lag == 0
    other.algorithm.max_lag = ours.algorithm.max_lag
    assert other.algorithm == ours.algorithm


def test_a_command_line_becomes_typed_objects() -> None:
    config = compose_train("env=gym", "env.id=CartPole-v1", "algorithm=sac", "algorithm.network.hidden=[64,32]")
    assert isinstance(config.algorithm, SACSettings)
    assert config.algorithm.network.hidden == [64, 32]
    assert config.env.id == "CartPole-v1"
    assert isinstance(compose_train("env.id=CartPole-v1").algorithm, PPOSettings)


def test_configurations_are_frozen() -> None:
    config: Any = compose_train("env.id=CartPole-v1")
    with pytest.raises(AttributeError):
        config.run.log_seconds = 3


def test_kwargs_are_open() -> None:
    config = compose_train("env.id=A-v0", "env.kwargs.size=3", "+env.kwargs.deep.er=x", "env.wrappers=[a.b:C]")
    assert config.env.kwargs == {"size": 3, "deep": {"er": "x"}}
    assert compose_train("env.id=A-v0", "env.kwargs={a: 1}").env.kwargs == {"a": 1}
    assert config.env.wrappers == ["a.b:C"]


@pytest.mark.parametrize(
    "path",
    [
        "/a/b=c",
        "a b",
        "x[1]{2},3",
        "it's",
        'say "hi"',
        "C:\\runs\\new",
        "tail\\",
        "\\'",
        "a:b",
        "(x)",
        "100%",
        "é",
        "a'",
    ],
)
def test_paths_take_any_string(path: str) -> None:
    assert compose_train("env.id=A-v0", f"run.dir={path}").run.dir == path
    assert compose_train("env.id=A-v0", f"init={path}").init == path
    assert compose([f"run={path}"], EvaluateConfig, "evaluate").run == path


def test_quoted_paths_lose_their_quotes_and_null_is_none() -> None:
    assert compose_train("env.id=A-v0", "run.dir='a b'").run.dir == "a b"
    assert compose_train("env.id=A-v0", "run.dir=null").run.dir is None


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    assert compose_train("env.id=A-v0", "run.dir=~/x=1").run.dir == "/home/me/x=1"


def test_another_command_has_a_schema_of_its_own() -> None:
    config = compose(["run=runs/a", "episodes=7", "checkpoint=last"], EvaluateConfig, "evaluate")
    assert (config.run, config.episodes, config.checkpoint) == ("runs/a", 7, Which["last"])
    with pytest.raises(UserError, match=r"unknown key episods; did you mean episodes\?"):
        compose(["run=runs/a", "+episods=7"], EvaluateConfig, "evaluate")
    with pytest.raises(UserError, match="run is missing"):
        compose([], EvaluateConfig, "evaluate")


def test_a_saved_configuration_is_read_back(tmp_path: Path) -> None:
    config = compose_train("+experiment=snoopy_sac", "env.kwargs.a=[1,2]", "run.dir=/a=b ${oc.env:HOME}'", "seed=3")
    save_config(config, tmp_path)
    assert load_config(tmp_path) == config


def test_a_resumed_run_takes_its_saved_configuration_and_what_may_differ(tmp_path: Path) -> None:
    folder = saved_run(tmp_path / "run=1", "+experiment=snoopy_sac", "algorithm.learning_rate=1e-3")
    config = compose_train(
        f"resume={folder}", "stop.samples=7", "device=cpu", "checkpoint.keep=9", "env.instances=4", "run.log_seconds=1"
    )
    assert isinstance(config.algorithm, SACSettings)
    assert config.algorithm.learning_rate == 1e-3
    assert (config.stop.samples, config.checkpoint.keep, config.env.instances, config.run.log_seconds) == (7, 9, 4, 1)
    assert config.resume == str(folder)


def test_repeating_what_a_run_was_started_with_is_no_change(tmp_path: Path) -> None:
    folder = saved_run(tmp_path / "run", "+experiment=snoopy_sac", "seed=3")
    assert compose_train("+experiment=snoopy_sac", "algorithm=sac", f"resume={folder}", "seed=3").seed == 3


def test_a_run_is_resumed_in_a_folder_that_holds_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved_run(tmp_path / "run", "env.id=CartPole-v1")
    (tmp_path / "experiment").mkdir()
    monkeypatch.chdir(tmp_path)
    assert compose_train(*search_path(), f"resume={folder}", "stop.samples=7").stop.samples == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm=ppo", "algorithm=ppo: .* was started with algorithm=sac"),
        ("+experiment=snoopy_ppo", "experiment=snoopy_ppo: .* was started with experiment=snoopy_sac"),
        ("env=basic", "env=basic: .* was started with env=bubble_shooter"),
        ("seed=4", "seed=4: .* was started with seed=3"),
        ("env.stepping=lockstep", "env.stepping=lockstep: .* was started with env.stepping=async"),
        ("algorithm.network.hidden=[64]", r"hidden=\[64\]: .* was started with .*hidden=\[128, 128\]"),
        ("env.kwargs.size=4", "env.kwargs.size=4: .* was started with env.kwargs.size=null"),
        ("run.dir=other", "run.dir=other: .* was started with run.dir=null"),
        ("init=other", "init=other: .* was started with init=null"),
        ("algorithm.epochs=3", "unknown key algorithm.epochs"),
        ("stop.samples=many", "stop.samples=many: expected an integer"),
    ],
)
def test_a_resumed_run_refuses_what_may_not_differ(tmp_path: Path, override: str, message: str) -> None:
    folder = saved_run(tmp_path / "run", "+experiment=snoopy_sac", "seed=3")
    with pytest.raises(UserError, match=message):
        compose_train(f"resume={folder}", override)


@pytest.mark.parametrize(
    "text", ["a: [", "seed: x", "algorithm: {name: dqn}", "", "seed: 1", "algorithm: {name: ppo, a: 1}"]
)
def test_a_damaged_saved_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config.yaml is damaged or of another version"):
        load_config(tmp_path)


def run_here(argv: list[str]) -> tuple[int, list[TrainConfig]]:
    made: list[TrainConfig] = []

    def run(config: TrainConfig) -> int:
        made.append(config)
        return 0

    return run_command(argv, TrainConfig, "config", lambda _: None, run), made


def test_multirun_makes_one_run_for_each_combination() -> None:
    status, made = run_here(["-m", "env.id=A-v0,B-v0", "seed=1,2", "run.dir=null", "init=/a,b=c"])
    assert status == 0
    assert [(c.env.id, c.seed, c.init) for c in made] == [
        (env, seed, "/a,b=c") for env in ("A-v0", "B-v0") for seed in (1, 2)
    ]


def test_multirun_begins_nothing_when_one_of_its_runs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(["env.id=A-v0", "--multirun", "seed=1,x"]) == (2, [])
    assert "seed=x: expected an integer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--help"], "outstep train +experiment=snoopy_sac"),
        (["--cfg", "job", "+experiment=snoopy_sac"], "updates_per_sample: 0.5"),
        (["--cfg", "job"], "id: ???"),
        (["--cfg", "job", "--package", "stop", "run.dir=a=b"], "samples: null"),
        (["--help", "algorithm.clip"], "algorithm.clip=0.2\n    How far the probability ratio may move"),
        (["--help", "algorithm=sac", "algorithm.batch_size"], "algorithm.batch_size=256\n"),
        (["--help", "algorithm.n_step"], "algorithm.n_step=1, with algorithm=sac\n    Steps of the n-step return."),
        (["--help", "env"], "env.id=???\n    Gymnasium id"),
        (["--version"], "outstep "),
        (["--cfg", "hydra"], "launcher"),
        (["--info", "searchpath"], "conf"),
        (["--hydra-help"], "Hydra"),
    ],
)
def test_hydras_own_flags_show_something_and_run_nothing(
    argv: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_here(argv) == (0, [])
    assert expected in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_the_help_explains_every_key_that_can_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(["--help", "algorithm=sac", "seed=5"]) == (0, [])
    lines = capsys.readouterr().out.splitlines()
    keys = {line.partition("=")[0]: after for line, after in pairwise(lines) if re.match(r"[a-z_.]+=", line)}
    settings = [each for group in list_settings(TrainConfig) for each in group.settings if "<" not in each.key]
    others = {each.key for each in settings} - set(keys)
    assert {key.partition(".")[0] for key in others} == {"algorithm", "env"}  # those of PPO, Unity and custom classes
    assert [key for key, after in keys.items() if not after.startswith("    ")] == []
    assert "algorithm.batch_size=256\n    Rows of one update." in "\n".join(lines)
    assert "seed=5\n    Seed of networks" in "\n".join(lines)
    assert "[integer, 0 or more, default: 0]" in " ".join(" ".join(lines).split())
    assert "\nstop: What ends a run, whichever comes first.\nstop.samples=null\n" in "\n".join(lines)


def test_the_help_lists_experiments_of_ones_own_and_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ("experiment/mine.yaml", "runs/gym_ppo/2026-01-31/config.yaml"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("seed: 3\n")
    assert run_here(["--help", "--config-dir", str(tmp_path)]) == (0, [])
    out = capsys.readouterr().out
    assert ", ".join(sorted([*EXPERIMENTS, "mine"])) in out
    assert "gym_ppo" not in out


def test_experiments_in_this_folder_are_found_and_listed_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 9\nenv: {id: A-v0}\n")
    (tmp_path / "experiment" / "basic_ppo.yaml").write_text("# @package _global_\nseed: 9\n")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "gym.yaml").write_text("id: B-v0\n")
    monkeypatch.chdir(tmp_path)
    status, made = run_here(["+experiment=mine", "env=gym"])
    assert (status, [(c.seed, c.env.id) for c in made]) == (0, [(9, "A-v0")])
    _, made = run_here(["-m", "+experiment=mine,basic_ppo"])
    assert [c.seed for c in made] == [9, 0]  # our own come first
    assert run_here(["--help"]) == (0, [])
    assert ", ".join(sorted([*EXPERIMENTS, "mine"])) in capsys.readouterr().out


def test_a_folder_of_ones_own_can_hold_experiments(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nseed: 9\nenv: {id: A-v0, kwargs: {a: 1}}\n"
    )
    status, made = run_here(["--config-dir", str(tmp_path), "+experiment=mine"])
    assert (status, [(c.seed, c.env.kwargs) for c in made]) == (0, [(9, {"a": 1})])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("env: {instnces: 3}", "unknown key env.instnces; did you mean env.instances? (in experiment/mine.yaml)"),
        ("env: {instances: abc}", "env.instances: expected an integer, not 'abc' (in experiment/mine.yaml)"),
        ("lerning_rate: 3", "unknown key lerning_rate;"),
        ("env: [", "mine.yaml"),
    ],
)
def test_a_mistake_in_an_experiment_of_ones_own_is_refused_with_its_file(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    assert run_here(["--config-dir", str(tmp_path), "+experiment=mine", "env.id=A-v0"]) == (2, [])
    assert message in capsys.readouterr().err


def test_composing_neither_imports_torch_nor_reads_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "__init__.py").write_text("raise SystemExit('the wrong conf')")
    code = (
        "import sys; from trainer.__main__ import main; from trainer.config.compose import compose\n"
        "from trainer.config.schema import TrainConfig; compose(['+experiment=snoopy_sac'], TrainConfig, 'config')\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


UNITY = ["env=unity", "env.player=env=basic agents=2"]


def test_an_env_is_of_the_kind_that_its_group_says() -> None:
    gym, unity = compose_train("env.id=A-v0").env, compose_train(*UNITY, "env.executable='a b=c'").env
    assert (type(gym), gym.instances) == (GymConfig, 16)
    assert isinstance(unity, UnityConfig)
    assert (unity.instances, unity.player, unity.executable) == (1, "env=basic agents=2", "a b=c")
    open_keys = ["env.parameters.gravity=9.81", "env.parameters.size={sampler: uniform, min: 1, max: 2}"]
    parameters = compose_train("env=unity", *open_keys).env.parameters  # type: ignore[attr-defined]
    assert parameters == {"gravity": 9.81, "size": {"sampler": "uniform", "min": 1, "max": 2}}


def test_behaviors_inherit_what_they_do_not_give() -> None:
    config = compose_train(
        *UNITY,
        "algorithm.discount=0.9",
        "behaviors.Striker.algorithm.learning_rate=1e-3",
        "behaviors.Goal-ie.algorithm.name=sac",
        "behaviors.Goal-ie.reward.extrinsic.strength=2",
        "behaviors.default={}",
    )
    striker, reward = settings_of(config, "Striker")
    assert striker == replace(config.algorithm, learning_rate=1e-3)
    assert reward == config.reward
    keeper, reward = settings_of(config, "Goal-ie")
    assert keeper == SACSettings()
    assert reward["extrinsic"].strength == 2.0
    assert settings_of(config, "Referee") == (config.algorithm, config.reward)


def test_without_behaviors_the_top_level_serves_all_and_with_them_only_those() -> None:
    config = compose_train(*UNITY)
    assert settings_of(config, "Anyone") == (config.algorithm, config.reward)
    with pytest.raises(UserError, match=r"'Anyone' appeared, but behaviors names only 'A', 'B': add behaviors.Anyone"):
        settings_of(compose_train(*UNITY, "behaviors.A={}", "behaviors.B={}"), "Anyone")


def test_behaviors_stand_in_yaml_too(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [override /env: unity]\n"
        "behaviors: {My Striker: {algorithm: {network: {hidden: [32]}}}, default: }\n"
    )
    status, made = run_here(["--config-dir", str(tmp_path), "+experiment=mine", "behaviors.default.algorithm.clip=0.1"])
    assert status == 0
    assert settings_of(made[0], "My Striker")[0].network.hidden == [32]
    assert settings_of(made[0], "Other")[0].clip == 0.1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("behaviors.A.algorithm.lerning_rate=1", "unknown key behaviors.A.algorithm.lerning_rate; did you mean .*rate"),
        ("behaviors.A.algoritm.clip=1", "unknown key behaviors.A.algoritm; did you mean behaviors.A.algorithm"),
        ("behaviors.A.algorithm.batch_size=3", "unknown key behaviors.A.algorithm.batch_size"),
        ("behaviors.A.algorithm.clip=x", "behaviors.A.algorithm.clip=x: expected a number"),
        (
            "behaviors.A.algorithm.name=dqn",
            "algorithm.name=dqn: unknown algorithm; there is ppo, sac, poca",
        ),
        ("behaviors.A.algorithm=sac", "behaviors.A.algorithm=sac: it holds keys of its own"),
        ("behaviors.A=3", "behaviors.A=3: it holds keys of its own"),
        ("behaviors=3", "behaviors=3: "),
        ("behavior.A.algorithm.clip=1", r"unknown key behavior; did you mean behaviors\?"),
        ("env.kwargs.size=3", "unknown key env.kwargs"),
        ("env.workers=3", "unknown key env.workers"),
    ],
)
def test_a_mistake_in_a_behavior_or_in_unitys_env_is_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose_train(*UNITY, override)


def test_a_saved_configuration_keeps_its_behaviors_whole(tmp_path: Path) -> None:
    given = [*UNITY, "algorithm.clip=0.3", "behaviors.A.algorithm.name=sac", "behaviors.default.algorithm.clip=0.1"]
    folder = saved_run(tmp_path / "run", *given)
    assert load_config(folder) == compose_train(*given)
    assert compose_train(f"resume={folder}", "behaviors.default.algorithm.clip=0.1").behaviors["A"] is not None
    with pytest.raises(UserError, match=r"clip=0.2: .* was started with behaviors.default.algorithm.clip=0.1"):
        compose_train(f"resume={folder}", "behaviors.default.algorithm.clip=0.2")


@pytest.mark.parametrize("key", ["reward.gail.demos", "algorithm.cloning.demos", "algorithm.demos"])
@pytest.mark.parametrize("prefix", ["", "behaviors.A."])
def test_a_resumed_run_takes_new_paths_of_the_demonstrations_that_it_has(tmp_path: Path, prefix: str, key: str) -> None:
    started = [*UNITY, "algorithm=sac", "behaviors.A.algorithm.n_step=2"]
    folder = saved_run(tmp_path / "run", *started, f"{prefix}{key}=old place/x.demo")
    config = compose_train(f"resume={folder}", f"{prefix}{key}=new, place/x.demo")
    chosen = config.behaviors["A"] if prefix else config
    assert demo_paths(chosen.algorithm, chosen.reward) == {key: "new, place/x.demo"}
    without = saved_run(tmp_path / "without", *started)
    for run, given, before in ((folder, "null", "old place/x.demo"), (without, "x.demo", "null")):
        with pytest.raises(UserError) as refused:
            compose_train(f"resume={run}", f"{prefix}{key}={given}")
        reported = f"{prefix}{key}={given}: the run in {run} was started with {prefix}{key}={before}. "
        assert str(refused.value).startswith(reported)
        assert "and new paths of its demonstrations;" in str(refused.value)


def test_a_configuration_saved_before_there_were_kinds_of_env_is_gymnasiums(tmp_path: Path) -> None:
    folder = saved_run(tmp_path / "run", "env.id=A-v0", "env.kwargs.a=1")
    text = (folder / "config.yaml").read_text()
    rewrite_config(folder, text.replace("behaviors: {}\n", ""))
    assert compose_train(f"resume={folder}").env == compose_train("env.id=A-v0", "env.kwargs.a=1").env


def test_a_configuration_saved_before_returns_were_normalized_goes_on_in_raw_units(tmp_path: Path) -> None:
    folder = saved_run(
        tmp_path / "run", "env=basic", "behaviors.A.algorithm.name=sac", "behaviors.B.reward.rnd.strength=0.1"
    )
    assert load_config(folder).algorithm.normalize_returns
    lines = (folder / "config.yaml").read_text().splitlines(keepends=True)
    older = "".join(line for line in lines if "normalize_returns" not in line)
    assert len(older.splitlines()) == len(lines) - 3
    rewrite_config(folder, older)
    config = compose_train(f"resume={folder}")
    for settings in (config.algorithm, *(each.algorithm for each in config.behaviors.values())):
        assert not settings.normalize_returns


def test_evaluation_takes_the_runs_env_or_single_keys_of_it_or_another(tmp_path: Path) -> None:
    folder = saved_run(tmp_path / "run", "env.id=A-v0", "env.instances=9")
    assert compose([f"run={folder}"], EvaluateConfig, "evaluate").env is None
    env = compose([f"run={folder}", "env.instances=2", "env.kwargs.a=1"], EvaluateConfig, "evaluate").env
    assert isinstance(env, GymConfig)
    assert (env.id, env.instances, env.kwargs) == ("A-v0", 2, {"a": 1})
    env = compose([f"run={folder}", "env=unity", "env.executable=a=b"], EvaluateConfig, "evaluate").env
    assert isinstance(env, UnityConfig)
    assert env.executable == "a=b"
    with pytest.raises(UserError, match=r"unknown key env.instnces; did you mean env.instances"):
        compose([f"run={folder}", "env.instnces=2"], EvaluateConfig, "evaluate")
    with pytest.raises(UserError, match="run is missing"):
        compose(["env.instances=2"], EvaluateConfig, "evaluate")
