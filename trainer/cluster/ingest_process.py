"""The process of the ingest, which the learner starts in place of a collector's."""

from __future__ import annotations

import contextlib
import selectors
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socket

from envs.imports import imported
from envs.spec import UserError
from trainer.cluster.ingest import Ingest, MakeStarter
from trainer.config.schema import TrainConfig
from trainer.runtime.collector_host import REPORT_SECONDS
from trainer.runtime.ipc import LEARNER_WAITS, THROTTLED, TO_COLLECTOR, TURNS, Link, Shared


def ingest(config: TrainConfig, folder: Path, shared: Shared, ends: tuple[Connection, socket]) -> None:
    """Takes rows of other hosts until the learner sends `stop`: the main function of a process of its own."""
    ingest_from("trainer.cluster.ray:start_ray", config, folder, shared, ends)


def ingest_from(
    starter: str, config: TrainConfig, folder: Path, shared: Shared, ends: tuple[Connection, socket]
) -> None:
    """Does what `ingest` does, with relays of a `MakeStarter` that is imported by its path."""
    link, hosts = Link(*ends, shared, TO_COLLECTOR), None
    try:
        make: MakeStarter = imported(starter, "cluster")
        hosts = Ingest(config, folder, shared, link.send, lambda: link.unread, make)
        with contextlib.closing(hosts):
            hosts.selector.register(link.socket, selectors.EVENT_READ, lambda: _empty(link.socket))
            _turns(hosts, link, shared)
    except Exception as error:  # whatever it was, the learner has to know
        if hosts is not None:
            hosts.report_events()
        link.send("failed", content=error if isinstance(error, UserError) else traceback.format_exc())


def _turns(hosts: Ingest, link: Link, shared: Shared) -> None:
    flags = shared.flags
    while True:
        flags[TURNS] += 1
        for message in link.receive():
            if message.kind == "stop":
                return
            hosts.handle(message.kind, message.behavior, message.content)
        flags[THROTTLED] = hosts.throttled
        hosts.turn(REPORT_SECONDS)
        if flags[LEARNER_WAITS] and hosts.may_update():
            link.wake()


def _empty(sock: socket) -> None:
    with contextlib.suppress(BlockingIOError):
        if not sock.recv(65536):
            raise EOFError("the learner has gone")
