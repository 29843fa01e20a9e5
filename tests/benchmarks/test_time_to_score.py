"""The benchmark of time to a score: what is run, what is timed, what is made of it, and bad input."""

import json
import random
from pathlib import Path

import pytest

from benchmarks import score_theirs, time_to_score
from benchmarks.score_tasks import TASKS, ScoreTask, Theirs
from benchmarks.score_theirs import Window
from benchmarks.time_to_score import Outcome, command, main, watch
from trainer.config.compose import compose
from trainer.config.schema import GoalConfig, TrainConfig
from trainer.runtime.checks import check_train
from trainer.telemetry.goal import Goal

SECONDS = {"ours": 10.0, "theirs": 30.0}
TINY = ScoreTask("ppo", "CartPole-v1", 5.0, 100, 100.0, 2, (), Theirs(1000, {"n_steps": 64, "batch_size": 64}))


class Runs:
    """Stands in for `watch`: says how long each run took, and notes what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.never: set[str] = set()
        self.fails_at: tuple[str, BaseException] | None = None

    def __call__(self, words, limit: float) -> Outcome:
        side = "theirs" if words[1] == "benchmarks.score_theirs" else "ours"
        seed = next(int(word.partition("=")[2]) for word in words if word.lstrip("-").startswith("seed="))
        task = next(name for name in TASKS if f"--task={name}" in words or f"env.id={TASKS[name].id}" in words)
        name = f"{task}-{side}-{seed}"
        self.asked.append(name)
        if self.fails_at and self.fails_at[0] == name:
            raise self.fails_at[1]
        return Outcome(None, None) if name in self.never else Outcome(SECONDS[side] + seed, 1000 * (seed + 1))


@pytest.fixture
def runs(monkeypatch) -> Runs:
    fake = Runs()
    monkeypatch.setattr(time_to_score, "watch", fake)
    monkeypatch.setattr(time_to_score, "find_spec", lambda name: name)
    return fake


def call(folder: Path, *words: str, tasks: tuple[str, ...] = ("ppo_cartpole", "ppo_lunar"), seeds: int = 3) -> int:
    return main(["--folder", str(folder), "--seeds", str(seeds), "--tasks", *tasks, *words])


def test_both_sides_take_turns_with_one_seed_before_the_next(runs, tmp_path):
    assert call(tmp_path, seeds=2) == 0
    assert runs.asked == [
        f"{task}-{side}-{seed}"
        for seed in range(2)
        for task in ("ppo_cartpole", "ppo_lunar")
        for side in ("ours", "theirs")
    ]


def test_json_has_every_run_its_medians_ratios_and_their_geometric_mean(runs, tmp_path, capsys):
    assert call(tmp_path, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    task = result["tasks"]["ppo_cartpole"]
    assert task["ours"]["seconds"] == {"median": 11.0, "least": 10.0, "most": 12.0}
    assert task["theirs"]["samples"] == {"median": 2000, "least": 1000, "most": 3000}
    assert [run["seed"] for run in task["theirs"]["runs"]] == [0, 1, 2]
    assert (task["score"], task["window"], task["instances"], task["ratio"]) == (475.0, 20_000, 8, 31 / 11)
    assert result["geometric_mean"] == pytest.approx(31 / 11)
    assert (result["complete"], result["asked"]) == (True, 2.0)


def test_run_that_never_gets_there_counts_as_its_limit_and_is_told_of(runs, tmp_path, capsys):
    runs.never = {f"ppo_cartpole-theirs-{seed}" for seed in (1, 2)}
    assert call(tmp_path, "--json") == 0
    task = json.loads(capsys.readouterr().out)["tasks"]["ppo_cartpole"]
    limit = TASKS["ppo_cartpole"].limit
    assert task["theirs"]["seconds"] == {"median": limit, "least": 30.0, "most": limit}
    assert (task["theirs"]["reached"], task["ratio"]) == (1, limit / 11)
    assert call(tmp_path) == 0
    out = capsys.readouterr().out
    assert f"ppo_cartpole: theirs did not reach it 2 times, each counted as {limit:g} s" in out
    assert "1 of 3" in out


def test_interrupted_benchmark_shows_what_is_there_and_goes_on_with_the_run_in_hand(runs, tmp_path, capsys):
    runs.fails_at = "ppo_lunar-ours-0", KeyboardInterrupt()
    assert call(tmp_path, "--json", seeds=1) == 130
    result = json.loads(capsys.readouterr().out)
    assert (result["complete"], result["tasks"]["ppo_lunar"]["ratio"]) == (False, None)
    assert result["geometric_mean"] == pytest.approx(3.0)
    (tmp_path / "ppo_lunar-ours-0").mkdir()  # as the interrupted run left it
    runs.asked, runs.fails_at = [], None
    assert call(tmp_path, seeds=1) == 0
    assert runs.asked == ["ppo_lunar-ours-0", "ppo_lunar-theirs-0"]
    assert not (tmp_path / "ppo_lunar-ours-0").exists()
    assert "NOT COMPLETE" not in capsys.readouterr().out


def test_run_that_fails_ends_the_benchmark_with_what_is_there(runs, tmp_path, capsys):
    runs.fails_at = "ppo_cartpole-theirs-0", RuntimeError("`python x` ended with status 1")
    assert call(tmp_path) == 1
    captured = capsys.readouterr()
    assert "status 1; the next call begins with it again" in captured.err
    assert "NOT COMPLETE" in captured.out


def test_runs_of_other_settings_or_another_machine_are_refused(runs, tmp_path, capsys):
    assert call(tmp_path, seeds=1) == 0
    place = tmp_path / "ppo_cartpole-ours-0.json"
    notes = json.loads(place.read_text())
    for changed in ({"machine": {"cores": 999}}, {"task": {**notes["task"], "ours": ["algorithm.clip=0.3"]}}):
        place.write_text(json.dumps({**notes, **changed}))
        runs.asked.clear()
        assert call(tmp_path, seeds=2) == 2
        assert "another --folder" in capsys.readouterr().err
        assert runs.asked == []


@pytest.mark.parametrize("name", TASKS)
def test_our_side_is_the_real_trainer_until_the_score_or_the_limit(name, tmp_path):
    task = TASKS[name]
    _, module, *overrides = command(name, "ours", 7, tmp_path)
    config = compose(overrides, TrainConfig, "config")
    if not name.endswith("lunar"):  # whose environments need Box2D
        check_train(config)
    assert module == "trainer"
    assert (config.env.id, config.env.instances, config.seed) == (task.id, task.instances, 7)
    assert (config.goal.metric, config.goal.at_least, config.goal.window_samples) == ("reward", task.score, task.window)
    assert (config.stop.seconds, config.stop.reward, config.device.name) == (task.limit, None, "cpu")
    assert (config.run.mode.name, config.env.stepping.name, config.checkpoint.replay) == ("async", "async", False)


def test_moment_is_that_of_the_line_which_says_so_and_not_the_end_of_the_process():
    lines = ["reward 12", "reward: 480.1 over the last 20,000 samples, after 1,234 samples and 5 s"]
    code = f"import time\nfor line in {lines}: print(line, flush=True)\ntime.sleep(1)"
    outcome = watch(["-c", code], 100.0)
    assert outcome.samples == 1234
    assert watch(["-c", f"import time; time.sleep(1); {code}"], 1.0) == Outcome(None, None)
    assert watch(["-c", "print('reached after 99 samples')"], 100.0).samples == 99
    with pytest.raises(RuntimeError, match="status 3"):
        watch(["-c", "raise SystemExit(3)"], 100.0)


def test_both_sides_reckon_the_score_alike():
    for seed in range(20):
        rng = random.Random(seed)
        goal = Goal(GoalConfig("reward", at_least=60.0, window_samples=500, also_window_samples=[]))
        window, samples = Window(500, 60.0), 0
        while goal.reached is None:
            samples += rng.randrange(1, 90)
            reward = rng.uniform(0, samples / 20)
            goal.add(samples, 0.0, {"reward": reward})
            assert window.reached(samples, reward) == (goal.reached is not None)


@pytest.mark.extras
@pytest.mark.parametrize("vector", ["dummy", "subproc"])
def test_their_side_learns_until_the_score(monkeypatch, capsys, vector):
    pytest.importorskip("stable_baselines3")
    task = ScoreTask(**{**vars(TINY), "theirs": Theirs(1000, TINY.theirs.settings, (), vector)})
    monkeypatch.setitem(score_theirs.TASKS, "ppo_cartpole", task)
    assert score_theirs.main(["--task", "ppo_cartpole", "--seed", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert 100 <= int(line.split()[2]) < 200


@pytest.mark.extras
def test_their_side_ends_at_its_limit_or_its_samples_without_a_word(capsys):
    pytest.importorskip("stable_baselines3")
    never = ScoreTask(**{**vars(TINY), "score": 1e9})
    score_theirs.learn(never, 0)
    score_theirs.learn(never, 0, began=-1e9)
    assert capsys.readouterr().out == ""


def test_schedules_fall_to_nothing_over_the_tasks_samples():
    arguments = score_theirs._arguments(TASKS["ppo_cartpole"])
    assert [arguments["learning_rate"](left) for left in (1.0, 0.5, 0.0)] == [1e-3, 5e-4, 0.0]
    assert arguments["n_steps"] == 32


@pytest.mark.parametrize(
    ("words", "missing", "message"),
    [(["--seeds", "0"], None, "--seeds 0"), ([], "Box2D", "Box2D"), ([], "stable_baselines3", "stable-baselines3")],
)
def test_bad_input_is_one_message_before_anything_starts(runs, monkeypatch, tmp_path, capsys, words, missing, message):
    monkeypatch.setattr(time_to_score, "find_spec", lambda name: None if name == missing else name)
    assert main(["--folder", str(tmp_path / "new"), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert runs.asked == []
    assert not (tmp_path / "new").exists()
