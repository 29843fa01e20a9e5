"""What stands in for parts of `benchmarks.gpu`, at a path that another process can import."""

import os
import subprocess
import sys
import time
from pathlib import Path


def right():
    print("said on the way")
    yield {"case": "one", "rate": 1234.5, "short": None}
    yield {"case": "two", "rate": 0.5, "short": "two is slow"}


def raises():
    yield {"case": "before", "rate": None, "short": None}
    raise RuntimeError("CUDA error:\n  device-side assert")


def dies():
    yield {"case": "before", "rate": 1, "short": None}
    os._exit(9)


def hangs():
    """Starts a process that would go on, names it, and never ends."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(os.environ["GPU_TOYS_CHILD"]).write_text(str(child.pid))
    yield {"case": "before", "rate": 1, "short": None}
    time.sleep(600)
