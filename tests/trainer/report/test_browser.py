"""The page in a real browser: run where Chromium is installed, skipped elsewhere."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from tests.trainer.report.written_runs import CURVES, gif, mp4, write_evaluation, written_run
from trainer.report.page import page_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=5000 --dump-dom"
)
MEASURE = """
<script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  page.querySelectorAll("details").forEach(each => { each.open = true; });
  const width = each => Math.round(each.getBoundingClientRect().width);
  const seen = {
    across: page.documentElement.scrollWidth,
    charts: [...page.querySelectorAll(".chart svg")].map(width),
    strokes: [...page.querySelectorAll(".chart path")].map(each => page.defaultView.getComputedStyle(each).stroke),
    letters: [...page.querySelectorAll(".chart text")].map(
      each => parseFloat(page.defaultView.getComputedStyle(each).fontSize) * each.getScreenCTM().a),
    videos: [...page.querySelectorAll("video")].map(each => each.videoWidth),
    plays: document.createElement("video").canPlayType('video/mp4; codecs="avc1.64000a"'),
    pictures: [...page.querySelectorAll("img")].map(each => each.naturalWidth),
    figures: [...new Set([...page.querySelectorAll("td.figure")].map(
      each => page.defaultView.getComputedStyle(each).fontVariantNumeric))],
  };
  document.body.dataset.seen = JSON.stringify(seen);
};
</script>
"""

pytestmark = [pytest.mark.extras, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]


@pytest.mark.parametrize("width", [360, 1240])
def test_the_page_is_whole_on_a_phone_and_on_a_screen(tmp_path, width):
    run = written_run(tmp_path / "run", "env.kwargs.long=" + 80 * "x", curves=CURVES | {"episode/" + 60 * "m": 1e6})
    write_evaluation(run, [0.93, 0.92], video=gif())
    seen, reported = look(page_of(run), tmp_path, width)
    assert seen["across"] <= width
    assert len(seen["charts"]) == 12
    assert all(min(width, 330) - 60 < each < width for each in seen["charts"])
    assert min(seen["letters"]) > 8
    assert seen["pictures"] == [64, 64]
    assert {"rgb(37, 99, 235)", "none"} < set(seen["strokes"])
    assert seen["figures"] == ["tabular-nums"]
    assert not re.findall(r"Refused|ERR_|violates", reported)


def test_videos_play_within_the_page(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    run = written_run(tmp_path / "run", curves=CURVES)
    write_evaluation(run, [0.93, 0.92], video=mp4(tmp_path), suffix=".mp4")
    seen, reported = look(page_of(run), tmp_path, 800)
    if not seen["plays"]:
        pytest.skip("this Chromium was built without H.264")
    assert seen["videos"] == [64, 64]
    assert "Refused" not in reported


def look(page, folder, width):
    """What a browser sees in a page of this width, and what it says of it."""
    frame = f'<iframe width="{width}" height="900" style="border: 0" srcdoc="{html.escape(page)}"></iframe>'
    (folder / "frame.html").write_text(f"<body>{frame}{MEASURE}</body>", encoding="utf-8")
    command = [CHROMIUM, *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", f"file://{folder / 'frame.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    seen = re.search(r'<body data-seen="([^"]*)"', done.stdout)
    assert seen, done.stderr[-2000:]
    return json.loads(html.unescape(seen[1])), done.stderr
