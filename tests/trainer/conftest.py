"""What tests of refusals share: one message, and nothing is started or lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.imitation.toys import family
from trainer.__main__ import main as train


def contents(folder: Path) -> dict[Path, bytes | None]:
    """All that lies in a folder: each file's bytes, None for folders."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs a command line that has to be refused, in an empty folder; returns the message."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def begins(*_):
        raise AssertionError("a run begins")

    monkeypatch.setattr("trainer.runtime.start.train", begins)

    def run(*argv: str, main=train) -> str:
        before, kin = contents(tmp_path), family()
        assert main(list(argv)) == 2
        out, error = capsys.readouterr()
        assert not out
        assert error.startswith("error: ")
        assert error.count("error: ") == 1
        assert error.endswith("\n")
        assert contents(tmp_path) == before
        assert family() == kin
        return error[len("error: ") : -1]

    return run
