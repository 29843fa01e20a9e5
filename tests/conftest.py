"""What holds for every test, whichever ran before it and however many processes the suite has."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile

import pytest

# One thread for each test process and for all that it starts: the suite runs one process a core.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
# The key that signs runs is the tests' own, also in processes that they start; macOS knows its place by HOME alone.
_SETTINGS = tempfile.TemporaryDirectory(prefix="outstep-tests-")
os.environ[{"win32": "APPDATA", "darwin": "HOME"}.get(sys.platform, "XDG_CONFIG_HOME")] = _SETTINGS.name
# A suite that a script starts in the background, or with nohup, is born deaf to signals that tests send to runs.
signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Draws the same numbers from torch's own generator, whatever a process has drawn before."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def all_messages() -> None:
    """Lets every message through, whatever a test before has silenced, and only to where it belongs."""
    logging.getLogger("outstep").setLevel(logging.NOTSET)
    root = logging.getLogger()
    # TensorBoard's, and that of logging.basicConfig, write to what stderr was in the test that made them.
    for handler in [each for each in root.handlers if type(each).__module__.startswith("absl") or _is_plain(each)]:
        root.removeHandler(handler)


def _is_plain(handler: logging.Handler) -> bool:
    return type(handler) is logging.StreamHandler
