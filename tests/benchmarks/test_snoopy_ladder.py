import json
from dataclasses import make_dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import snoopy_ladder, training
from benchmarks.snoopy_ladder import main
from trainer.config.compose import compose, save_config
from trainer.config.schema import TrainConfig

LOCKSTEP, PPO, PPO_GAIL, SAC, SAC_GAIL = snoopy_ladder.RUNGS
SPEEDS = {LOCKSTEP: 1, PPO: 2, PPO_GAIL: 4, SAC: 5, SAC_GAIL: 8}
IMITATING = (PPO_GAIL, SAC_GAIL)


def summary(seconds: float | None, rate: float = 100.0) -> dict:
    """Mastered after `seconds`, or stopped by the cap."""
    reached = seconds is not None
    return {
        "samples": int(rate * (seconds or 900)),
        "samples_per_second": rate,
        "env_utilization": 0.9,
        "stopped_by": "goal" if reached else "seconds",
        "goal_samples": int(rate * seconds) if reached else None,
        "goal_seconds": seconds,
        "goal_windows": {"1000": {"samples": 10.0, "seconds": 1.0} if reached else None},
        "dropped": {"B": 0},
    }


class Trainer:
    """Stands in for `python -m trainer`: leaves a run's folder behind, with a summary as `seconds` tells it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.overrides: list[list[str]] = []
        self.fails_at: tuple[str, BaseException] | None = None
        self.never: set[str] = set()
        self.clock = 0.0

    def __call__(self, overrides, folder: Path) -> dict:
        self.asked.append(folder.name)
        self.overrides.append(list(overrides))
        folder.mkdir(parents=True)
        save_config(snoopy_ladder._compose(*overrides), folder)
        if self.fails_at and folder.name == self.fails_at[0]:
            raise self.fails_at[1]
        rung, _, seed = folder.name.rpartition("-")
        seconds = None if folder.name in self.never else 1000 / SPEEDS[rung] + int(seed)
        self.clock += (seconds or 900) + 3
        rate = 70.0 if rung == LOCKSTEP else 100.0
        (folder / "summary.json").write_text(json.dumps(summary(seconds, rate)))
        return {}


def composed(overrides, schema, name):
    """Lets the rungs with demonstrations be composed without any; the same words only once, as that takes a while."""
    kept = tuple(each.replace("_gail", "") for each in overrides if ".demos=" not in each)
    return once(kept, schema, name)


once = cache(compose)


@pytest.fixture
def trainer(monkeypatch) -> Trainer:
    fake = Trainer()
    monkeypatch.setattr(snoopy_ladder, "train", fake)
    monkeypatch.setattr(snoopy_ladder.time, "perf_counter", lambda: fake.clock)
    monkeypatch.setattr(snoopy_ladder, "compose", composed)
    monkeypatch.setattr(snoopy_ladder, "demo_keys", lambda rung, _: ("reward.gail.demos",) if rung in IMITATING else ())
    return fake


@pytest.fixture
def recorded(monkeypatch) -> list:
    """Stands in for `python -m trainer.record`, and for reading what it left."""
    commands: list[list[str]] = []

    def record(command, **kwargs):
        commands.append(command[1:])
        (target,) = (each[3:] for each in command if each.startswith("to="))
        Path(target).write_bytes(b"played")
        return SimpleNamespace(returncode=0)

    def shown(file):
        return {"episodes": 21, "steps": 525, "mean_bubbles": 25.0, "sha256": file.read_bytes().hex()}

    monkeypatch.setattr(training.subprocess, "run", record)
    monkeypatch.setattr(snoopy_ladder, "_demonstrations", shown)
    return commands


def call(folder: Path, *words: str, rungs: tuple[str, ...] = (PPO, SAC), seeds: int = 2) -> int:
    return main(["--folder", str(folder), "--seeds", str(seeds), "--rungs", *rungs, *words])


def test_all_rungs_run_with_one_seed_before_any_runs_with_the_next(trainer, tmp_path):
    assert call(tmp_path, rungs=(SAC, PPO), seeds=3) == 0
    assert trainer.asked == [f"{rung}-{seed}" for seed in range(3) for rung in (PPO, SAC)]


def test_every_run_goes_to_its_goal_or_the_cap_and_is_not_disturbed(trainer, tmp_path):
    assert call(tmp_path, "--cap-seconds", "77", "--time-scale", "30", "algorithm.discount=0.8", seeds=1) == 0
    config = compose(trainer.overrides[1], TrainConfig, "config")
    assert (config.algorithm.name, config.algorithm.discount, config.seed) == ("sac", 0.8, 0)
    assert (config.stop.seconds, config.env.time_scale, config.env.instances) == (77.0, 30.0, 16)
    assert (config.goal.metric, config.goal.at_most, config.goal.window_samples) == ("bubbles", 24.9047, 5000)
    assert (config.run.picture_minutes, config.checkpoint.replay, config.checkpoint.every_seconds) == (0, False, 1e6)


def test_overrides_that_follow_the_rungs_are_overrides(trainer, tmp_path):
    assert call(tmp_path, "env.instances=4", seeds=1) == 0
    assert trainer.asked == [f"{PPO}-0", f"{SAC}-0"]
    assert all(overrides[-1] == "env.instances=4" for overrides in trainer.overrides)


def test_finished_runs_are_not_made_again(trainer, tmp_path, capsys):
    assert call(tmp_path, "--json") == 0
    first = capsys.readouterr().out
    trainer.asked.clear()
    assert call(tmp_path, "--json") == 0
    assert trainer.asked == []
    assert capsys.readouterr().out == first
    assert call(tmp_path, rungs=(PPO, SAC), seeds=3) == 0
    assert trainer.asked == [f"{PPO}-2", f"{SAC}-2"]


def test_ctrl_c_shows_what_is_there_and_the_next_call_runs_the_rest_from_its_start(trainer, tmp_path, capsys):
    trainer.fails_at = f"{PPO}-1", KeyboardInterrupt()
    assert call(tmp_path, "--json") == 130
    result = json.loads(capsys.readouterr().out)
    assert not result["complete"]
    assert [len(rung["runs"]) for rung in result["rungs"].values()] == [1, 1]
    (tmp_path / f"{PPO}-1" / "half").touch()
    (tmp_path / f"{PPO}-1" / "summary.json").write_text(json.dumps(summary(1.0)))  # as an interrupted run leaves it
    trainer.asked, trainer.fails_at = [], None
    assert call(tmp_path, "--json") == 0
    assert trainer.asked == [f"{PPO}-1", f"{SAC}-1"]
    assert not (tmp_path / f"{PPO}-1" / "half").exists()
    assert json.loads(capsys.readouterr().out)["rungs"][PPO]["runs"][1]["seconds"] == 501.0


def test_run_that_fails_ends_the_ladder_with_what_is_there(trainer, tmp_path, capsys):
    trainer.fails_at = f"{SAC}-0", RuntimeError("`python -m trainer` ended with status 1")
    assert call(tmp_path, "--json") == 1
    captured = capsys.readouterr()
    assert list(json.loads(captured.out)["rungs"]) == [PPO]
    assert "ended with status 1" in captured.err


def test_interrupted_before_any_run_ended_it_says_so(trainer, tmp_path, capsys):
    trainer.fails_at = f"{PPO}-0", KeyboardInterrupt()
    assert call(tmp_path, "--json") == 130
    captured = capsys.readouterr()
    assert (captured.out, "no run" in captured.err) == ("", True)


@pytest.mark.parametrize(
    ("words", "difference"),
    [
        (
            ["algorithm.learning_rate=1e-4"],
            "algorithm.learning_rate=0.001, and not with algorithm.learning_rate=0.0001",
        ),
        (["--time-scale", "40"], "env.time_scale=20.0, and not with env.time_scale=40.0"),
    ],
)
def test_run_with_other_settings_is_refused_before_anything_starts(trainer, tmp_path, capsys, words, difference):
    assert call(tmp_path, seeds=1) == 0
    trainer.asked.clear()
    assert call(tmp_path, *words, seeds=2) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert difference in message
    assert "another --folder" in message
    assert trainer.asked == []


def test_run_of_another_machine_is_refused(trainer, tmp_path, capsys):
    assert call(tmp_path, seeds=1) == 0
    notes = tmp_path / f"{SAC}-0" / "ladder.json"
    notes.write_text(json.dumps({**json.loads(notes.read_text()), "machine": {"cores": 999}}))
    assert call(tmp_path, seeds=1) == 2
    assert "cores=999" in capsys.readouterr().err


def test_damaged_run_is_refused(trainer, tmp_path, capsys):
    assert call(tmp_path, seeds=1) == 0
    (tmp_path / f"{SAC}-0" / "summary.json").write_text("{")
    assert call(tmp_path, seeds=1) == 2
    assert "remove it" in capsys.readouterr().err


def test_further_seeds_that_are_there_are_reported_too(trainer, tmp_path, capsys):
    assert call(tmp_path, rungs=(PPO,), seeds=3) == 0
    capsys.readouterr()
    assert call(tmp_path, "--json", seeds=1) == 0
    rungs = json.loads(capsys.readouterr().out)["rungs"]
    assert [run["seed"] for run in rungs[PPO]["runs"]] == [0, 1, 2]
    assert rungs[SAC]["first_over_this"]["seeds"] == {"0": 2.5}


def test_folder_that_is_no_runs_is_left_alone(trainer, tmp_path, capsys):
    (tmp_path / f"{PPO}-0").mkdir()
    (tmp_path / f"{PPO}-0" / "thesis.txt").touch()
    assert call(tmp_path, seeds=1) == 2
    assert "no run's folder" in capsys.readouterr().err
    assert (tmp_path / f"{PPO}-0" / "thesis.txt").exists()


def test_demonstrations_are_recorded_once_for_all_rungs_that_want_them(trainer, recorded, tmp_path, capsys):
    assert call(tmp_path, "--json", rungs=(PPO, PPO_GAIL, SAC_GAIL)) == 0
    assert call(tmp_path, rungs=(PPO, PPO_GAIL, SAC_GAIL)) == 0
    ((_, module, *arguments),) = recorded
    assert module == "trainer.record"
    assert {"env=bubble_shooter", "player=bot", "episodes=21"} <= set(arguments)
    demos = tmp_path / "level25.demo"
    assert [path.name for path in tmp_path.glob("*.demo")] == ["level25.demo"]
    reported = [f"reward.gail.demos={demos}" in overrides for overrides in trainer.overrides]
    assert reported == [False, True, True] * 2
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[0])
    assert result["demonstrations"]["episodes"] == 21
    told_by = [rung["settings"].get("reward.gail.demos") for rung in result["rungs"].values()]
    assert told_by == [None, "level25.demo", "level25.demo"]
    assert "21 episodes, 525 steps, 25 bubbles a game" in out


def test_rung_is_told_the_file_wherever_its_experiment_takes_demonstrations(monkeypatch):
    config = make_dataclass("Config", ["algorithm", "reward"])(
        {"demos": "demos/level25.demo", "cloning": {"demos": None}}, {"gail": {"demos": "demos/level25.demo"}}
    )
    monkeypatch.setattr(snoopy_ladder, "_compose", lambda *overrides: config)
    assert snoopy_ladder.demo_keys(SAC_GAIL, ()) == ("algorithm.demos", "reward.gail.demos")


def test_ladder_without_imitating_rungs_needs_no_demonstrations(trainer, recorded, tmp_path, capsys):
    assert call(tmp_path, "--json") == 0
    assert recorded == []
    assert json.loads(capsys.readouterr().out)["demonstrations"] is None


def test_interrupted_recording_is_made_anew_and_runs_that_are_there_are_shown(
    trainer, recorded, tmp_path, monkeypatch, capsys
):
    def interrupted(command, **kwargs):
        (tmp_path / "unfinished.demo").touch()
        raise KeyboardInterrupt

    assert call(tmp_path, seeds=1) == 0
    with monkeypatch.context() as patch:
        patch.setattr(training.subprocess, "run", interrupted)
        assert call(tmp_path, rungs=(PPO, PPO_GAIL), seeds=1) == 130
    assert "NOT COMPLETE" in capsys.readouterr().out
    assert not (tmp_path / "level25.demo").exists()
    assert call(tmp_path, rungs=(PPO, PPO_GAIL), seeds=1) == 0
    assert (tmp_path / "level25.demo").read_bytes() == b"played"


def test_runs_from_other_demonstrations_are_refused(trainer, recorded, tmp_path, capsys):
    assert call(tmp_path, rungs=(SAC, SAC_GAIL), seeds=1) == 0
    (tmp_path / "level25.demo").write_bytes(b"played otherwise")
    assert call(tmp_path, rungs=(SAC, SAC_GAIL), seeds=1) == 2
    assert "demonstrations=" in capsys.readouterr().err


def test_json_is_one_object_with_every_rung_run_and_claim(trainer, recorded, tmp_path, capsys):
    assert call(tmp_path, "--json", rungs=tuple(snoopy_ladder.RUNGS), seeds=3) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["law"], result["time_scale"], result["instances"], result["complete"]) == ("snoopy", 20.0, 16, True)
    assert list(result["rungs"]) == list(snoopy_ladder.RUNGS)
    assert [len(rung["runs"]) for rung in result["rungs"].values()] == [3] * 5
    assert result["rungs"][SAC]["settings"]["algorithm.batch_size"] == 64
    assert "algorithm.name" not in result["rungs"][SAC]["settings"]
    assert set(snoopy_ladder.TUNING) == set(result["rungs"])
    # PPO + GAIL needs five seeds, and 8 x is no moonshot.
    assert [claim["met"] for claim in result["claims"]] == [True, True, False, False, True, True, False, True]
    claimed = {claim["claim"]: claim for claim in result["claims"]}
    assert claimed["SAC + GAIL over lock-step PPO, in time"]["of_medians"] == pytest.approx(1001 / 126)


def test_capped_run_is_not_mastered(trainer, tmp_path, capsys):
    trainer.never = {f"{SAC}-1"}
    assert call(tmp_path, "--json", seeds=3) == 0
    sac = json.loads(capsys.readouterr().out)["rungs"][SAC]
    assert (sac["mastered"], len(sac["runs"])) == (2, 3)
    assert (sac["runs"][1]["samples"], sac["runs"][1]["stopped_by"]) == (None, "seconds")
    assert sac["seconds"] == {"median": 202.0, "low": 200.0, "high": None}


def test_text_has_figures_reference_settings_and_tuning(trainer, tmp_path, capsys):
    assert call(tmp_path, seeds=1) == 0
    text = capsys.readouterr().out
    for words in ("bubbles <= 24.9047", "500 (500 to 500)", "31:08", "algorithm.batch_size=64", "Tuning", "claim"):
        assert words in text


def test_picture_shows_every_run(trainer, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(snoopy_ladder, "find_spec", lambda name: name)
    monkeypatch.setattr(snoopy_ladder, "draw", lambda *arguments: drawn.append(arguments))
    assert call(tmp_path, "--plot", str(tmp_path / "ladder.png")) == 0
    ((runs, goal, picture),) = drawn
    assert runs == {name: [tmp_path / f"{name}-{seed}" for seed in range(2)] for name in (PPO, SAC)}
    assert (goal["at_most"], picture.name) == (24.9047, "ladder.png")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seeds", "0"], "--seeds 0"),
        (["--rungs", "snoopy_dqn"], "--rungs snoopy_dqn"),
        (["--cap-seconds", "0"], "--cap-seconds 0"),
        (["--time-scale", "-1"], "env.time_scale=-1.0"),
        (["seed=7"], "--seeds"),
        (["+experiment=snoopy_sac"], "--rungs"),
        (["reward.gail.demos=x.demo"], "reward.gail.demos"),
        (["algorithm.learnin_rate=1"], "learnin_rate"),
        (["--plot", "ladder.txt"], "--plot ladder.txt"),
        (["--plot", "nowhere/ladder.png"], "nowhere"),
    ],
)
def test_bad_input_is_one_message_before_anything_starts(trainer, recorded, tmp_path, capsys, argv, words):
    assert main(["--folder", str(tmp_path / "ladder"), *argv]) == 2
    message = capsys.readouterr().err.strip()
    assert words in message
    assert "\n" not in message
    assert (trainer.asked, recorded) == ([], [])
    assert not (tmp_path / "ladder").exists()
