"""The page of several runs in a real browser."""

from __future__ import annotations

from outstep.__main__ import main
from tests.trainer.browser import LOOKS, browser, needs_browser
from tests.trainer.report.written_runs import CURVES, written_run

pytestmark = needs_browser


def test_the_page_of_several_runs_is_whole_on_a_phone_and_on_a_screen_light_and_dark(tmp_path):
    settings = [
        ("algorithm.clip=0.1", 0),
        ("algorithm.clip=0.1", 1),
        ("env.kwargs.long=" + 80 * "x", 0),
        ("algorithm.rollout_size=64", 0),
    ]
    runs = [
        written_run(tmp_path / f"run-{place}", setting, f"seed={seed}", curves=CURVES | {"episode/reward": 1e5 * place})
        for place, (setting, seed) in enumerate(settings)
    ]
    assert main(["report", *map(str, runs), f"to={tmp_path / 'page.html'}"]) == 0
    with browser() as look:
        for width, scheme in LOOKS:
            seen = look(f"file://{tmp_path / 'page.html'}", width, scheme)
            seen.check(width)
            assert seen.page.locator(".chart svg").count() == 7
            assert seen.page.locator("table").count() == 3
