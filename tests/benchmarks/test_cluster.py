"""The simulation of clusters, where it can be checked by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks import cluster
from benchmarks.cluster import Case, Simulation, cases, fragment_costs, main

CASE = Case(hosts=4, rate=15.0, rows=32, rollout=2048, row_bytes=436, fragment_us=100.0, row_us=0.5)
COSTS = [
    {"rows": what, "fragment": fragment, "us": 160 / fragment + 0.5}
    for what in ("100 floats", "84 x 84 x 4")
    for fragment in (16, 64, 512)
]


def test_games_that_nothing_holds_deliver_all_and_the_bytes_are_those_of_the_rows() -> None:
    found = Simulation(CASE).run(10.0)
    assert found.utilization == pytest.approx(1.0, abs=0.01)
    assert found.megabytes_per_second == pytest.approx(4 * 16 * 15 * 436 / 1e6, rel=0.05)
    assert found.dropped == 0
    assert found.seconds_behind < 0.1


def test_an_ingest_that_is_too_slow_holds_games_back_to_what_it_takes() -> None:
    found = Simulation(replace(CASE, rate=300.0, fragment_us=6400.0)).run(5.0)
    assert found.ingest_cores == pytest.approx(1.0, abs=0.01)
    assert found.utilization * 4 * 16 * 300 == pytest.approx(32 / (6400e-6 + 32 * 0.5e-6), rel=0.02)


def test_a_network_that_is_full_does_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "BYTES_PER_SECOND", 1e5)
    found = Simulation(CASE).run(10.0)
    assert found.megabytes_per_second == pytest.approx(0.1, rel=0.02)
    assert found.utilization < 0.3


def test_rows_that_are_too_old_are_dropped_and_not_learned_from() -> None:
    found = Simulation(replace(CASE, hosts=16, rate=300.0, rows=16, fragment_us=10.0)).run(5.0)
    assert found.dropped > 0.2  # some 37 updates a second, and weights ten times a second
    assert found.lag_largest == 1


def test_costs_are_split_between_fragments_and_rows() -> None:
    assert fragment_costs(COSTS, "100 floats") == pytest.approx((160.0, 0.5))


def test_fragments_are_those_of_a_run() -> None:
    made = {(case.hosts, case.rate, case.rollout): case.rows for case in cases(COSTS, "100 floats")}
    assert made[4, 15.0, 2048] == 32
    assert made[256, 300.0, 256 * 128] == 16
    assert max(made.values()) == 512


def test_result_is_one_json_object(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ingest.json").write_text(json.dumps({"ingest": COSTS}))
    monkeypatch.setattr(cluster, "HOSTS", (4,))
    monkeypatch.setattr(cluster, "RATES", (15.0,))
    monkeypatch.setattr(cluster, "fastest", lambda *_: 14_000.0)
    for words in (["--json"], []):
        monkeypatch.setattr(
            "sys.argv", ["cluster", "--ingest", str(tmp_path / "ingest.json"), "--seconds", "1", *words]
        )
        main()
    printed, text = capsys.readouterr().out.split("\n", 1)
    assert [case["hosts"] for case in json.loads(printed)["100 floats"]] == [4, 4, 4]
    assert "a rollout of 2,048: to 14,000 samples/s" in text
