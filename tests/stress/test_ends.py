import json

import pytest

from tests.stress import ends, trial
from tests.stress.ends import ENDS, _ends, _text, main


def test_nothing_is_left_of_a_run_whose_learner_is_killed(capsys, monkeypatch):
    for module in (ends, trial):
        monkeypatch.setattr(module, "LEFT_SECONDS", 100.0)  # on a busy machine too
    assert main(["--kind", "gym", "--ends", "kill_learner", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["gym"]["kill_learner"]["status"] == -9
    assert result["left"] == 0, result["gym"]["kill_learner"]["left"]


def test_only_unity_has_a_warden_and_only_gymnasium_a_probe():
    assert "kill_warden" in _ends("unity")
    assert "kill_warden" not in _ends("gym")
    assert "kill_probe" in _ends("gym")
    assert "kill_probe" not in _ends("unity")
    assert {*_ends("gym"), *_ends("unity")} == set(ENDS)


def test_table_names_what_is_left():
    figures = {
        "status": -9,
        "processes": 1,
        "sockets": 0,
        "shared_memory": 0,
        "seconds": None,
        "left": ["process 7: x"],
    }
    text = _text({"gym": {"kill_learner": figures}})
    assert "kill_learner: process 7: x" in text


def test_an_unknown_end_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--ends", "flood"])
    assert end.value.code == 2
    assert "invalid choice: 'flood'" in capsys.readouterr().err
