"""What a program's callbacks are told, and what they can ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer.telemetry.callbacks import Caller
from trainer.telemetry.statistics import Episode

EPISODE = Episode(0, 10, 1.0, 5, {})


def test_each_function_is_called_with_what_it_is_for():
    told = []
    caller = Caller(lambda *x: told.append(x), lambda *x: told.append(x), lambda *x: told.append(x))
    caller.logged(10, {"a": 1.0})
    caller.played("b", EPISODE)
    caller.saved(Path("c"))
    assert told == [(10, {"a": 1.0}), ("b", EPISODE), (Path("c"),)]
    assert (caller.stops, caller.error) == (False, None)


@pytest.mark.parametrize(
    ("answer", "stops"), [(True, True), (np.True_, True), (False, False), (None, False), (1, False), ([1], False)]
)
def test_only_true_stops_a_run(answer, stops):
    caller = Caller(on_checkpoint=lambda folder: answer)
    caller.saved(Path("c"))
    caller.logged(10, {})
    assert caller.stops == stops


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
def test_what_a_function_raises_is_kept_and_nothing_is_called_any_more(error):
    def fails(*_):
        raise error

    told = []
    caller = Caller(on_log=fails, on_checkpoint=told.append)
    caller.logged(10, {})
    caller.saved(Path("c"))
    assert caller.error is error
    assert not told
