"""A run's curves, as its page shows them."""

from __future__ import annotations

import json
import math
import re
import struct
from itertools import pairwise

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from tests.trainer.report.written_runs import CURVES, write_points, written_run
from trainer.config.saved import read_config
from trainer.config.schema import TrainConfig
from trainer.report.curves import Chart, Curve, read_history, sections
from trainer.report.drawing import draw
from trainer.telemetry import metrics_file
from trainer.telemetry.tensorboard import TensorBoard


def charts_of(folder):
    return [chart for section in sections(read_history(folder), read_config(folder)) for chart in section.charts]


def test_every_curve_is_in_one_chart(tmp_path):
    extra = {"goal/length": 7.0, "game/lives": 3.0, "episode/solved": 1.0, "evaluation/solved": 1.0, "gail/loss": 0.1}
    extra |= {"gail/score_own": 0.1, "gail/score_demonstrated": 0.1, "ppo/value": 3.0}
    run = written_run(tmp_path / "run", "goal.metric=length", "goal.at_most=7", curves=CURVES | extra)
    history = read_history(run)
    shown = [curve for chart in charts_of(run) for curve in chart.curves]
    assert len(shown) == len(CURVES | extra) - len({"run/seconds", "instances/share_0"})
    titles = [chart.title for chart in charts_of(run)]
    assert len(set(titles)) == len(titles)
    assert history.samples == 1000
    assert history.behaviors == [""]


def test_what_episodes_end_with_is_one_chart_with_its_evaluations_and_the_goal(tmp_path):
    goal = ["goal.metric=reward", "goal.at_least=0.9", "goal.window_samples=500", "evaluate.every_samples=100"]
    evaluated = {"evaluation/reward": 0.7, "evaluation/reward_deviation": 0.1}
    run = written_run(tmp_path / "run", *goal, curves={"episode/reward": 0.5, "goal/reward": 0.6, **evaluated})
    (chart,) = charts_of(run)
    assert (chart.title, chart.target) == ("Reward", 0.9)
    assert list(chart.curves) == ["training", "evaluations", "goal"]
    low, high = chart.bands["evaluations"]
    assert (round(low[-1], 3), round(high[-1], 3)) == (0.6, 0.8)
    for words in ("last 100 episodes", "20 episodes each", "over 500 samples", "one deviation"):
        assert words in chart.note


def test_series_that_are_constant_but_for_rounding_are_flat_lines_at_their_value():
    for values in ([0.2, 0.2, 0.2000001], [0.0] * 3, [-3e4] * 3):
        svg = draw(Chart("flat", "", {"": Curve([1, 2, 3], values)}), "x")
        (line,) = re.findall(r'd="M ([^"]+?)" clip-path[^>]*series-0', svg.replace("\n", " "))
        heights = [float(word) for word in re.findall(r"-?[\d.]+", line)[1::2]]
        assert max(heights) - min(heights) < 0.01
        assert svg.count("ytick") == 1  # its value, and no other number


def test_what_a_resume_has_undone_is_not_shown(tmp_path):
    run = written_run(tmp_path / "run")
    write_points(run, range(700, 1501, 100), {"episode/reward": 9.0}, begun=600)
    reward = read_history(run).curves["episode/reward"]
    assert reward.samples == list(range(100, 1501, 100))
    assert [value > 1 for value in reward.values] == 6 * [False] + 9 * [True]


def test_a_run_of_an_earlier_version_shows_its_events_under_new_names(tmp_path):
    board = TensorBoard(tmp_path)
    for at in (100, 200):
        board.values(at, 1.0, {"time/held_back": 0.2, "run/supply_fraction": 0.9, "x": 1.0})
    board.close()
    curves = read_history(tmp_path).curves
    assert curves.keys() == {"time/throttled", "run/env_utilization", "x"}
    assert curves["time/throttled"].samples == curves["x"].samples == [100, 200]


def test_events_that_a_resume_has_undone_are_not_shown(tmp_path):
    for begun, steps in ((None, (100, 200, 300)), (200, (250, 400))):
        board = TensorBoard(tmp_path, begun)
        for at in steps:
            board.values(at, 1.0, {"x": float(at)})
        board.close()
    assert read_history(tmp_path).curves["x"] == Curve([100, 200, 250, 400], [100.0, 200.0, 250.0, 400.0])


def test_damaged_events_end_their_file_and_no_more(tmp_path):
    def record(content: bytes, size: int | None = None) -> bytes:
        return struct.pack("<QI", len(content) if size is None else size, 0) + content + bytes(4)

    def point(step: int, value: float, tag: str = "x", at: float = 5.0) -> bytes:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        return record(Event(wall_time=at, step=step, summary=summary).SerializeToString())

    later = {
        "random": b"\xff" * 1000,
        "huge": point(2, 2.0) + record(b"", 2**63),
        "cut": point(3, 3.0) + point(4, 4.0)[:-9],
        "odd": point(5, math.nan) + point(-1, 1.0) + point(6, 1.0, at=math.inf) + point(7, 7.0, tag="\x1b"),
    }
    for name, content in later.items():
        (tmp_path / f"events.out.tfevents.{name}").write_bytes(content)
    (tmp_path / "events.out.tfevents.folder").mkdir()
    history = read_history(tmp_path)
    assert history.curves == {"x": Curve([2, 3], [2.0, 3.0]), "\x1b": Curve([7], [7.0])}
    assert (history.began, history.ended) == (5.0, 5.0)


def test_metrics_that_anybody_may_have_written_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_file, "_MOST_NUMBERS", 40)
    lines = [json.dumps({"samples": at, "seconds": 0, "time": -1e308, "x": at}) for at in range(100)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(["[", "\x00" * 100, '{"samples": 1e9}', *lines]))
    assert read_history(tmp_path).curves["x"].samples == list(range(13))


def test_a_long_curve_is_thinned_evenly_and_keeps_its_ends(tmp_path):
    write_points(tmp_path, range(10, 50_001, 10), {"x": 1.0})
    samples = read_history(tmp_path).curves["x"].samples
    assert (len(samples), samples[0], samples[-1]) == (1000, 10, 50_000)
    assert max(b - a for a, b in pairwise(samples)) <= 60


def test_a_sole_behaviors_own_curves_are_not_shown_twice(tmp_path):
    named = {f"Basic/{key}": CURVES[key] for key in ("episode/reward", "loss/policy", "update/count")}
    run = written_run(tmp_path / "run", curves={"episode/reward": 0.5, **named})
    charts = charts_of(run)
    assert [(chart.title, list(chart.curves)) for chart in charts] == [
        ("Reward", [""]),
        ("Policy loss", [""]),
        ("Updates", [""]),
    ]


def test_behaviors_share_a_chart_with_all_of_them(tmp_path):
    named = {f"{name}/{key}": CURVES[key] for name in ("A", "B/C") for key in ("episode/reward", "update/count")}
    run = written_run(tmp_path / "run", curves={"episode/reward": 0.5, **named})
    reward, updates = charts_of(run)
    assert list(reward.curves) == ["A", "B/C", "all"]
    assert list(updates.curves) == ["A", "B/C"]


def test_a_folder_without_points_has_no_curves(tmp_path):
    history = read_history(tmp_path)
    assert (history.curves, history.began, history.samples) == ({}, None, 0)
    assert sections(history, TrainConfig()) == []


def test_a_drawing_takes_every_colour_from_the_page():
    curve = Curve([1, 2, 3], [0.0, 5.0, 2.0])
    for chart in (
        Chart("many", "", {str(place): curve for place in range(8)}, target=1.0),
        Chart("shares", "", {"a": curve, "b": curve}, percent=True, stacked=True),
    ):
        svg = draw(chart, "x")
        assert not re.findall(r"(?:fill|stroke): #\w+", svg)
        assert "var(--series-0)" in svg
        assert "var(--muted)" in svg


def test_small_shares_are_drawn_on_a_scale_of_their_own_and_none_at_all_on_that_to_100_percent():
    def highest(*values):
        svg = draw(Chart("shares", "", {"": Curve([1, 2], list(values))}, percent=True), "x")
        return max(float(word) for word in re.findall(r">([\d.]+)%<", svg))

    assert highest(0.06, 0.07) < 10
    assert highest(0.0, 0.0) == highest(0.5, 0.6) == 100
    assert highest(0.5, 1.3) > 100


def test_values_that_are_none_leave_the_others_standing():
    nan = float("nan")
    for values in ([1.0, nan, math.inf, 2.0], [nan] * 4, [1e30, -1e30, 0.0, 1.0], [0.0] * 4):
        assert draw(Chart("odd", "", {"": Curve([1, 2, 3, 4], values)}), "x").startswith("<svg")
    stacked = {"a": Curve([1, 2], [0.5, nan]), "b": Curve([1, 2], [0.5, 0.5])}
    assert draw(Chart("odd", "", stacked, percent=True, stacked=True), "x").startswith("<svg")


def test_a_single_point_is_a_dot_that_can_be_seen():
    one = draw(Chart("one", "", {"": Curve([5], [0.93])}), "x")
    assert "<use " in one
    assert "<use " not in draw(Chart("two", "", {"": Curve([5, 6], [0.93, 0.94])}), "x")
