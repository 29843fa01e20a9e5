"""README and docs as text: short sentences, links that lead somewhere, and a page of settings that is true."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import NAMES, ROOT, blocks

RESULTS = sorted(f"benchmarks/results/{page.name}" for page in (ROOT / "benchmarks/results").glob("*.md"))
LINKED = [*NAMES, "CHANGELOG.md", *RESULTS]
SHORT = ["README.md", *(f"docs/tutorials/{page.name}" for page in (ROOT / "docs/tutorials").glob("*.md"))]
_BLOCK = re.compile(r"^ *```.*?^ *```[ ]*$", re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """Returns a page without its code blocks and comments."""
    return re.sub(r"<!--.*?-->", "", _BLOCK.sub("", text), flags=re.DOTALL)


def sentences(text: str) -> list[str]:
    """Returns all sentences of a page; a cell of a table, a heading and an item of a list begin a new one."""
    text = re.sub(r"\]\([^)]*\)", "]", prose(text))
    parts = re.split(r"\n\s*\n|\n(?=#|- |\d+\. |\|)|(?<=[^\\])\|", text)
    return [sentence for part in parts for sentence in re.split(r"(?<=[.!?])\s+", part.strip()) if sentence]


def anchors(text: str) -> set[str]:
    """Returns the names by which a page's headings can be linked to, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", _BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_sentences_are_told_apart() -> None:
    text = "# A title\nOne two. Three\nfour!\n- five [5](a.b?c)\n- six\n\n| a | b. c |\n```bash\nx\n```\n<!-- d -->e"
    assert sentences(text) == ["# A title\nOne two.", "Three\nfour!", "- five [5]", "- six", "a", "b.", "c", "e"]


@pytest.mark.parametrize("page", SHORT)
def test_no_sentence_has_more_than_30_words(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    long = [each for each in sentences(text) if sum(bool(re.search(r"\w", word)) for word in each.split()) > 30]
    assert long == []


def test_three_commands_of_the_readme_lead_from_a_clone_to_predict() -> None:
    commands = []
    for block in blocks(ROOT / "README.md"):
        if block.language == "bash" and not block.not_run:
            commands += block.code.splitlines()
            if ".predict(" in block.code:
                break
    assert [command.split()[0] for command in commands] == ["make", "source", "python"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150
    assert (ROOT / "docs/images/training.gif").stat().st_size < 1_000_000


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(text))):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target


def test_the_page_of_settings_says_what_the_docstrings_say() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "site" / "settings.py"))["page"]
    assert page() == (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), "make docs writes it anew"


@pytest.mark.extras
def test_the_site_is_whole_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(NAMES)
    loading = re.compile(r"""<(?:link|script|img|iframe)\b[^>]*?(?:href|src)=["']([^"']+)""")
    for page in pages:
        loaded = loading.findall(page.read_text("utf-8"))
        assert loaded
        assert [each for each in loaded if "//" in each and not each.startswith("data:")] == []
        for each in loaded:
            assert Path(page.parent, each.partition("?")[0]).exists() or page.name == "404.html", each
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", sheet.read_text("utf-8")), sheet
