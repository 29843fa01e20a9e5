from argparse import Namespace

import pytest

from tests.stress import soak
from tests.stress.soak import Sample, _text, compared, main


def moment(memory: int, players: int = 4, youngest: float = 100.0) -> dict[str, Sample]:
    return {
        "learner": Sample(1, memory, 20, 8, 1000.0),
        "players": Sample(players, 100 * players, 10 * players, players, youngest),
    }


def series(memory) -> list:
    return [(second / 60, moment(memory(second / 60))) for second in range(0, 1800, 10)]


def test_growth_is_of_what_comes_after_the_first_minutes():
    figures = compared(series(lambda minute: 600 if minute < 10 else 1000 + (minute > 25) * 14))
    assert figures["learner"]["memory"]["growth"] == pytest.approx(0.014)
    assert figures["memory_growth"] == pytest.approx(14 / 1400)
    assert figures["players"]["handles"] == {"early": 40, "late": 40, "growth": 0.0}


def test_moments_in_which_a_process_is_missing_or_young_are_not_compared():
    every = series(lambda minute: 1000)
    every[70] = (every[70][0], moment(9000, players=2))
    every[71] = (every[71][0], moment(9000, youngest=3.0))
    figures = compared(every)
    assert figures["moments"] == [28, 30]
    assert figures["memory_growth"] == 0.0


def test_run_that_was_never_complete_has_no_growth():
    figures = compared([(minute, moment(1000, youngest=1.0)) for minute in range(30)])
    assert figures == {"moments": [0, 0]}
    run = {"status": 0, "faults": {"kill": 3}, "restarts": 6, **figures}
    assert "cannot be told" in _text({"minutes": 30, "seed": 0, "gym": run})


def test_workers_and_players_are_watched_at_once(tmp_path, monkeypatch):
    running, seen = {"gym": 2, "unity": 4}, []

    class Watched:
        """A run that ends after so many turns."""

        def __init__(self, kind, folder, options):
            self.kind, self.trial = kind, self

        def __enter__(self):
            return self

        def __exit__(self, *error):
            assert not self.running

        @property
        def running(self):
            return running[self.kind] > 0

        def turn(self):
            seen.append(self.kind)
            running[self.kind] -= 1

        def figures(self):
            return {"status": 0}

    monkeypatch.setattr(soak, "_Watched", Watched)
    monkeypatch.setattr(soak.time, "sleep", lambda seconds: None)
    result = soak.soak(tmp_path, ("gym", "unity"), Namespace(minutes=20, seed=0))
    assert seen[:4] == ["gym", "unity", "gym", "unity"]
    assert [result[kind] for kind in ("gym", "unity")] == [{"status": 0}] * 2


@pytest.mark.parametrize(("argv", "words"), [(["--minutes", "5"], "--minutes 5"), (["--every", "0"], "--every 0")])
def test_bad_options_are_refused_by_name(argv, words, capsys):
    assert main([*argv, "--json"]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
