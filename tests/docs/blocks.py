"""The code blocks of README and docs: found, and run as they are printed.

Every block names its language. What becomes of it:

- `bash`: run by bash, in the page's folder, with this Python's commands on the path; it has to end with status 0.
- `powershell`: the same on Windows, where `bash` blocks are left out.
- `python`: run in the page's one Python session, so that later blocks know the names of earlier ones.
- Any language with `title="my_games.py"`: written to that file in the page's folder.
- `yaml`, `json`, `toml`: read by their parser.
- `text`: what a command prints, or a drawing. Nothing is done with it.

A comment on the line before a block, which readers do not see, changes that:

- `<!-- not run: takes an hour -->`: why the block is not run.
- `<!-- background -->`: the block is a server: it is waited for until it prints an address, and ended with the page.
- `<!-- first: mkdir Builds -->`: a command that makes, before the block, what a reader has already.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
WINDOWS = sys.platform == "win32"
_BLOCK = re.compile(
    r"(?P<comments>(?:^[ ]*<!--[^\n]*-->\n)*)^(?P<indent>[ ]*)```(?P<language>[\w+-]*)(?P<rest>[^\n]*)\n"
    r"(?P<code>.*?)^[ ]*```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_SHELLS = {"bash": ["bash", "-euo", "pipefail", "-c"], "powershell": ["powershell", "-NoProfile", "-Command"]}
# Replies go where standard output went; what the page prints goes with errors.
_SESSION = """
import os as _os, sys as _sys, traceback as _traceback
_replies = _os.fdopen(_os.dup(1), "w")
_os.dup2(2, 1)
while _size := _sys.stdin.buffer.readline():
    _code = _sys.stdin.buffer.read(int(_size))
    try:
        exec(compile(_code, "<page>", "exec"), globals())
        _reply = "done"
    except BaseException:
        _traceback.print_exc()
        _reply = "failed"
    _sys.stdout.flush()
    print(_reply, file=_replies, flush=True)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    where: str
    """Page and line."""
    language: str
    code: str
    title: str | None
    not_run: str | None
    background: bool
    first: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    """Returns all blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("indent")) + 1
        marks = re.findall(r"<!-- (.*?) -->", match["comments"])
        reasons = [mark.partition(": ")[2] for mark in marks if mark.startswith("not run: ")]
        firsts = tuple(mark.partition(": ")[2] for mark in marks if mark.startswith("first: "))
        title = re.search(r'title="([^"]+)"', match["rest"])
        code = re.sub(f"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        found.append(
            Block(
                f"{os.path.relpath(page, ROOT)}:{line}",
                match["language"],
                code,
                title[1] if title else None,
                reasons[0] if reasons else None,
                "background" in marks,
                firsts,
            )
        )
    return found


def file_of(page: str, title: str) -> str:
    """Returns the text of the file `title` on a page of docs."""
    (code,) = (block.code for block in blocks(ROOT / page) if block.title == title)
    return code


def command(page: str, word: str) -> list[str]:
    """Returns the words of the command line on a page of docs in which `word` stands."""
    lines = [line for block in blocks(ROOT / page) if block.language == "bash" for line in block.code.splitlines()]
    return shlex.split(next(line for line in lines if word in line), comments=True)


class Reader:
    """Does what a page says, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Commands of this Python first; modules of the clone, such as its benchmarks, are found from any folder.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
        self._output = (folder.parent / f"{folder.name}.out").open("w+b")
        self._session: subprocess.Popen[bytes] | None = None
        self._servers: list[subprocess.Popen[bytes]] = []

    def follow(self, block: Block) -> None:
        """Runs a block, or writes its file; fails with the block's place and what was printed."""
        for command in block.first:
            self._done(self._start(shlex.split(command)).wait() == 0, block)
        if block.not_run:
            return
        if block.title:
            file = self.folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.code, encoding="utf-8")
        elif block.language in _SHELLS:
            if (block.language == "powershell") is WINDOWS:
                self._shell(block)
        elif block.language == "python":
            self._python(block)
        else:
            _parse(block)

    def close(self) -> None:
        """Ends whatever the page has started."""
        if self._session:
            assert self._session.stdin
            assert self._session.stdout
            self._session.stdin.close()
            self._session.stdout.close()
            self._session.wait(120)
        for server in self._servers:
            if WINDOWS:
                server.terminate()
            elif server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(120)
        self._output.close()

    def printed(self) -> str:
        """What the page has printed so far."""
        return Path(self._output.name).read_text(encoding="utf-8", errors="replace")

    def _shell(self, block: Block) -> None:
        command = [*_SHELLS[block.language], block.code]
        if not block.background:
            self._done(self._start(command).wait() == 0, block)
            return
        before, until = len(self.printed()), time.monotonic() + 120
        server = self._start(command, start_new_session=not WINDOWS)
        self._servers.append(server)
        while "http://" not in self.printed()[before:]:
            self._done(server.poll() is None and time.monotonic() < until, block)
            time.sleep(0.1)

    def _python(self, block: Block) -> None:
        if self._session is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._output}
            self._session = self._start([sys.executable, "-u", "-c", _SESSION], **pipes)
        assert self._session.stdin
        assert self._session.stdout
        code = block.code.encode()
        self._session.stdin.write(b"%d\n%b" % (len(code), code))
        self._session.stdin.flush()
        self._done(self._session.stdout.readline().strip() == b"done", block)

    def _done(self, well: bool, block: Block) -> None:
        assert well, f"{block.where} fails:\n{block.code}\n{self.printed()[-4000:]}"

    def _start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": self._output, "stderr": subprocess.STDOUT, **options}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, **pipes)


def _parse(block: Block) -> None:
    if block.language == "yaml":
        yaml.safe_load(block.code)
    elif block.language == "json":
        json.loads(block.code)
    elif block.language == "toml":
        if sys.version_info >= (3, 11):
            import tomllib

            tomllib.loads(block.code)
    else:
        assert block.language == "text", f"{block.where}: a block of the language {block.language!r}"
