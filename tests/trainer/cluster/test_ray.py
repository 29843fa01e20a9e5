"""A run on a Ray cluster of two nodes of this machine: what is killed comes again, and nothing is left over."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.trainer.tiny_runs import summary

pytestmark = [pytest.mark.extras, pytest.mark.skipif(sys.platform == "win32", reason="Ray is for POSIX")]
ROOT = Path(__file__).parents[3]
END_SECONDS = 100.0


NODES = """
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
input()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which a run finds a cluster of two nodes, one started after the other."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray")
    own = {"HOME": str(tmp_path_factory.mktemp("home")), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 64}
    own |= {"RAY_worker_niceness": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment = os.environ | own
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", NODES], env=environment, **pipes) as process:
        address = ""
        while ":" not in address or " " in address:
            address = process.stdout.readline().strip()
            assert address or process.poll() is None
        yield environment | {"RAY_ADDRESS": address}
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait(END_SECONDS)


def command(folder: Path, *overrides: str) -> list[str]:
    words = ["env=basic", "env.instances=2", "algorithm=ppo", "algorithm.rollout_size=512", "run.picture_minutes=0"]
    return [sys.executable, "-m", "trainer", "cluster=ray", *words, f"run.dir={folder}", *overrides]


def relays() -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if "ray::RelayActor" in " ".join(each.info["cmdline"] or ())]


def until(condition: Any) -> None:
    end = time.monotonic() + END_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_two_hosts_reach_the_goal_though_one_is_killed(nodes: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    goal = ["goal.metric=reward", "goal.at_least=0.6", "goal.also_window_samples=[]", "stop.samples=60000"]
    run = subprocess.Popen(command(folder, "cluster.collectors=2", *goal), env=nodes, cwd=tmp_path)
    try:
        log = folder / "train.log"
        until(lambda: log.exists() and "keeps" in log.read_text() and len(relays()) == 2)
        family = [each for relay in relays() for each in relay.children(recursive=True)]
        assert len(family) >= 2 * 2  # collectors and workers of both
        relays()[0].kill()
        assert run.wait(END_SECONDS) == 0
    finally:
        run.kill()
        run.wait()
    assert summary(folder)["stopped_by"] == "goal"
    assert "failed: " in log.read_text()
    assert "The open steps of " in log.read_text()
    until(lambda: not relays())
    _, alive = psutil.wait_procs(family, timeout=END_SECONDS)
    assert not alive


@pytest.mark.parametrize(
    ("environment", "overrides", "words"),
    [
        ({"RAY_ADDRESS": "127.0.0.1:9"}, [], "RAY_ADDRESS=127.0.0.1:9: nobody answers there"),
        ({"RAY_ADDRESS": "ray://127.0.0.1:10001"}, [], "give the address of the head itself, host:6379"),
        ({"RAY_AUTH_TOKEN": "f" * 64}, [], "the cluster does not let this run in"),
        (
            {},
            ["cluster.min_collectors=3", "cluster.collectors=3", "cluster.silent_seconds=2"],
            "cluster.min_collectors=3 do not fit: each asks for 1 CPU, and the cluster has room for 2 (2 nodes with 2",
        ),
    ],
    ids=["nobody answers", "a client's address", "a wrong token", "too many"],
)
def test_a_cluster_that_cannot_be_used_is_one_message(
    nodes: dict[str, str], tmp_path: Path, environment: dict[str, str], overrides: list[str], words: str
) -> None:
    own = {**nodes, **environment}
    done = subprocess.run(command(tmp_path / "run", *overrides), env=own, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert [line[:6] for line in done.stderr.splitlines()].count("error:") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("answers", [True, False, None], ids=["it answers", "it was killed", "there was none"])
def test_only_a_cluster_that_answers_is_taken_for_the_one_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, answers: bool | None
) -> None:
    pytest.importorskip("ray")
    from trainer.cluster import ray as module

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if not answers:
            server.close()
        monkeypatch.setattr(module, "read_ray_address", lambda: None if answers is None else address)
        assert module._runs_here() is bool(answers)
