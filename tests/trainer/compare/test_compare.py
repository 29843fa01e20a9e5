"""`outstep compare`: which runs are one group, what the table and the page say of them, and what is refused."""

from __future__ import annotations

import pytest

from outstep.__main__ import main
from tests.trainer.report.written_runs import written_run
from trainer.compare.groups import common_metrics, grouped_runs
from trainer.compare.page import table

CURVES = {"episode/reward": 2.0, "policy/kl": 0.01, "run/samples_per_second": 250.0}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = []
    for clip, seed, reward in ((0.1, 0, 1.0), (0.1, 1, 3.0), (0.4, 0, 5.0)):
        name = f"{clip}-{seed}"
        overrides = [f"algorithm.clip={clip}", f"seed={seed}", "stop.samples=1000"]
        folders.append(written_run(tmp_path / name, *overrides, curves={**CURVES, "episode/reward": reward}))
    return folders


def test_runs_that_differ_in_their_seed_alone_are_one_group_with_a_mean(runs):
    groups = grouped_runs(runs, trust=False)
    assert [(group.label, len(group.runs)) for group in groups] == [("clip=0.1", 2), ("clip=0.4", 1)]
    assert [group.chosen for group in groups] == [{"algorithm.clip": "0.1"}, {"algorithm.clip": "0.4"}]
    samples, mean, low, high = groups[0].mean_curve("episode/reward")
    assert (samples[0], samples[-1]) == (100, 1000)
    assert (low[-1], mean[-1], high[-1]) == (1, 2, 3)
    assert groups[0].mean_curve("loss/policy") is None
    assert common_metrics(groups) == list(CURVES)


def test_the_table_and_the_page_show_all_groups(runs, capsys):
    assert main(["compare", *map(str, runs), "to=both.html"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["runs", "clip=0.1", "clip=0.4", "both.html:"]
    assert "2 ± 1.4" in lines[1]
    page = (runs[0].parent / "both.html").read_text()
    for text in ("clip=0.4", "2 ± 1.4", "algorithm.clip", "What differs in their settings", str(runs[2]), "<svg"):
        assert text in page
    assert "fill-opacity" in page  # the band of the seeds


def test_speed_is_that_of_the_whole_run_and_not_of_its_last_moment(runs):
    (group, _) = grouped_runs(runs, trust=False)
    curve = group.runs[0].history.curves["run/samples_per_second"]
    assert group.means("run/samples_per_second") == [pytest.approx(sum(curve.values) / 10)] * 2
    assert table([group])[1][0][5].startswith("137.5")


def test_only_seeds_differ(runs, capsys):
    assert main(["compare", str(runs[0]), str(runs[1])]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("basic ")
    assert "Nothing but the seed" in (runs[0].parent / "comparison.html").read_text()


def test_what_cannot_be_compared_is_refused_in_one_line(runs, capsys):
    alone = written_run(runs[0].parent / "alone", curves={"x/y": 1.0})
    for words, message in (
        ([], "compare takes two or more folders of runs, such as runs/a runs/b; given: 0"),
        ([runs[0]], "given: 1"),
        ([runs[0], runs[0]], "is named twice"),
        ([runs[0], "nowhere"], "nowhere is not a run's folder, it does not exist"),
        ([runs[0], alone], "these runs have no metric in common"),
        ([runs[0], runs[1], f"to={runs[0]}"], "is a folder: name a file"),
        ([runs[0], runs[1], "too=x"], "did you mean to?"),
    ):
        assert main(["compare", *map(str, words)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not (runs[0].parent / "comparison.html").exists()
