import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PARENT = """
import sys, time
from multiprocessing import get_context
from envs.process.lifetime import run_following

if __name__ == "__main__":
    child = get_context("spawn").Process(target=run_following, args=(True, "slow_to_import", "run"))
    child.start()
    print(child.pid, flush=True)
    time.sleep(600)
"""
SLOW = """
import time
from pathlib import Path

Path(__file__).with_name("importing").touch()
time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills")
def test_a_process_that_is_still_importing_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    path = os.pathsep.join([os.getcwd(), str(tmp_path)])
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    child = psutil.Process(int(parent.stdout.readline()))
    while not (tmp_path / "importing").exists():
        time.sleep(0.01)
    assert child.is_running()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs([child], timeout=100)
    for each in alive:
        each.kill()
    assert not alive
