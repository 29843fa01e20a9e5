"""What is on a run's page."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import pytest

from tests.trainer.report.written_runs import (
    CURVES,
    FEW,
    gif,
    write_evaluation,
    write_points,
    write_summary,
    written_run,
)
from tests.trainer.several import SPECS
from trainer.report import page
from trainer.report.__main__ import main
from trainer.report.page import page_of
from trainer.runtime.run_lock import run_lock
from trainer.telemetry.metrics_file import METRICS_FILE
from trainer.telemetry.tensorboard import TensorBoard


class Reader(HTMLParser):
    """The text of a page, what it refers to, and the ids that it gives."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "srcset", "poster", "action", "data"):
                self.sources.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.words.append(data)


@pytest.fixture
def read(tmp_path):
    """A written run's page, as it reads."""
    return lambda *overrides, **given: Reader(page_of(written_run(tmp_path / "run", *overrides, **given)))


def test_what_is_wrong_with_a_run_stands_at_the_top(tmp_path):
    run = written_run(tmp_path / "run")
    write_summary(run, 1000, "samples", diagnosis={"Basic-v0": "The policy hardly moves."})
    assert "The policy hardly moves." in Reader(page_of(run)).text


def test_the_page_needs_nothing_beside_it(tmp_path):
    run = written_run(tmp_path / "run", curves=CURVES)
    write_evaluation(run, [0.9, 0.8], video=gif())
    (run / "pictures").mkdir()
    (run / "pictures" / "000000400.gif").write_bytes(gif())
    html = page_of(run)
    found = Reader(html)
    assert found.sources
    assert all(source.startswith(("data:", "#")) for source in found.sources)
    assert not {"script", "link", "iframe", "object", "embed"} & set(found.tags)
    assert "@import" not in html
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", html)


def test_every_reference_within_the_page_leads_to_one_place(read, tmp_path):
    ids = read(curves=CURVES).ids
    assert len(set(ids)) == len(ids)
    html = page_of(tmp_path / "run")
    assert set(re.findall(r'(?:url\(#|href="#)([\w-]+)', html)) <= set(ids)


def test_figures_are_those_of_the_summary(read):
    text = read().text
    for words in ("basic", "ended: samples", "reward 0.4321", "samples 1,000", "time 0:00:03", "episodes 143"):
        assert words in text
    assert "env utilization 97%" in text
    assert "Basic-v0 9 100% 12" in text


@pytest.mark.parametrize(
    ("stopped_by", "reported"), [("goal", "goal reached"), ("interrupted", "interrupted"), ("error", "failed")]
)
def test_the_page_says_what_ended_the_run(read, stopped_by, reported):
    assert f"basic {reported}" in read(stopped_by=stopped_by).text


@pytest.mark.parametrize("ended", [True, False])
def test_figures_of_an_earlier_version_are_read(tmp_path, ended):
    run = written_run(tmp_path / "run", curves={}, stopped_by="samples" if ended else None)
    (run / METRICS_FILE).unlink()
    board = TensorBoard(run)
    for at in (500, 1000):
        board.values(at, 1.0, {name.replace("env_utilization", "supply_fraction"): each for name, each in FEW.items()})
    board.close()
    if ended:
        summary = (run / "summary.json").read_text()
        (run / "summary.json").write_text(summary.replace("env_utilization", "supply_fraction"))
    text = Reader(page_of(run)).text
    assert "env utilization 97%" in text
    assert "Env utilization" in text
    assert "supply" not in text


def test_a_running_run_shows_its_latest_points_and_not_an_earlier_parts_summary(tmp_path):
    run = written_run(tmp_path / "run")
    with run_lock(run):
        text = Reader(page_of(run)).text
    assert "still running" in text
    assert "reward 0.5" in text
    assert "143" not in text


def test_a_run_that_went_on_after_its_summary_and_was_killed_is_not_told_as_ended(tmp_path):
    run = written_run(tmp_path / "run")
    write_points(run, range(1100, 2001, 100), FEW | {"episode/reward": 0.75}, begun=1000)
    text = Reader(page_of(run)).text
    assert "ended without a summary" in text
    assert "reward 0.75" in text
    assert "samples 2,000" in text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"samples": null}'])
def test_a_damaged_summary_is_none(tmp_path, content):
    run = written_run(tmp_path / "run")
    (run / "summary.json").write_text(content)
    assert "ended without a summary" in Reader(page_of(run)).text


def test_metrics_that_are_cut_off_are_shown_as_far_as_they_go(tmp_path):
    run = written_run(tmp_path / "run", stopped_by=None)
    file = run / METRICS_FILE
    file.write_bytes(file.read_bytes()[:-30])
    assert "samples 900" in Reader(page_of(run)).text


def test_metrics_of_no_time_and_of_huge_numbers_are_shown_without(tmp_path):
    run = written_run(tmp_path / "run", curves={}, stopped_by=None)
    line = {"seconds": -1e300, "time": 1e300, "loss/policy": 1e308, "a": -1e308, "<script>": -1e300}
    samples = (-5, 0, 2**53 - 1, 2**53)
    lines = [{**line, "samples": at, "a": at, "episode/reward": at * 1e280} for at in samples]
    (run / METRICS_FILE).write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    page = page_of(run)
    assert "began" not in Reader(page).text
    assert "<script" not in page
    assert "9,007,199,254,740,991" in page


def test_a_run_without_points_says_so(read):
    text = read(curves={}, stopped_by=None).text
    assert "No curves so far" in text
    assert "reward -" in text
    assert "Not evaluated so far" in text


def test_a_goal_is_told_with_when_it_was_reached(tmp_path):
    goal = ["goal.metric=length", "goal.at_most=7", "goal.window_samples=500"]
    run = written_run(tmp_path / "run", *goal, curves=FEW | {"goal/length": 6.5})
    write_summary(run, 1000, "goal", goal_samples=800, goal_seconds=62.0)
    text = Reader(page_of(run)).text
    assert "length 6.5 goal: at most 7 over 500 samples; reached after 800 samples and 0:01:02" in text
    assert "Episode length 6.5" in text


def test_a_low_utilization_comes_with_what_games_waited_for(tmp_path):
    busy = FEW | {"time/throttled": 0.4, "time/updating": 1.0}
    run = written_run(tmp_path / "run", "algorithm=ppo", curves=busy)
    write_summary(run, 1000, "samples", env_utilization=0.6)
    assert (
        "env utilization 60% of what the games could deliver. The learner is the bottleneck"
        in Reader(page_of(run)).text
    )
    write_summary(run, 1000, "samples", env_utilization=0.95)
    assert "bottleneck" not in Reader(page_of(run)).text


def test_settings_that_were_chosen_come_with_their_defaults(read):
    text = read("env.instances=4", "env.kwargs.x=[1,2]").text
    assert "algorithm.rollout_size 512 2048" in text
    assert "env.instances 4 16" in text
    assert "env.kwargs.x [1, 2] -" in text
    assert "env.step_timeout 60.0" not in text
    assert "step_timeout: 60.0" in text  # config.yaml has all


def test_behaviors_settings_are_told_where_they_differ_from_the_top_levels(read):
    text = read("behaviors.Hero.algorithm.clip=0.3", "behaviors.Foe.algorithm.name=sac").text
    assert "behaviors.Hero.algorithm.clip 0.3 0.2" in text
    assert "behaviors.Hero.algorithm.rollout_size" not in text
    assert "behaviors.Foe.algorithm.name sac" not in text  # its defaults are those of SAC
    assert "PPO, SAC" in text


def test_evaluations_are_tables_and_name_another_env(tmp_path):
    run = written_run(tmp_path / "run")
    write_evaluation(run, [0.93, 0.92, 0.93])
    write_evaluation(run, [0.5], deterministic=False, env={"id": "envs.games:Basic-v1", "instances": 16})
    text = Reader(page_of(run)).text
    assert "The best checkpoint after 900 samples 3 episodes, the likeliest actions, seed 7" in text
    assert "Reward 0.9267 ± 0.005774 0.9123 to 0.941 0.92 0.93" in text
    assert "1 episode, actions drawn from the policy, seed 7, id=envs.games:Basic-v1" in text


def test_moving_pictures_are_on_the_page_as_long_as_there_is_room(tmp_path, monkeypatch):
    run = written_run(tmp_path / "run")
    write_evaluation(run, [0.1, 0.2], video=gif())
    (run / "pictures").mkdir()
    for samples in (0, 999_999_999, 2**32):  # by number, not by name
        (run / "pictures" / f"{samples:09d}.gif").write_bytes(gif(2))
    monkeypatch.setattr(page, "EMBEDDED_BYTES", 2 * len(gif()) + len(gif(2)))
    found = Reader(page_of(run))
    shown = [source for source in found.sources if source.startswith("data:")]
    assert [base64.b64decode(source.partition(",")[2]) for source in shown] == [gif(), gif(), gif(2)]
    assert "Evaluation, episode 2: reward 0.2, length 7" in found.text
    assert "In training, after 0 samples" in found.text
    assert "999,999,999 samples" not in found.text
    assert "after 4,294,967,296 samples Too large for this page: pictures/4294967296.gif" in found.text


def test_names_that_look_like_markup_stay_text(tmp_path):
    name = "<script>alert(1)</script>"
    run = written_run(tmp_path / "run", "env.kwargs.x='<b>'", curves=FEW | {f"episode/{name}": 1.0})
    write_evaluation(run, [1.0], env={"id": name})
    found = Reader(page_of(run))
    assert not {"script", "b><"} & set(found.tags)
    assert found.text.count(name) >= 2


def test_the_command_writes_into_the_runs_folder_or_where_it_is_told(tmp_path, capsys):
    run = written_run(tmp_path / "run")
    assert main([f"run={run}"]) == 0
    assert main([f"run={run}", f"to={tmp_path / 'new' / 'page.html'}"]) == 0
    assert capsys.readouterr().out.startswith(f"{run / 'report.html'}: 0.")
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


def test_several_runs_become_the_page_that_compares_them(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = (written_run(tmp_path / name, f"seed={seed}") for seed, name in enumerate("ab"))
    for words in ([f"run={a},{b}"], [f"run=[{a},{b}]"], [str(a), str(b)], [f"run={a}", str(b)]):
        assert main([*words, "to=both.html"]) == 0
    assert capsys.readouterr().out.count("both.html: ") == 4
    assert "What differs in their settings" in (tmp_path / "both.html").read_text()
    assert main([str(a)]) == 0  # a folder needs no key
    assert (a / "report.html").exists()
    assert main([f"run={a},{tmp_path / 'none'}"]) == 2
    assert "none is not a run's folder, it does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("to", "reported"),
    [("", "is a folder: name a file that ends in .html"), ("config.yaml/x.html", "cannot be written")],
)
def test_a_page_that_cannot_be_written_is_refused(tmp_path, capsys, to, reported):
    run = written_run(tmp_path / "run")
    assert main([f"run={run}", f"to={run / to}"]) == 2
    assert reported in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    run = written_run(tmp_path / "run")
    monkeypatch.setattr("trainer.report.output.find_spec", lambda name: None if name == "matplotlib" else object())
    assert main([f"run={run}"]) == 2
    assert capsys.readouterr().err == "error: matplotlib is missing: pip install 'outstep[report]'\n"


def test_collectors_of_a_cluster_have_a_row_each(tmp_path):
    run = written_run(tmp_path / "run", "cluster=ray", "cluster.collectors=3", "env.instances=2")
    figures = {
        "samples": [100, 300, 50, 50, 0, 0],
        "spans": [10.0] * 4 + [0.0] * 2,
        "busy": [10.0, 10.0, 5.0, 5.0, 0, 0],
    }
    write_summary(run, 1000, "samples", instances=figures)
    text = Reader(page_of(run)).text
    assert "collector samples env utilization 0 400 100% 1 100 50% 2 0 -" in text
    write_summary(run, 1000, "samples", instances=figures | {"spans": ["a"] * 6})
    assert "collector samples" not in Reader(page_of(run)).text


def test_behaviors_of_one_run_stand_in_one_chart(tmp_path):
    assert set(SPECS) == {"Early", "Late"}
    named = {f"{name}/{key}": value for name in SPECS for key, value in CURVES.items() if key[0] in "lpu"}
    curves = {key: value for key, value in CURVES.items() if key[0] not in "lpu"} | named
    text = Reader(page_of(written_run(tmp_path / "run", curves=curves))).text
    assert "Policy loss Early -0.02 Late -0.02" in text
    assert text.count("Policy loss") == 1
