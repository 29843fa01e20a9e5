import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from envs.process.player_launcher import MOST_LOG_BYTES, Ended, Launched, Launcher, earlier_log

SLEEPER = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]


@pytest.fixture
def launcher():
    launcher = Launcher()
    yield launcher
    launcher.close()


def next_of(launcher, kind):
    """The next event of that kind."""
    for _ in range(1000):
        waiting = getattr(launcher, "waiting", [])
        launcher.waiting = waiting + launcher.inbox.take()
        while launcher.waiting:
            event = launcher.waiting.pop(0)
            if isinstance(event, kind):
                return event
        select.select([launcher.inbox.socket], [], [], 0.1)
    raise AssertionError(f"no {kind.__name__} came")


def gone(pid):
    """Whether the process ends."""
    for _ in range(4000):  # so many that only one that stays is still there
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.025)
    return False


def test_an_exit_status_is_told_and_output_kept(launcher, tmp_path):
    command = [sys.executable, "-c", "import os; print('last words ' + os.environ['WORD'], flush=True); os._exit(3)"]
    launcher.launch(7, command, str(tmp_path / "out"), {"WORD": "hello"})
    assert next_of(launcher, Ended) == Ended(7, 3)
    assert (tmp_path / "out").read_text().strip() == "last words hello"


def test_what_cannot_be_started_is_told(launcher, tmp_path):
    launcher.launch(1, [str(tmp_path / "nothing")], str(tmp_path / "out"), {})
    ended = next_of(launcher, Ended)
    assert ended.status is None
    assert "No such file" in ended.error


NOISY = """
import os, sys, time
log = open(sys.argv[1], "wb")
for i in range(100):
    for file in (sys.stdout.buffer, log):
        file.write(b"spam " * 2**17)
        file.flush()
# What is written while a file is being cut is lost.
while any(512 * os.fstat(file.fileno()).st_blocks > int(sys.argv[2]) for file in (sys.stdout, log)):
    time.sleep(0.01)
log.write(b"last words")
print("last words")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is being written cannot be cut")
def test_what_a_player_prints_and_logs_is_cut_and_its_last_words_are_kept(launcher, tmp_path):
    output, log = tmp_path / "player.out", tmp_path / "player.log"
    launcher.launch(1, [sys.executable, "-c", NOISY, str(log), str(MOST_LOG_BYTES)], str(output), {}, str(log))
    assert next_of(launcher, Ended) == Ended(1, 0)
    for file in (output, log):
        assert earlier_log(file).stat().st_size == 2**18
        assert 512 * file.stat().st_blocks <= MOST_LOG_BYTES
        assert (earlier_log(file).read_bytes() + file.read_bytes()).rstrip().endswith(b"last words")


def test_kill_ends_a_player_and_what_it_has_started(launcher, tmp_path):
    script = f"import subprocess, time; print(subprocess.Popen({SLEEPER!r}).pid, flush=True); time.sleep(600)"
    launcher.launch(1, [sys.executable, "-c", script], str(tmp_path / "out"), {})
    pid = next_of(launcher, Launched).pid
    while not (words := (tmp_path / "out").read_text().split()):
        time.sleep(0.025)
    launcher.kill(1)
    assert next_of(launcher, Ended).key == 1
    assert gone(pid)
    assert gone(int(words[0]))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere as far as sessions and environments can be read")
@pytest.mark.parametrize("victim", ["player", "launcher"])
def test_what_a_player_has_started_ends_with_it_in_a_session_of_its_own_too(launcher, tmp_path, victim):
    started = f"subprocess.Popen({SLEEPER}, stdout=subprocess.DEVNULL, start_new_session=True)"
    script = f"import subprocess, time; print({started}.pid, flush=True); time.sleep(600)"
    launcher.launch(1, [sys.executable, "-c", script], str(tmp_path / "out"), {})
    player = next_of(launcher, Launched).pid
    while not (words := (tmp_path / "out").read_text().split()):
        time.sleep(0.025)
    if victim == "player":
        os.kill(player, signal.SIGKILL)
    else:
        psutil.Process(player).parent().kill()
        launcher.close()
    assert gone(int(words[0]))


def test_hundreds_may_be_launched_before_anything_is_read(launcher, tmp_path):
    for key in range(400):
        launcher.launch(key, ["/no/such/file" + "x" * 200], str(tmp_path / "out"), {"WORD": "x" * 1000})
    ended = set()
    while len(ended) < 400:
        ended.add(next_of(launcher, Ended).key)


def test_signals_that_the_warden_ignores_reach_players_as_usual(launcher, tmp_path):
    launcher.launch(1, SLEEPER, str(tmp_path / "out"), {})
    pid = next_of(launcher, Launched).pid
    while not (tmp_path / "out").read_text():
        time.sleep(0.025)
    os.kill(pid, signal.SIGTERM)
    assert next_of(launcher, Ended).status == -signal.SIGTERM


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
@pytest.mark.parametrize("victims", [["owner"], ["owner", "launcher"]])
def test_players_end_when_the_trainer_is_killed_outright(victims, tmp_path):
    script = f"""
import select, sys, time
from envs.process.player_launcher import Launched, Launcher
if __name__ == "__main__":
    launcher = Launcher()
    launcher.launch(1, {SLEEPER!r}, {str(tmp_path / "out")!r}, {{}})
    while not (events := launcher.inbox.take()):
        select.select([launcher.inbox.socket], [], [], 1)
    print(events[0].pid, launcher._process.pid, flush=True)
    time.sleep(600)
"""
    (tmp_path / "owner.py").write_text(script)
    owner = subprocess.Popen(
        [sys.executable, str(tmp_path / "owner.py")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    player, launcher = map(int, owner.stdout.readline().split())
    if "launcher" in victims:
        if sys.platform != "linux":
            owner.kill()
            pytest.skip("without the launcher, only Linux ends its players")
        os.kill(launcher, signal.SIGKILL)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert gone(player)
    assert gone(launcher)
