"""The live table and the page of a study."""

from __future__ import annotations

import io

import optuna
from optuna.trial import TrialState
from rich.console import Console

from tests.trainer.sweep.conftest import BASIC, RATE
from trainer.sweep.page import importances, sweep_page
from trainer.sweep.plan import make_plan
from trainer.sweep.study import Study
from trainer.sweep.view import View


def study_with(plan, scores):
    study = Study(plan)
    for place, score in enumerate(scores):
        claimed = study.next()
        study.report(claimed, 10, score)
        state = TrialState.PRUNED if place == 1 else TrialState.COMPLETE
        study.tell(claimed, state, score if state is TrialState.COMPLETE else None)
    study.report(study.next(), 5, 0.25)
    return study


def test_the_table_has_those_under_way_first_and_then_the_best(sweep):
    plan = make_plan([*BASIC, RATE, "algorithm.epochs=2,3", "trials=9", "to=a"])
    study = study_with(plan, [1.0, 0.1, 3.0])
    screen = io.StringIO()
    with View(plan, Console(file=screen, force_terminal=True, width=100, height=30, color_system=None)) as view:
        view.show(study.trials(), [])
        shown = screen.getvalue()
    assert "a: 9 trials: 1 running, 2 ended, 1 pruned; best 3 (trial 2)" in shown
    rows = [line.split()[:4] for line in shown.splitlines() if line[:1].isdigit()]
    assert rows == [
        ["3", "running", "25%", "0.25"],
        ["2", "ended", "100%", "3"],
        ["0", "ended", "100%", "1"],
        ["1", "pruned", "50%", "0.1"],
    ]


def test_the_page_shows_what_mattered_and_needs_nothing_beside_it(sweep):
    plan = make_plan([*BASIC, RATE, "algorithm.epochs=2,3", "trials=9", "to=a"])
    study = study_with(plan, [1.0, 0.1, 3.0, 4.0, 2.0, 5.0])
    page = sweep_page(plan, study)
    for text in ("What mattered", "Curves", "Settings and scores", "The best settings", "learning_rate", "env=basic"):
        assert text in page
    assert page.count("<svg") == 4
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page


def test_nothing_is_said_of_what_mattered_where_too_little_is_known():
    study = optuna.create_study()
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert importances(study) == {}
