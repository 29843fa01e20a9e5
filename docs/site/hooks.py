"""Makes a site of pages that are also read in the repository: mkdocs calls these functions while it builds.

Pages above and beside `docs` (SECURITY.md, results of benchmarks) join the site, links to them are turned, and links to
source code become plain text, as the site has none.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).parents[2]
JOINED = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
_LOG = logging.getLogger("mkdocs.hooks")
_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
_BLOCK = re.compile(r"(^ *```.*?^ *```[ ]*$)", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"^ *<!--[^\n]*-->\n", re.MULTILINE)
_LIST_OR_TABLE = re.compile(r"(?<=\n)([^\n|# ][^\n]*\n)(?=(?:- |\d+\. |\|))")
_ITEM = re.compile(r" *(- |\d+\. |\|)")
_INDENTED = re.compile(r"^ {2,3}(?=\S)", re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that lie outside of `docs`."""
    results = ROOT / "benchmarks" / "results"
    for file in [*map(ROOT.joinpath, JOINED), *results.glob("*.md"), *results.glob("*.png")]:
        files.append(File.generated(config, file.relative_to(ROOT).as_posix(), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turns links as the repository has them into the site's, and the layout of lists into that of Python-Markdown.

    Comments, which mark blocks for the tests, are dropped.
    """
    uri = page.file.src_uri
    # Where the page lies in the repository.
    home = posixpath.dirname(uri if uri in JOINED or uri.startswith("benchmarks/") else f"docs/{uri}")

    def link(match: re.Match[str]) -> str:
        path, hash_, anchor = match[2].partition("#")
        if not path or "://" in path:
            return match[0]
        there = posixpath.normpath(posixpath.join(home, path))
        if files.get_file_from_path(there.removeprefix("docs/")) is not None:
            target = posixpath.relpath(there.removeprefix("docs/"), posixpath.dirname(uri) or ".")
            return f"{match[1]}({target}{hash_}{anchor})"
        if not (ROOT / there).exists():
            _LOG.warning("%s: %s does not exist", uri, match[2])
        return match[1][1:-1]

    def prose(text: str) -> str:
        # A list or a table needs an empty line before it, and what belongs to an item four spaces.
        spaced = _LIST_OR_TABLE.sub(lambda each: each[1] if _ITEM.match(each[1]) else f"{each[1]}\n", text)
        return _LINK.sub(link, _INDENTED.sub("    ", spaced))

    def block(text: str) -> str:
        indent = len(text) - len(text.lstrip(" "))
        return re.sub("^", " " * (-indent % 4), text, flags=re.MULTILINE)

    parts = _BLOCK.split(_COMMENT.sub("", markdown))
    return "".join(block(part) if place % 2 else prose(part) for place, part in enumerate(parts))


def on_post_build(config: Any) -> None:
    """Writes the colours of code, for light and dark."""
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs("[data-bs-theme=dark] .highlight")
    Path(config["site_dir"], "site", "code.css").write_text(f"{light}\n{dark}\n", encoding="utf-8")
