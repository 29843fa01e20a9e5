"""A link that goes down while both of its ends live on. Needs network namespaces, so mostly the superuser."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.trainer.cluster.test_processes import Farm
from tests.trainer.started import END_SECONDS, ORACLE, audit


class Apart(Farm):
    module = "tests.trainer.cluster.apart"


def ip(*words: str) -> bool:
    return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a link to a namespace of its own."""
    name = f"out{os.getpid() % 10**6}"
    net = f"10.{random.randrange(64, 255)}.{random.randrange(255)}"
    if sys.platform != "linux" or not ip("netns", "add", name):
        pytest.skip("needs network namespaces")
    try:
        for words in (
            f"link add {name} type veth peer name eth0 netns {name}",
            f"addr add {net}.1/24 dev {name}",
            f"link set {name} up",
            f"-n {name} addr add {net}.2/24 dev eth0",
            f"-n {name} link set eth0 up",
            f"-n {name} link set lo up",
        ):
            if not ip(*words.split()):
                pytest.skip(f"ip {words} is refused here")
        monkeypatch.setenv("OUTSTEP_NAMESPACE", name)
        monkeypatch.setenv("OUTSTEP_ADDRESS", f"{net}.1")
        yield name
    finally:
        ip("link", "del", name)
        ip("netns", "del", name)


def test_a_link_that_is_down_costs_its_own_host_alone(link: str, tmp_path: Path) -> None:
    run = Apart(tmp_path / "run", *ORACLE, "cluster.collectors=2", "cluster.silent_seconds=4", "cluster.transport=tcp")
    try:
        run.until(lambda: len(run.relays) == 2)
        here, away = sorted(run.relays, key=lambda relay: relay.pid)
        family = [away, *away.children(recursive=True)]
        assert ip("link", "set", link, "down")
        run.until(lambda: "nothing was heard of it for 4 s" in run.log)
        run.until_saved(2)  # the other host goes on
        assert here.is_running()
        assert not psutil.wait_procs(family, END_SECONDS)[1]
        assert ip("link", "set", link, "up")
        run.until(lambda: run.part("worker") and len(run.relays) == 2)
        run.until_saved(2)
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(END_SECONDS) == 143
        run.nothing_is_left()
        audit(run.folder)
        assert "Collector 0 on" not in run.log
    finally:
        run.process.kill()
        run.process.wait()
