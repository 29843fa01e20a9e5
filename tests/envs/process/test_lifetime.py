import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from envs.process.lifetime import described_end

PARENT = """
import sys, time
from multiprocessing import get_context
from envs.process.lifetime import run_following

if __name__ == "__main__":
    child = get_context("spawn").Process(target=run_following, args=(True, "a/1", True, "slow_to_import", "run"))
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


GRANDPARENT = """
import time
import games
from envs.process.lifetime import start_following

if __name__ == "__main__":
    start_following("worker", games.start)
    time.sleep(600)
"""
GAMES = """
import multiprocessing, os, signal, subprocess, sys, time

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def start():
    bare = subprocess.Popen(SLEEP, env={})
    apart = subprocess.Popen(SLEEP, start_new_session=True)
    polite = subprocess.Popen(SLEEP)
    polite.terminate()
    assert polite.wait() == -signal.SIGTERM  # it has not inherited that signals are ignored
    forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    forked.start()
    print(bare.pid, apart.pid, forked.pid, os.getpid(), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def family(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[psutil.Process]]]:
    """A run's first process; what an env in its worker has started, which has to end, and the worker."""
    (tmp_path / "games.py").write_text(GAMES)
    script = tmp_path / "run.py"
    script.write_text(GRANDPARENT)
    path = os.pathsep.join([os.getcwd(), str(tmp_path)])
    run = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    family = [psutil.Process(int(pid)) for pid in run.stdout.readline().split()]
    assert len(family) == 4
    assert all(each.is_running() for each in family)
    yield run, family
    *games, worker = family
    _, alive = psutil.wait_procs(games, timeout=100)  # not the worker, which a run that is stopped cannot take note of
    run.kill()
    run.wait()
    run.stdout.close()
    for each in (*alive, worker):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    assert not [each.cmdline() for each in alive]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere as far as sessions and environments can be read")
def test_all_that_a_run_has_started_ends_when_its_first_process_is_killed(family) -> None:
    run, _ = family
    run.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere its first process has to take note")
def test_what_a_killed_process_has_started_ends_though_the_runs_first_process_is_busy(family) -> None:
    run, started = family
    run.send_signal(signal.SIGSTOP)
    started[-1].kill()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (3, "its process ended (exit status 3)"),
        (-11, "its process was killed by SIGSEGV"),
        (-9, "its process was killed by SIGKILL; the system may have been out of memory"),
        (-50, "its process was killed by signal 50"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_process_that_is_killed_is_reported_with_its_signal(status: int, words: str) -> None:
    assert described_end(status) == words
