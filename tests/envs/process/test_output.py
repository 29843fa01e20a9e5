"""Output that refuses what is written ends no process, and lacks no characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envs.spec import UserError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")


def printing(code: str, *flags: str, encoding: str = "utf-8", **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs `code` in a process of its own, behind `keep_output`."""
    code = f"import os, sys; from envs.process.output import keep_output; keep_output(); {code}"
    environment = os.environ | {"PYTHONPATH": ".", "PYTHONIOENCODING": f"{encoding}:strict"}
    return subprocess.run([sys.executable, *flags, "-c", code], env=environment, timeout=100, **options)


@pytest.mark.parametrize("flags", [[], ["-u"]])
def test_a_reader_that_has_gone_away_ends_nothing(tmp_path: Path, flags: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = f"print('x' * 10**5); print('y', file=sys.stderr); print('z'); open({str(tmp_path / 'done')!r}, 'w')"
    ended = printing(code, *flags, stdout=writer, stderr=writer)
    os.close(writer)
    assert ended.returncode == 0
    assert (tmp_path / "done").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux")
def test_a_full_disk_ends_nothing() -> None:
    with open("/dev/full", "wb") as full:
        assert printing("print('x', flush=True); print('y')", stdout=full, stderr=full).returncode == 0


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"\\xe9 \\udcff\n"), ("utf-8", b"\xc3\xa9 \\udcff\n")])
def test_characters_that_cannot_be_printed_are_escaped(encoding: str, shown: bytes) -> None:
    code = r"print(os.fsdecode(b'\xc3\xa9 \xff'))"
    assert printing(code, "-X", "utf8", encoding=encoding, capture_output=True).stdout == shown


def test_no_file_takes_the_place_of_a_stream_that_is_closed(tmp_path: Path) -> None:
    code = (
        f"file = open({str(tmp_path / 'file')!r}, 'w'); print(file.fileno(), file=file); print('x'); sys.stdin.read()"
    )
    assert printing(code, preexec_fn=lambda: os.closerange(0, 3)).returncode == 0
    assert int((tmp_path / "file").read_text()) > 2


def test_messages_bring_no_control_characters_of_others_to_a_terminal() -> None:
    code = r"import logging; logging.getLogger('outstep').warning('%s', 'a\x1b[31mb\n\tc\x9bd\u202ee')"
    assert printing(code, capture_output=True).stderr == b"a\\x1b[31mb\n\tc\\x9bd\\u202ee\n"
    assert str(UserError("a\x1b]0;title\x07b\n\tc é")) == "a\\x1b]0;title\\x07b\n\tc é"
