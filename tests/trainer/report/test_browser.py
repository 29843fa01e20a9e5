"""The page in a real browser: run where Chromium is installed, skipped elsewhere."""

from __future__ import annotations

import pytest

from tests.trainer.browser import LOOKS, SCREEN, browser, needs_browser
from tests.trainer.report.written_runs import CURVES, gif, mp4, write_evaluation, written_run
from trainer.report.page import page_of

pytestmark = needs_browser


def test_the_page_is_whole_on_a_phone_and_on_a_screen_light_and_dark(tmp_path):
    curves = CURVES | {"episode/" + 60 * "m": 1e6, "evaluation/reward": 0.6, "evaluation/reward_deviation": 0.1}
    run = written_run(tmp_path / "run", "env.kwargs.long=" + 80 * "x", curves=curves)
    write_evaluation(run, [0.93, 0.92], video=gif())
    (tmp_path / "page.html").write_text(page_of(run), encoding="utf-8")
    colours = set()
    with browser() as look:
        for width, scheme in LOOKS:
            seen = look(f"file://{tmp_path / 'page.html'}", width, scheme)
            seen.check(width)
            charts = seen.page.locator(".chart svg").evaluate_all("all => all.map(one => one.clientWidth)")
            assert len(charts) == 12
            assert all(min(width, 330) - 60 < each < width for each in charts)
            pictures = seen.page.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
            assert pictures == [64, 64]
            assert (
                seen.page.locator("td.figure").first.evaluate("it => getComputedStyle(it).fontVariantNumeric")
                == "tabular-nums"
            )
            colours.add(
                seen.page.locator(".chart path[style*=series-0]").first.evaluate("it => getComputedStyle(it).stroke")
            )
    assert colours == {"rgb(37, 99, 235)", "rgb(110, 168, 254)"}


def test_videos_play_within_the_page(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    run = written_run(tmp_path / "run", curves=CURVES)
    write_evaluation(run, [0.93, 0.92], video=mp4(tmp_path), suffix=".mp4")
    (tmp_path / "page.html").write_text(page_of(run), encoding="utf-8")
    with browser() as look:
        seen = look(f"file://{tmp_path / 'page.html'}", SCREEN, "light")
        if not seen.page.evaluate("""document.createElement("video").canPlayType('video/mp4; codecs="avc1.64000a"')"""):
            pytest.skip("this Chromium was built without H.264")
        loaded = "[...document.querySelectorAll('video')].every(each => each.videoWidth === 64)"
        seen.page.wait_for_function(loaded)
        seen.check(SCREEN)
