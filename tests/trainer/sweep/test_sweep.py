"""A study's trials: all are made once, whatever ends the processes that make them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState

from envs.spec import UserError
from outstep.__main__ import main
from tests.trainer.conftest import contents
from tests.trainer.sweep.conftest import BASIC, RATE
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.run_lock import run_lock
from trainer.sweep.plan import make_plan
from trainer.sweep.study import JOURNAL, Study, load

CHILD = """
import sys
import trainer.sweep.trial, trainer.sweep.plan, trainer.sweep.page
trainer.sweep.trial.TRAIN = (sys.executable, "-S", sys.argv[1])
trainer.sweep.plan.check_train = lambda config: None
trainer.sweep.plan.own_cores = lambda: 4
trainer.sweep.page.write_sweep_page = lambda plan, study: None
from outstep.__main__ import main
sys.exit(main(["sweep", *sys.argv[2:]]))
"""
SLOW = {"seconds": 2.0}


def trials(folder="a"):
    return load(Path(folder)).get_trials()


def starts(folder="a") -> dict[str, list[str]]:
    found = sorted(Path(folder).glob("trials/*/*/starts"))
    return {file.parent.parent.name: file.read_text().split() for file in found}


def started(*words: str, fake: dict | None = None) -> subprocess.Popen:
    """A sweep in a process of its own."""
    script = str(Path(__file__).with_name("fake_train.py"))
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, script, *BASIC, *words],
        env={**os.environ, "FAKE": json.dumps(fake or {}), "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_trials_are_sampled_judged_and_listed_and_the_same_command_makes_no_more(sweep, capsys):
    assert sweep(RATE, "algorithm.epochs=2,3", "trials=5", "parallel=2", "to=a", "pruner=none") == 0
    made = trials()
    assert [trial.state for trial in made] == [TrialState.COMPLETE] * 5
    for trial in made:
        assert trial.value == pytest.approx(trial.params["algorithm.learning_rate"])
    lines = capsys.readouterr().out.splitlines()
    best = max(made, key=lambda trial: trial.value)
    assert lines[1].split()[:4] == [str(best.number), "ended", "100%", f"{best.value:.4g}"]
    assert lines[-1] == "Next: an experiment of the best  outstep sweep best a"
    before = starts()
    assert sweep(RATE, "algorithm.epochs=2,3", "trials=5", "parallel=1", "to=a", "pruner=none") == 0
    assert starts() == before == {f"{number:03d}": ["begun"] for number in range(5)}


def test_a_seed_gives_the_same_trials_again(sweep):
    for folder in ("a", "b"):
        assert sweep(RATE, "trials=3", f"to={folder}") == 0
    assert [trial.params for trial in trials("a")] == [trial.params for trial in trials("b")]
    assert sweep(RATE, "trials=1", "to=c", "seed=1") == 0
    assert trials("c")[0].params != trials("a")[0].params


def test_lists_alone_are_a_grid_of_all_combinations(sweep):
    assert sweep("algorithm.learning_rate=0.1,0.2", "algorithm.epochs=range(2,4)", "to=a", "pruner=none") == 0
    made = [(trial.params["algorithm.learning_rate"], trial.params["algorithm.epochs"]) for trial in trials()]
    assert made == [("0.1", 2), ("0.1", 3), ("0.2", 2), ("0.2", 3)]


def test_a_trial_that_looks_bad_is_ended_with_a_checkpoint_and_can_be_taken_up(sweep):
    words = ["algorithm.learning_rate=0.9,0.8,0.7,0.6,0.1", "to=a"]
    assert sweep(*words, fake=SLOW) == 0
    *good, bad = trials()
    assert {trial.state for trial in good} == {TrialState.COMPLETE}
    assert bad.state is TrialState.PRUNED
    saved = max(Path("a/trials/004/seed-0/checkpoints").iterdir())  # there may be a regular one before
    assert 250 <= int(saved.name.partition("-")[2]) < 1000
    assert bad.value == pytest.approx(0.1 * bad.last_step / 20, rel=0.2)


def test_a_trial_has_the_mean_of_its_seeds(sweep):
    assert sweep("algorithm.learning_rate=0.5,1", "seeds=3", "seed=7", "to=a", "average=iqm") == 0
    assert [trial.value for trial in trials()] == pytest.approx([8.5, 9.0])
    assert [each.name for each in sorted(Path("a/trials/000").glob("seed-*"))] == ["seed-7", "seed-8", "seed-9"]
    points = trials()[0].intermediate_values
    assert sorted(points) == list(range(1, 61))
    assert points[40] == pytest.approx(8.0)  # the mean of seeds 7 and 8, whose runs have ended
    assert points[30] == pytest.approx(7.75)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_run_that_something_kills_is_gone_on_with(sweep):
    assert sweep(RATE, "trials=1", "to=a", fake={"dies": 1}) == 0
    assert starts() == {"000": ["begun", "resumed"]}
    assert trials()[0].state is TrialState.COMPLETE
    assert sweep(RATE, "trials=2", "to=a", fake={"dies": 9}) == 0
    assert trials()[1].state is TrialState.FAIL
    assert "SIGKILL" in trials()[1].user_attrs["error"]


def test_a_trial_that_fails_does_not_end_the_others_but_several_at_the_start_do(sweep, capsys):
    words = ["algorithm.learning_rate=0.1,0.9,0.8,0.7", "to=a", "pruner=none"]
    assert sweep(*words, fake={"fails": 0.75}) == 0
    states = [trial.state.name for trial in trials()]
    assert states == ["COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    capsys.readouterr()
    assert sweep(*words[:1], "to=b", fake={"fails": 0.0}) == 2
    message = (
        "error: the first 3 trials have all failed, the last one because: the game is broken (b/trials/002/output.log)"
    )
    assert capsys.readouterr().err.splitlines()[-1] == message
    assert len(trials("b")) == 3


def test_a_metric_that_no_run_reports_is_found_after_the_first_trial(sweep, capsys):
    words = [RATE, "trials=4", "to=a"]
    assert sweep(*words, "metric=episode/rewrd") == 2
    assert "has reported no such metric, but episode/reward, loss/policy." in capsys.readouterr().err.splitlines()[-1]
    assert len(trials()) == 1
    assert sweep(*words) == 0
    assert [trial.state.name for trial in trials()].count("COMPLETE") >= 1
    assert starts()["000"] == ["begun", "resumed"]
    assert sweep(*words, "metric=loss/policy", "direction=maximize") == 2


def test_a_sweep_that_is_killed_is_gone_on_with_and_no_trial_is_lost_or_run_twice(sweep, tmp_path):
    words = [RATE, "trials=8", "parallel=2", "to=a", "pruner=none"]
    process = started(*words, fake={"seconds": 0.6})
    wait_for(lambda: len(starts()) >= 4)
    process.kill()
    process.wait()
    interrupted = [f"{trial.number:03d}" for trial in trials() if not trial.state.is_finished()]
    assert 1 <= len(interrupted) <= 2
    assert sweep(*words) == 0
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE] * 8
    begun = starts()
    assert sorted(begun) == [f"{number:03d}" for number in range(8)]
    for number, each in begun.items():
        assert len(each) == (2 if number in interrupted else 1), "an ended trial was run again"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_saves_all_runs_and_leaves_their_trials_under_way(sweep, tmp_path):
    words = [RATE, "trials=3", "parallel=2", "to=a", "pruner=none"]
    process = started(*words, fake={"seconds": 20})
    wait_for(lambda: len(list(Path("a").glob("trials/*/*/metrics.jsonl"))) == 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert [trial.state for trial in trials()] == [TrialState.RUNNING] * 2
    assert len(list(Path("a").glob("trials/*/*/checkpoints/0*"))) == 2
    assert sweep(*words) == 0
    assert starts() == {"000": ["begun", "resumed"], "001": ["begun", "resumed"], "002": ["begun"]}


def test_several_processes_share_a_study(sweep):
    words = [RATE, "trials=9", "parallel=2", "to=a", "pruner=none"]
    processes = [started(*words, fake={"seconds": 0.2}) for _ in range(2)]
    assert [process.wait(100) for process in processes] == [0, 0]
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE] * 9
    assert Counter(map(tuple, starts().values())) == {("begun",): 9}


def test_a_line_that_was_written_in_part_is_mended(sweep):
    assert sweep(RATE, "trials=1", "to=a") == 0
    with Path("a", JOURNAL).open("ab") as file:
        file.write(b'{"op_code": 4, "worker')
    assert sweep(RATE, "trials=2", "to=a") == 0
    assert len(trials()) == 2


def test_the_best_is_an_experiment_that_comes_to_the_same(sweep, tmp_path, capsys):
    words = ["+experiment=basic_sac", "algorithm=sac", "run.name='a, b'"]
    assert sweep(*words, RATE, "algorithm.network.hidden=choice([8],[8,8])", "trials=3", "to=s/a") == 0
    capsys.readouterr()
    assert main(["sweep", "best", "s/a"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("Next: outstep train +experiment=a_best\n")
    best = max(trials("s/a"), key=lambda trial: trial.value)
    own = [*BASIC, *words, *(f"{key}={value}" for key, value in best.params.items())]
    ours, theirs = (compose(each, TrainConfig, "config") for each in (own, ["+experiment=a_best"]))
    assert (ours.algorithm, ours.env, ours.stop, ours.run.name) == (
        theirs.algorithm,
        theirs.env,
        theirs.stop,
        theirs.run.name,
    )


def test_a_population_goes_on_with_the_best_weights(sweep):
    words = ["sampler=pbt", "population=4", "generations=3", "parallel=2", RATE, "to=a"]
    assert sweep(*words) == 0
    made = trials()
    assert [trial.state for trial in made] == [TrialState.COMPLETE] * 12
    parts = [trial.user_attrs["part"] for trial in made]
    assert sorted((part["member"], part["generation"]) for part in parts) == [
        (m, g) for m in range(4) for g in range(3)
    ]
    taken = [(trial, part) for trial, part in zip(made, parts) if part["takes_over"]]
    assert taken
    for trial, part in taken:
        given = json.loads(Path(f"a/trials/{trial.number:03d}/seed-0/config.yaml").read_text())
        assert given["init"].startswith(f"a/trials/{part['parent']:03d}/seed-0/checkpoints/")
    went_on = [
        (trial, part) for trial, part in zip(made, parts) if part["parent"] is not None and not part["takes_over"]
    ]
    for trial, part in went_on:
        assert trial.params == made[part["parent"]].params
        lines = Path(f"a/trials/{trial.number:03d}/seed-0/metrics.jsonl").read_text().splitlines()
        samples = [json.loads(line)["samples"] for line in lines]
        assert samples == sorted(set(samples)), "its curve goes on with that of the part before"
        assert samples[-1] == part["stop"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trials=4"], "there is nothing to search: give a setting a range or several values"),
        ([RATE, "parallel=5"], "parallel=5 trials at a time are more than the 4 cores here"),
        ([RATE, "stop.samples=null"], "trials need an end: give stop.samples or stop.seconds"),
        ([RATE, "run.dir=x"], "run.dir=x is not for a sweep"),
        ([RATE, "resume=runs/a"], "resume=runs/a is not for a sweep"),
        ([RATE, "trails=4"], "unknown key trails; did you mean trials?"),
        ([RATE, "trials=0"], "trials=0 must be"),
        ([RATE, "pruner=meidan"], "pruner=meidan"),
        (["algorithm.lerning_rate=interval(0.1,1)"], "unknown key algorithm.lerning_rate; did you mean"),
        (["algorithm.gae_lambda=interval(0.5,2)"], "algorithm.gae_lambda=2.0 must lie between 0 and 1"),
        (["algorithm.epochs=1,zwei", "trials=2"], "algorithm.epochs=zwei: expected an integer"),
        ([RATE, "sampler=grid"], "has an interval, of which there are no combinations"),
        ([RATE, "sampler=pbt", "trials=8"], "trials=8: sampler=pbt makes population x generations"),
        (["algorithm.network.hidden=[8],[9]", "sampler=pbt"], "cannot be searched by sampler=pbt"),
        ([RATE, "seed=1,2", "seeds=2"], "seeds=2 and several values of seed mean the same"),
        ([RATE, "trials=1,2"], "trials=1,2: numbers have no comma"),
        ([RATE, "space=ppoo"], "space=ppoo: did you mean ppo?"),
        ([RATE, "to=file"], "to=file is a file: name a folder"),
        ([RATE, "to=full"], "to=full holds something else, such as mine.txt"),
        ([RATE, "--cfg", "job"], "--cfg is for a run: outstep train --cfg"),
    ],
)
def test_bad_input_is_one_message_and_starts_nothing(sweep, tmp_path, capsys, words, message):
    Path("file").write_text("")
    Path("full").mkdir()
    Path("full/mine.txt").write_text("")
    before = contents(tmp_path)
    assert sweep(*words) == 2
    out, error = capsys.readouterr()
    assert not out
    (line,) = error.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert contents(tmp_path) == before


def test_a_folder_with_another_study_is_refused(sweep):
    Study(make_plan([*BASIC, RATE, "to=a"]))
    Study(make_plan([*BASIC, RATE, "to=a", "trials=50", "parallel=2", "metric=episode/length"]))
    Study(make_plan([*BASIC, RATE, "to=a"]))  # as long as no trial was judged
    for words, message in (
        (["algorithm.learning_rate=interval(0.1,2)"], "there, searched is"),
        ([RATE, "algorithm.clip=0.1"], "there, settings is"),
        ([RATE, "seeds=2"], "there, seeds is 1, and here 2"),
        ([RATE, "metric=loss/policy"], "there, direction is maximize, and here minimize"),
    ):
        with pytest.raises(UserError, match=f"to=a holds another study: {message}"):
            Study(make_plan([*BASIC, *words, "to=a"]))


def test_without_optuna_it_says_what_to_install(sweep, capsys, monkeypatch):
    monkeypatch.setattr("trainer.sweep.plan.find_spec", lambda name: None)
    assert sweep(RATE) == 2
    assert capsys.readouterr().err == "error: optuna is missing: pip install 'outstep[sweep]'\n"


def test_best_refuses_what_is_no_study_or_has_no_best_yet(sweep, capsys):
    Path("empty").mkdir()
    for words, message in (
        (["empty"], "empty holds no study"),
        ([], "study is missing"),
        (["empty", "to=x.txt"], "holds no study"),
    ):
        assert main(["sweep", "best", *words]) == 2
        assert message in capsys.readouterr().err


def test_a_trial_is_never_given_twice(sweep):
    plan = make_plan([*BASIC, RATE, "trials=3", "to=a"])
    first, second = Study(plan), Study(plan)
    claimed = [first.next(), second.next(), first.next(), second.next()]
    assert [each and each.number for each in claimed] == [0, 1, 2, None]
    claimed[1].let_go()  # as when its process ends
    (run := Path("a/trials/001/seed-0")).mkdir()
    with run_lock(run):
        assert first.next() is None, "its run may outlive it for a moment"
    again = first.next()
    assert (again.number, again.values) == (1, claimed[1].values)
