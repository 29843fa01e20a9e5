"""How long a relay waits for the learner's host."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from trainer.cluster import relay as module
from trainer.cluster.relay import serve


@pytest.mark.parametrize(("opened", "words"), [(True, "for 0.05 s"), (False, "for 0.25 s")])
def test_a_relay_waits_longer_for_a_host_that_has_yet_to_ask_for_rows(
    monkeypatch: pytest.MonkeyPatch, opened: bool, words: str
) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.2)
    nothing: Any = SimpleNamespace(
        opened=opened,
        over=False,
        receive=lambda: None,
        reply=lambda: None,
        wait=lambda way: time.sleep(0.01),
    )
    with pytest.raises(TimeoutError, match=words):
        serve(nothing, nothing, 0.05)
