"""What is refused of a cluster before anything starts, and how large fragments are."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from envs.spec import UserError
from trainer.cluster.checks import check_cluster, fragment_size
from trainer.config.compose import compose
from trainer.config.schema import Cluster, TrainConfig

BASE = ["env=basic", "cluster=ray"]


@pytest.fixture(autouse=True)
def ray_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


def config(*overrides: str) -> TrainConfig:
    return compose([*BASE, *overrides], TrainConfig, "config")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["run.mode=inline"], "run.mode=inline takes turns in one process"),
        (["cluster.min_collectors=3", "cluster.collectors=2"], "min_collectors=3 is more than cluster.collectors=2"),
        (["cluster.resources.GPU=-1"], "cluster.resources.GPU=-1 must be a number"),
        (["cluster.resources.disk=much"], "cluster.resources.disk=much must be a number"),
        (
            ["cluster.collectors=32"],
            "cluster.collectors=32 are too many .* 4,096 in all.* Raise algorithm.rollout_size",
        ),
        (["self_play.save_samples=1000"], "self_play needs all rows of a game"),
        (["algorithm=poca"], "algorithm=poca needs all rows of a game"),
        (["algorithm.max_lag=0"], "algorithm drops what is older than 0 rows"),
    ],
)
def test_what_no_cluster_could_run_is_refused_in_one_message(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_cluster(config(*overrides))


@pytest.mark.parametrize(
    "override",
    [
        "cluster.collectors=0",
        "cluster.silent_seconds=1",
        "cluster.publish_per_second=0",
        "cluster.cpus=-1",
        "cluster=slurm",
    ],
)
def test_values_out_of_range_are_refused(override: str) -> None:
    with pytest.raises(UserError, match="cluster"):
        config(override)


def test_a_missing_ray_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'outstep\[ray\]'"):
        check_cluster(config())


@pytest.mark.parametrize(
    ("overrides", "rows"),
    [
        (["cluster.collectors=1"], 128),
        (["cluster.collectors=8"], 16),
        (["cluster.collectors=2", "algorithm.rollout_size=100000"], 512),
        (["cluster.collectors=4", "algorithm.rollout_size=8192", "algorithm.max_lag=2"], 256),
        (["algorithm=sac", "cluster.collectors=64"], 128),
    ],
)
def test_fragments_are_so_large_that_all_windows_hold_half_of_what_is_fresh(overrides: list[str], rows: int) -> None:
    check_cluster(config(*overrides))
    assert fragment_size(config(*overrides)) == rows


def test_games_of_all_collectors_are_counted() -> None:
    assert config("env.instances=16", "cluster.collectors=8").instances == 128
    assert compose(["env=basic", "env.instances=16", "cluster.collectors=8"], TrainConfig, "config").instances == 16
    assert config().cluster.name is Cluster.ray


def test_a_run_without_a_cluster_imports_nothing_of_it() -> None:
    code = """
import sys
import trainer.__main__, trainer.runtime.start, trainer.runtime.collector_process
assert "ray" not in sys.modules
assert not {"trainer.cluster.ingest", "trainer.cluster.relay", "trainer.cluster.ray"} & set(sys.modules)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
