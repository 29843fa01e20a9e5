"""The endpoint's pages for people, in a real browser."""

from __future__ import annotations

from pathlib import Path

from algorithms.onnx.build import build_model
from envs.spec import BehaviorSpec
from tests.algorithms.test_numpy_policy import VECTOR, policy_of
from tests.trainer.browser import LOOKS, browser, needs_browser
from tests.trainer.serve.test_serve import serving

pytestmark = needs_browser


def test_its_pages_are_whole_on_a_phone_and_on_a_screen_light_and_dark_and_a_request_is_answered(
    tmp_path: Path,
) -> None:
    file = tmp_path / "Toy.onnx"
    spec = BehaviorSpec("Toy", (VECTOR,), 2, (2, 3), True)
    file.write_bytes(build_model(policy_of(spec, "sac"), False).SerializeToString())
    with serving(file) as (_, port), browser() as look:
        for width, scheme in LOOKS:
            look(f"http://127.0.0.1:{port}/", width, scheme).check(width)
            seen = look(f"http://127.0.0.1:{port}/docs", width, scheme)
            seen.check(width)
            seen.page.locator("button").click()
            seen.page.wait_for_function("document.querySelector('#reply').textContent.startsWith('200 ')")
            assert seen.complaints == []
