"""Checkpoints outlast a kill, and a disk that refuses, at any point of a save: here at one of three."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(os.name == "nt", reason="it has neither fork nor SIGXFSZ")
@pytest.mark.parametrize("fault", ["kills", "disk_errors"])
def test_a_save_that_is_stopped_anywhere_leaves_whole_checkpoints_and_the_next_one_works(fault: str) -> None:
    command = [sys.executable, "-m", "tests.stress.checkpoint_kills", "--only", fault, "--every", "3", "--json"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True)
    tried = json.loads(done.stdout)[fault]
    assert tried["problems"] == []
    assert tried["whole"] == tried["points"] >= 70
    kinds = {"open", "write", "fsync", "os.link", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
    assert set(tried["by_kind"]) == kinds
    assert done.returncode == 0
