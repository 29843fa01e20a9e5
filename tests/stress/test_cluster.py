import json

import pytest

from tests.stress import cluster, trial
from tests.stress.audit import Host, audit
from tests.stress.chaos_toys import Played
from tests.stress.cluster import _text, killed, learner_killed, main


@pytest.fixture
def played(tmp_path):
    return Played(tmp_path)


def test_whatever_dies_of_a_cluster_only_what_waited_on_its_host_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "HOSTS", 2)
    monkeypatch.setattr(trial, "LEFT_SECONDS", 100.0)
    found = killed("gym", tmp_path / "run", 4, 0)
    assert sum(found["kills"].values()) == 4
    assert (found["lost_beyond"], found["duplicates"], found["wrong_links"]) == (0, 0, 0)
    assert found["status"] == 143
    assert found["rows"] > 0
    assert found["as_claimed"], found


def test_nothing_is_left_of_a_learner_that_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ORPHAN_SECONDS", 100.0)
    found = learner_killed("gym", tmp_path / "run")
    assert (
        found["processes"] >= 1 + 1 + 2 * 3
    )  # the learner, the ingest, and of each host a relay, a collector, a worker
    assert found["as_claimed"], found["left"]


def test_steps_that_waited_on_a_host_may_be_lost_with_it_and_no_more_than_its_window_holds(played):
    for _ in range(6):
        played.step(0, keep=False)
    played.step(1)
    hosts = [Host(frozenset({1}), 5), Host(frozenset({2}), 5)]
    found = audit(played.rows, played.records(), {1}, {2}, hosts)
    assert found.clean
    assert (found.lost, found.behind, found.lost_beyond) == (1, 5, 0)
    hosts = [Host(frozenset({1}), 3), Host(frozenset({2}), 5)]
    found = audit(played.rows, played.records(), {1}, {2}, hosts)
    assert (found.behind, found.lost_beyond) == (5, 2)
    assert found.examples == ["lost: 5 steps of the lives [1], not at most 3"]


def test_steps_of_a_host_that_are_older_than_what_was_delivered_are_lost(played, monkeypatch):
    monkeypatch.setattr("tests.stress.audit._OUT_OF_ORDER_SECONDS", 0.0)
    for _ in range(3):
        played.step(0, keep=False)
    played.step(1)
    found = audit(played.rows, played.records(), {1}, {2}, [Host(frozenset({1, 2}), 100)])
    assert (found.lost, found.behind, found.lost_beyond) == (1, 0, 2)


def test_every_part_is_told_of():
    words = _text({"hosts": 4, "instances": 2, "seed": 0, "gym": {"as_claimed": False, "lost_beyond": 3, "left": []}})
    assert "gym: NOT AS CLAIMED" in words
    assert "  lost beyond: 3" in words


def test_too_few_kills_are_refused(capsys):
    assert main(["--kills", "0", "--json"]) == 2
    captured = capsys.readouterr()
    assert "--kills 0 must be at least 1" in captured.err
    assert captured.out == ""


def test_result_is_one_json_object_and_a_failed_claim_a_status(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cluster, "killed", lambda *_: {"as_claimed": True})
    monkeypatch.setattr(cluster, "learner_killed", lambda *_: {"as_claimed": True})
    monkeypatch.setattr(cluster, "silence", lambda *_: {"as_claimed": False})
    assert main(["--json", "--kind", "gym"]) == 1
    assert json.loads(capsys.readouterr().out)["silence"] == {"as_claimed": False}
