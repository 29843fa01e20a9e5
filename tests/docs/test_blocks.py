"""README and docs do what they say: every block of code runs as it is printed, or says why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import NAMES, ROOT, Reader, blocks

SHORT = ("docs/index.md", "docs/install.md", "docs/settings.md")
"""Pages that run in the normal suite, as they take less than 30 seconds together."""
QUICK = ("docs/deploy.md", "docs/tutorials/endpoint.md", "docs/tutorials/unity.md")
"""Pages that run with the extras. All others train for minutes: `make test-pages` runs them."""


def follow(page: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    reader = Reader(folder)
    try:
        for block in blocks(page):
            reader.follow(block)
    finally:
        reader.close()


def clone(folder: Path) -> None:
    """Copies the files of this tree, with a `.venv` that is this Python's, so that `make` has nothing to install."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    for name in listed.stdout.decode().split("\0")[:-1]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    (folder / ".venv").mkdir(parents=True)
    for part in Path(sys.prefix).iterdir():
        if not part.name.startswith("installed"):
            (folder / ".venv" / part.name).symlink_to(part)
    for stamp in ("installed", "installed-full", "installed-docs"):
        (folder / ".venv" / stamp).touch()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", SHORT)
def test_short_pages_run(tmp_path, page):
    follow(ROOT / page, tmp_path / "page")


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.extras if page in QUICK else pytest.mark.pages)
        for page in NAMES
        if page not in SHORT
    ],
)
def test_pages_run(tmp_path, page):
    if page in ("README.md", "CONTRIBUTING.md"):
        clone(tmp_path / "page")
    follow(ROOT / page, tmp_path / "page")


@pytest.mark.parametrize("page", NAMES)
def test_every_block_names_its_language(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    fences = sum(line.lstrip().startswith("```") for line in text.splitlines())
    assert fences == 2 * len(blocks(ROOT / page))
    assert all(block.language for block in blocks(ROOT / page))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```bash\ntrue\nfalse\ntrue\n```", ":1 fails"),
        ("```python\nx = 1\n```\n```python\nassert x == 2\n```", ":4 fails"),
        ("<!-- background -->\n```bash\nsleep 0\n```", ":2 fails"),
        ("<!-- first: false -->\n```text\n```", ":2 fails"),
        ("```yaml\na: [\n```", "while parsing"),
        ("```\nls\n```", "language ''"),
    ],
)
def test_a_block_that_fails_is_noticed(tmp_path, text, message):
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(Exception, match=message):
        follow(tmp_path / "page.md", tmp_path / "page")


def test_blocks_share_a_folder_and_names(tmp_path):
    (tmp_path / "page.md").write_text(
        '```python title="mine.py"\nsize = 3\n```\n```python\nimport mine\nx = mine.size\n```\n'
        "- in a list\n\n  ```bash\n  echo 4 > seen\n  ```\n<!-- not run: needs Unity -->\n```bash\nfalse\n```\n"
        "```python\nassert x + int(open('seen').read()) == 7\n```\n"
    )
    follow(tmp_path / "page.md", tmp_path / "page")
    assert os.listdir(tmp_path / "page").count("mine.py") == 1
