"""Runs as `run_here` does, but all relays after the first live in a network namespace, so that their link can go down.

`OUTSTEP_NAMESPACE` is the namespace's name, and `OUTSTEP_ADDRESS` this side's address of the link to it.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import sys
from pathlib import Path
from typing import Any

import trainer.cluster.ingest_process
from envs.process.lifetime import start_following
from tests.trainer.cluster import local
from tests.trainer.cluster.run_here import without_ray
from trainer.__main__ import main
from trainer.cluster.hosts import Starter
from trainer.cluster.ingest_process import ingest_from
from trainer.cluster.relay import HostSetup
from trainer.config.schema import TrainConfig

_NEW_NETWORK = 0x40000000


class Apart(local.Processes):
    """Starts relays of which only the first is in this namespace."""

    def start(self, setup: HostSetup) -> None:
        self.relays[setup.key] = start_following("relay", relay, setup)
        self._placed.append(setup.key)


def relay(setup: HostSetup) -> None:
    if setup.key > 1:
        with Path("/run/netns", os.environ["OUTSTEP_NAMESPACE"]).open() as namespace:
            if ctypes.CDLL(None).setns(namespace.fileno(), _NEW_NETWORK):
                raise OSError("the namespace lets nobody in")
    local.relay(setup)


def start_apart(config: TrainConfig, selector: selectors.BaseSelector) -> tuple[Starter, str]:
    return Apart(), os.environ["OUTSTEP_ADDRESS"]


def ingest(config: TrainConfig, folder: Path, shared: Any, ends: Any) -> None:
    ingest_from("tests.trainer.cluster.apart:start_apart", config, folder, shared, ends)


if __name__ == "__main__":
    from tests.trainer.cluster import apart

    without_ray()
    trainer.cluster.ingest_process.ingest = apart.ingest
    sys.exit(main(["cluster=ray", *sys.argv[1:]]))
