"""A real Chromium for tests of pages: what it sees in them, at a phone's width and a screen's, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PHONE, SCREEN = 390, 1240
LOOKS = [(width, scheme) for width in (PHONE, SCREEN) for scheme in ("light", "dark")]

needs_browser = [
    pytest.mark.extras,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="playwright is not installed: the extra dev-full"),
]
"""The marks of tests that start a browser."""

_WORDS = """
() => {
  const numbers = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = colour => {
    const part = each => (each /= 255) <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = numbers(colour);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = element => {
    for (let each = element; each; each = each.parentElement) {
      const [r, g, b, alpha = 1] = numbers(getComputedStyle(each).backgroundColor);
      if (alpha > 0) return `rgb(${r}, ${g}, ${b})`;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(18, 18, 18)" : "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].filter(each => each.nodeType === 3).map(each => each.data).join("").trim();
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (!own || !box.width || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const inSvg = element.ownerSVGElement;
    const lights = [light(inSvg ? style.fill : style.color), light(behind(inSvg ? inSvg.parentElement : element))];
    const drawn = inSvg ? inSvg.getBoundingClientRect() : null;
    found.push({
      text: own.slice(0, 60),
      contrast: (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05),
      size: parseFloat(style.fontSize) * (inSvg ? element.getScreenCTM().a : 1),
      clipped: drawn !== null && (box.left < drawn.left - 1 || box.right > drawn.right + 1
        || box.top < drawn.top - 1 || box.bottom > drawn.bottom + 1),
    });
  }
  return found;
}
"""
"""What is to be read on a page: its text, how it stands out from what is behind it, its size in pixels, and whether it
reaches beyond the drawing that it is in."""


@dataclass
class Seen:
    """A page in the browser."""

    page: Any
    """Of playwright."""
    complaints: list[str] = field(default_factory=list)
    """What the browser has said of it on its console."""
    asked: list[str] = field(default_factory=list)
    """The addresses that it has asked for, data within the page apart."""

    def check(self, width: int) -> None:
        """Asserts what holds for every page of ours."""
        assert self.complaints == []
        assert len({address.partition("?")[0].rpartition("/")[0] for address in self.asked}) == 1
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        words = self.page.evaluate(_WORDS)
        assert words
        assert [each for each in words if each["contrast"] < 4.5] == []
        assert [each for each in words if each["size"] < 8] == []
        assert [each["text"] for each in words if each["clipped"]] == []


@contextmanager
def browser() -> Iterator[Callable[[str, int, str], Seen]]:
    """Yields a function that opens an address at a width, `light` or `dark`, with all that is folded opened."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu"])

        def look(address: str, width: int, scheme: str) -> Seen:
            phone = width == PHONE
            context = chromium.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, is_mobile=phone, has_touch=phone
            )
            seen = Seen(context.new_page())
            seen.page.on("console", lambda message: seen.complaints.append(message.text))
            seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
            seen.page.on("request", lambda request: seen.asked.append(request.url))
            seen.page.goto(address)
            seen.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
            seen.asked = [each for each in seen.asked if not each.startswith("data:")]
            return seen

        yield look
        chromium.close()
