"""Relays in processes of this machine, and a run that has them in place of a cluster's."""

from __future__ import annotations

import selectors
import signal
import socket
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from envs.process.lifetime import kill_soon, start_following
from trainer.cluster.hosts import Starter
from trainer.cluster.ingest_process import ingest_from
from trainer.cluster.relay import HostSetup, by_tcp, run_relay
from trainer.cluster.stream import Way
from trainer.config.schema import TrainConfig

STARTER = "tests.trainer.cluster.local:start_here"


class Processes:
    """Starts each relay as a process of this machine."""

    def __init__(self) -> None:
        self.relays: dict[int, BaseProcess] = {}
        self._placed: list[int] = []

    def start(self, setup: HostSetup) -> None:
        self.relays[setup.key] = start_following("relay", relay, setup)
        self._placed.append(setup.key)

    def end(self, key: int) -> None:
        if (process := self.relays.pop(key, None)) is not None:
            kill_soon(process)

    def news(self) -> list[tuple[int, str, Any]]:
        placed, self._placed = self._placed, []
        ended = [key for key, process in self.relays.items() if not process.is_alive()]
        return [(key, "placed", "here") for key in placed] + [(key, "ended", "its process has ended") for key in ended]

    def close(self) -> None:
        for process in self.relays.values():
            process.join(5)
        for key in list(self.relays):
            self.end(key)


def relay(setup: HostSetup) -> None:
    """A relay whose connection SIGUSR1 cuts."""

    def connected(greeting: dict[str, Any]) -> Way:
        way = by_tcp(setup)(greeting)
        if hasattr(signal, "SIGUSR1"):
            signal.signal(signal.SIGUSR1, lambda *_: way.socket.shutdown(socket.SHUT_RDWR))
        return way

    run_relay(setup, connected)


def start_here(config: TrainConfig, selector: selectors.BaseSelector) -> tuple[Starter, str]:
    return Processes(), "127.0.0.1"


def ingest(config: TrainConfig, folder: Path, shared: Any, ends: Any) -> None:
    """Stands in for `trainer.cluster.ingest_process.ingest`."""
    ingest_from(STARTER, config, folder, shared, ends)
