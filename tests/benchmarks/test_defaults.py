"""The benchmark of defaults: which runs, what is kept of them, what is made of it, and bad input."""

import json
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import psutil
import pytest

from benchmarks import defaults, defaults_run
from benchmarks.defaults import Results, chosen, main
from benchmarks.defaults_report import draw, figures, markdown, score_of, text
from benchmarks.defaults_run import Evaluation, Run, arguments, our_settings
from benchmarks.defaults_tasks import CONTENDERS, RATES, TASKS, TIERS, algorithm_of, takes_part
from benchmarks.zoo_settings import ZOO, Tuned
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig

RUN = Run("table", "CartPole-v1", "ours-ppo", 0, 50_000)


def row(task: str, contender: str, seed: int, returns: list[float], kind: str = "table") -> dict:
    """A line of the results, with evaluations evenly over the task's samples."""
    samples = TASKS[task].budget(contender.split("-")[1]).samples
    evaluations = [[samples * (i + 1) // len(returns), mean] for i, mean in enumerate(returns)]
    identity = {"kind": kind, "task": task, "contender": contender, "seed": seed, "samples": samples, "overrides": []}
    notes = {"cpu_seconds": 40.0, "machine": {"cores": 2, "platform": "Linux"}, "commit": "abc", "jobs": 2}
    algorithm = algorithm_of(contender, task)
    return {**identity, "algorithm": algorithm, "evaluations": evaluations, "seconds": 30.0, "mean_lag": 0.5, **notes}


@pytest.fixture
def runs(monkeypatch) -> list[str]:
    """Stands in for runs, by processes that print a row at once; those named in the list's `fails` fail."""

    class Started(list):
        fails = interrupted_at = ""

    started = Started()

    def start(run: Run, core: int | None) -> subprocess.Popen:
        name = f"{run.task}/{run.contender}/{run.seed}"
        started.append(name)
        if name == started.interrupted_at:
            raise KeyboardInterrupt
        made = {**row(run.task, run.contender, run.seed, [100.0] * 10, run.kind), "samples": run.samples}
        made["overrides"] = list(run.overrides)
        code = "raise SystemExit(3)" if name == started.fails else f"print({json.dumps(made)!r})"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-S", "-c", code], **pipes)

    monkeypatch.setattr(defaults, "start", start)
    monkeypatch.setattr(defaults, "find_spec", lambda name: name)
    return started


def call(file: Path, *words: str) -> int:
    return main(["--file", str(file), "--tasks", "CartPole-v1", "--contenders", "ours-ppo", "sb3-ppo", *words])


def test_all_contenders_have_one_seed_before_the_next_and_no_run_is_made_twice(runs, tmp_path, capsys):
    file = tmp_path / "new" / "results.jsonl"
    assert call(file, "--seeds", "0") == 0
    assert call(file) == 0
    expected = [f"CartPole-v1/{side}-ppo/{seed}" for seed in range(5) for side in ("ours", "sb3")]
    assert runs == expected
    assert len(file.read_text().splitlines()) == 10
    assert "NOT COMPLETE" not in capsys.readouterr().out.split("sb3-ppo")[-1]


def test_run_that_was_cut_short_is_made_again_and_the_others_stay(runs, tmp_path):
    file = tmp_path / "results.jsonl"
    whole = json.dumps(row("CartPole-v1", "ours-ppo", 0, [1.0] * 10)) + "\n"
    file.write_text(whole + json.dumps(row("CartPole-v1", "sb3-ppo", 0, [1.0] * 10))[:300])
    assert call(file, "--seeds", "0") == 0
    assert runs == ["CartPole-v1/sb3-ppo/0"]
    assert file.read_text().startswith(whole)
    assert [line["contender"] for line in map(json.loads, file.read_text().splitlines())] == ["ours-ppo", "sb3-ppo"]


def test_failed_run_is_told_of_and_the_next_ones_are_made(runs, tmp_path, capsys):
    runs.fails = "CartPole-v1/ours-ppo/0"
    assert call(tmp_path / "results.jsonl", "--seeds", "0", "1") == 1
    captured = capsys.readouterr()
    assert "CartPole-v1, ours-ppo, seed 0 failed; the next call begins with it again" in captured.err
    assert "NOT COMPLETE: 1 runs are missing" in captured.out
    assert len(runs) == 4


def test_interrupted_benchmark_shows_what_is_there_and_goes_on_with_the_run_in_hand(runs, tmp_path, capsys):
    runs.interrupted_at = "CartPole-v1/sb3-ppo/0"
    file = tmp_path / "results.jsonl"
    assert call(file, "--seeds", "0", "1", "--json") == 130
    assert [each["contender"] for each in json.loads(capsys.readouterr().out)["tasks"]] == ["ours-ppo"]
    runs.clear()
    runs.interrupted_at = ""
    assert call(file, "--seeds", "0") == 0
    assert runs == ["CartPole-v1/sb3-ppo/0"]


def test_run_ends_with_all_that_it_has_started_once_its_input_is_closed():
    code = """if True:
        import subprocess, sys
        from benchmarks.defaults_run import _end_with_input
        print(subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(200)"]).pid, flush=True)
        _end_with_input()"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        child = psutil.Process(int(process.stdout.readline()))
        process.stdin.close()
        assert process.wait() == 1
        assert psutil.wait_procs([child], timeout=30)[1] == [] or child.status() == psutil.STATUS_ZOMBIE


def test_two_jobs_make_every_run_once(runs, tmp_path):
    file = tmp_path / "results.jsonl"
    assert call(file, "--jobs", "2", "--seeds", "0", "1") == 0
    assert sorted(runs) == sorted(f"CartPole-v1/{side}-ppo/{seed}" for seed in (0, 1) for side in ("ours", "sb3"))
    assert len(Results(file).rows) == 4


def test_tuning_and_trials_enter_no_table(runs, tmp_path, capsys):
    file = tmp_path / "results.jsonl"
    assert call(file, "--tuning", "--set", "algorithm.learning_rate=1e-3", "--seeds", "100") == 0
    assert call(file, "--samples", "500", "--seeds", "0") == 0
    out = capsys.readouterr().out
    assert "These runs are of the kind 'tuning' and enter no table." in out
    assert [(line["kind"], line["samples"]) for line in Results(file).rows] == [
        *[("tuning", 25_000)] * 2,
        *[("trial", 500)] * 2,
    ]
    assert [line["overrides"] for line in Results(file).rows][:2] == [["algorithm.learning_rate=1e-3"], []]
    assert call(file, "--show", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == []
    assert len(runs) == 4


def test_plan_counts_what_is_missing_by_what_runs_took_so_far(runs, tmp_path, capsys):
    file = tmp_path / "results.jsonl"
    Results(file).append(row("CartPole-v1", "sb3-ppo", 0, [1.0] * 10))
    assert call(file, "--plan", "--jobs", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    (theirs,) = [line.split() for line in lines if " sb3-ppo " in line]
    assert theirs[2:4] == ["4", "40"]
    guess = 5 * (50_000 / RATES["ours-ppo"]["CartPole-v1"] + 20) + 4 * 40
    assert lines[-1].startswith(f"9 runs: {guess / 3600:.1f} hours of one core")
    assert runs == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "algorithm.clip=0.3"], "give --tuning too"),
        (["--tuning", "--seeds", "3"], "--seeds 3: seeds of tuning are from 100 on"),
        (["--seeds", "100"], "--seeds 100: seeds of the table are from 0 to 99"),
        (["--seeds", "-1"], "--seeds -1: seeds of the table are"),
        (["--jobs", "0"], "--jobs 0 must be at least 1"),
        (["--samples", "0"], "--samples 0 must be at least 1"),
        (["--write", "--samples", "5"], "--write is for the table"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(runs, tmp_path, capsys, words, message):
    assert call(tmp_path / "results.jsonl", *words) == 2
    assert message in capsys.readouterr().err
    assert runs == []


def test_missing_library_is_named(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(defaults, "find_spec", lambda name: None)
    assert main(["--file", str(tmp_path / "x"), "--tasks", "Hopper-v5", "--contenders", "ours-sac"]) == 2
    assert "mujoco is missing: pip install 'outstep[bench]'" in capsys.readouterr().err


def test_core_has_its_tasks_and_seeds_and_no_settings_where_the_zoo_has_none():
    asked = chosen(defaults._parser().parse_args([]))
    assert {run.task for run in asked} == set(TIERS["core"])
    seeds = {task: {run.seed for run in asked if run.task == task} for task in TIERS["core"]}
    assert [len(each) for each in seeds.values()] == [5, 5, 5, 3, 3, 3]
    assert not any(run.contender.startswith("zoo") and run.task.startswith("MinAtar") for run in asked)
    assert max(run.samples for run in asked if run.contender.endswith("ppo")) <= 500_000
    assert max(run.samples for run in asked if run.contender.endswith("sac")) <= 100_000


@pytest.mark.parametrize("family", ["ppo", "sac"])
def test_ours_is_told_nothing_but_algorithm_and_environment(family):
    run = Run("table", "CartPole-v1", f"ours-{family}", 3, 1000)
    assert our_settings(run) == [f"algorithm={family}", "env=gym", "env.id=CartPole-v1", "env.instances=8"]
    config = compose(our_settings(run), TrainConfig, "config")
    assert (config.run.mode.name, config.env.instances) == ("async", 8)


def test_their_sac_is_their_dqn_where_actions_are_discrete():
    assert [algorithm_of(each, "CartPole-v1") for each in CONTENDERS] == ["ppo", "ppo", "ppo", "sac", "dqn", "dqn"]
    assert [algorithm_of(each, "Hopper-v5") for each in CONTENDERS] == ["ppo", "ppo", "ppo", "sac", "sac", "sac"]
    assert not takes_part("zoo-ppo", "MinAtarBreakout-v1")
    assert takes_part("zoo-sac", "Acrobot-v1")
    assert {task for _, task in ZOO} <= set(TASKS)


def test_score_is_the_mean_of_evaluations_between_random_and_mark():
    task = TASKS["CartPole-v1"]
    halfway, above = (22.3 + 475) / 2, 475 + (475 - 22.3)
    assert task.score("ppo", 22.3) == 0
    assert task.score("sac", above) == pytest.approx(2)
    assert score_of(row("CartPole-v1", "ours-ppo", 0, [22.3, halfway, 475.0, above])) == pytest.approx(3.5 / 4)
    assert TASKS["MountainCarContinuous-v0"].score("ppo", 90.0) == 1


def test_figures_are_of_the_medians_and_of_the_seeds_that_both_have():
    mark = [22.3] + [475.0] * 9
    rows = [row("CartPole-v1", "ours-ppo", seed, mark) for seed in range(3)]
    rows += [row("CartPole-v1", "ours-ppo", 3, [22.3] * 10)]
    rows += [row("CartPole-v1", "sb3-ppo", seed, [22.3] * 5 + [475.0] * 5) for seed in range(3)]
    found = figures(rows, ["CartPole-v1"], missing=2)
    ours, theirs = found["tasks"]
    assert (ours["contender"], ours["seeds"], ours["failed"], ours["reached"]) == ("ours-ppo", [0, 1, 2, 3], 1, True)
    assert (ours["first_at"], theirs["first_at"]) == (10_000, 30_000)
    assert ours["score"] == pytest.approx(0.9)  # of four, one is cut off at each end
    compared = found["overall"]["ppo"]["sb3"]
    assert (compared["ratio"], compared["tasks"], compared["asked"]) == (pytest.approx(1.8), ["CartPole-v1"], 1.3)
    assert found["overall"]["sac"] == {}
    shown = text(found)
    assert "NOT COMPLETE: 2 runs are missing." in shown
    assert "Our runs that did not learn at all: 1 of 4." in shown


def test_other_units_are_compared_with_the_games_own():
    near, far = 22.3 + 0.96 * (475 - 22.3), 22.3 + 0.94 * (475 - 22.3)
    rows = [row("CartPole-v1", "ours-sac", 0, [475.0] * 10)]
    rows += [row("CartPoleRewardsHundredth-v1", "ours-sac", 0, [near] * 10)]
    rows += [row("CartPoleObservations-v1", "ours-sac", 0, [far] * 10)]
    found = figures(rows, list(TASKS), missing=0)
    lines = [line for line in text(found).splitlines() if line.split() and line.split()[-1] in ("yes", "no")]
    assert [(line.split()[0], line.split()[-1]) for line in lines[-2:]] == [
        ("CartPoleRewardsHundredth-v1", "yes"),
        ("CartPoleObservations-v1", "no"),
    ]
    assert found["overall"] == {"ppo": {}, "sac": {}}


def test_page_is_a_table_with_a_picture(tmp_path):
    rows = [row("CartPole-v1", f"{side}-ppo", seed, [50.0] * 10) for side in ("ours", "zoo") for seed in range(2)]
    page = markdown(figures(rows, ["CartPole-v1"], 0), "Title", "defaults.png")
    assert page.startswith("# Title\n")
    assert "![Learning curves](defaults.png)" in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert table[0].startswith("| task | contender | algorithm | samples |")
    assert table[2].startswith("| CartPole-v1 | ours-ppo | ppo | 50,000 | 2 |")
    assert len({line.count("|") for line in table[:4]}) == 1
    draw(rows, ["CartPole-v1"], tmp_path / "defaults.png")
    assert (tmp_path / "defaults.png").stat().st_size > 1000


def test_zoos_settings_become_arguments():
    made = arguments(ZOO["ppo", "Hopper-v5"])
    assert made["policy_kwargs"]["activation_fn"].__name__ == "ReLU"
    falling = arguments(ZOO["ppo", "CartPole-v1"])
    assert [falling["learning_rate"](left) for left in (1.0, 0.5, 0.0)] == [1e-3, 5e-4, 0.0]
    assert arguments(Tuned({})) == {}


def test_evaluation_in_other_units_gives_the_games_own_rewards():
    own = gymnasium.make("CartPole-v1")
    other = gymnasium.make("benchmarks.defaults_envs:CartPoleRewardsHundredfold-v1")
    in_own_units = gymnasium.make("benchmarks.defaults_envs:CartPoleRewardsHundredfold-v1", reward=1.0)
    moved = gymnasium.make("benchmarks.defaults_envs:CartPoleObservations-v1", disable_env_checker=True)
    seen, _ = own.reset(seed=4)
    assert np.allclose(moved.reset(seed=4)[0], 100 * seen + 1000)
    for env in (other, in_own_units):
        assert np.array_equal(env.reset(seed=4)[0], seen)
    assert [env.step(0)[1] for env in (own, other, in_own_units, moved)] == [1.0, 100.0, 1.0, 1.0]
    assert TASKS["CartPoleRewardsHundredfold-v1"].in_own_units == {"reward": 1.0}


def test_episodes_of_an_evaluation_begin_at_seeds_in_a_row_and_are_summed_until_they_end(monkeypatch):
    """The policy always pushes left, so each episode lasts as long as its own seed makes it."""
    monkeypatch.setattr("trainer.saved_policy.trained_policy", lambda config, checkpoint, spec: None)
    monkeypatch.setattr("trainer.evaluate.play.PolicyAgent", Left)
    lengths = []
    for i in range(20):
        env = gymnasium.make("CartPole-v1")
        env.reset(seed=7 + i)
        lengths.append(1)
        while not env.step(0)[2]:
            lengths[-1] += 1
    assert Evaluation(TASKS["CartPole-v1"]).mean_return(None, None, 7) == np.mean(lengths)


class Left:
    """An agent that always pushes to the left. It notes nothing and wants to be asked for running episodes alone."""

    def __init__(self, policy: None, seed: int, deterministic: bool) -> None:
        assert (seed, deterministic) == (7, True)
        self._before = list(range(20))

    def act(self, decisions, begun):
        agents = decisions.agent
        assert set(agents) <= set(self._before)
        assert begun.all() == (len(agents) == 20 and not hasattr(self, "_began"))
        self._before, self._began = list(agents), True
        return np.zeros((len(agents), 0), np.float32), np.zeros((len(agents), 1), np.int32)


@pytest.mark.extras
@pytest.mark.parametrize(("name", "channels", "actions"), [("Breakout", 4, 3), ("SpaceInvaders", 6, 4)])
def test_minatar_is_registered_with_bool_images_and_a_time_limit(name, channels, actions):
    pytest.importorskip("minatar")
    env = gymnasium.make(TASKS[f"MinAtar{name}-v1"].id)
    seen, _ = env.reset(seed=0)
    assert (seen.shape, seen.dtype, env.action_space.n) == ((10, 10, channels), bool, actions)
    assert env.spec.max_episode_steps == 1000


@pytest.mark.extras
@pytest.mark.parametrize(("contender", "task"), [("zoo-ppo", "Acrobot-v1"), ("sb3-sac", "CartPole-v1")])
def test_their_run_is_evaluated_at_its_points(monkeypatch, tmp_path, contender, task):
    pytest.importorskip("stable_baselines3")
    monkeypatch.setattr(defaults_run, "EPISODES", 2)
    outcome = defaults_run.made(Run("trial", task, contender, 1, 160), tmp_path / "unused")
    assert [samples for samples, _ in outcome["evaluations"]] == list(range(16, 161, 16))
    assert outcome["algorithm"] == algorithm_of(contender, task)
