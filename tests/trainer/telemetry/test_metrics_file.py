"""`metrics.jsonl`: what is written, what a resume undoes, and what a reader takes."""

from __future__ import annotations

import json
import math

from trainer.telemetry.metrics_file import METRICS_FILE, MetricsFile, read_metrics, values_until


def test_a_line_is_there_at_once_and_holds_what_is_finite(tmp_path):
    file = MetricsFile(tmp_path)
    file.values(2**40, 12.5, {"episode/reward": 1 / 3, "loss/policy": math.nan})
    (line,) = map(json.loads, (tmp_path / METRICS_FILE).read_text().splitlines())
    assert line.pop("time") > 1.7e9
    assert line == {"samples": 2**40, "seconds": 12.5, "episode/reward": 0.3333333}
    file.close()


def test_a_resume_removes_what_it_has_undone_and_half_a_line(tmp_path):
    file = MetricsFile(tmp_path)
    for samples in (100, 200, 300):
        file.values(samples, samples / 100, {"x": samples})
    file.close()
    with (tmp_path / METRICS_FILE).open("a") as rest:
        rest.write('{"samples": 400, "x"')
    resumed = MetricsFile(tmp_path, 200)
    resumed.values(250, 2.5, {"x": 250, "y": 1})
    resumed.close()
    metrics = read_metrics(tmp_path)
    assert metrics.samples.tolist() == [100, 200, 250]
    assert metrics.points("x")[2].tolist() == [100, 200, 250]
    assert [list(each) for each in metrics.points("y")] == [[250], [2.5], [1]]


def test_the_display_of_a_resumed_run_begins_with_the_curve_so_far(tmp_path):
    assert values_until(tmp_path, "x", 200) == []
    file = MetricsFile(tmp_path)
    for samples in (100, 200, 300):
        file.values(samples, samples / 100, {"x": samples})
    file.close()
    assert values_until(tmp_path, "x", 200) == [100, 200]
    assert values_until(tmp_path, "y", 200) == []


def test_a_damaged_file_is_read_as_far_as_it_can_be(tmp_path):
    lines = [
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"samples": "5"}',
        b"[" * 10**5,
        b'{"samples": 7, "x": "y", "z": 1e999, "w": 2}',
    ]
    (tmp_path / METRICS_FILE).write_bytes(b"\n".join(lines))
    metrics = read_metrics(tmp_path)
    assert metrics.samples.tolist() == [7]
    assert {name: list(values) for name, (_, values) in metrics.found.items()} == {"w": [2]}
    assert len(read_metrics(tmp_path / "nowhere").samples) == 0
