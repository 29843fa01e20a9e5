"""Several machines of one job: the first one is a Ray cluster's head and learns, the others join it and collect.

Every machine's container does the same until here. Then the first starts the head, and trains with `cluster=ray`;
the others wait for it, and are nodes until it has ended. Each holds one connection to it besides, which brings the
first machine's exit status at its end, and breaks if that dies.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from envs.process.lifetime import nothing_left
from envs.process.restarts import Budget
from envs.spec import UserError

RAY = (sys.executable, "-m", "ray.scripts.scripts")
"""The command `ray`, of this Python."""
RAY_PORT, WATCH_PORT = 6379, 6380
"""Of the first machine: Ray's, and that of the connections which tell how it ended."""
TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 - the variable's name
START_SECONDS = 600.0
"""Machines of a job may come up so far apart."""
RESTARTS = 10
"""How many times at once a machine's node may end by itself; one more every ten minutes."""
_LOOK_SECONDS = 1.0
_OBJECT_STORE_BYTES = 2**28
"""Rows do not pass through it, and Ray would take a third of the memory."""
_RAY_ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"}
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 6}


class Machines(NamedTuple):
    """Those of a job, by names that each of them can look up."""

    current: str
    all: list[str]

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return len(self.all) > 1

    @property
    def first(self) -> bool:
        """Whether this is the one that learns."""
        return self.current == self.all[0]

    def hyperparameters(self) -> dict[str, Any]:
        """Returns those that let a run use all machines, where the user has given no others."""
        return {"cluster": "ray", "cluster.collectors": len(self.all)} if self.several else {}


def machines_of(file: Path, content: dict[str, Any]) -> Machines:
    """Returns the machines that SageMaker's `resourceconfig.json` lists; without one, this one alone.

    Raises:
        UserError: the file does not say which of them this is, or nothing lets them trust each other.
    """
    hosts = content.get("hosts", ["localhost"])
    if not isinstance(hosts, list) or not hosts or not all(isinstance(each, str) for each in hosts):
        raise UserError(f"{file}: hosts is {hosts!r}: it must be a list of names")
    current = content.get("current_host", hosts[0] if len(hosts) == 1 else None)
    if not isinstance(current, str) or current not in hosts:
        raise UserError(f"{file}: current_host is {current!r}, which is none of the hosts {', '.join(hosts)}")
    found = Machines(current, hosts)
    if found.several and not os.environ.get(TOKEN):
        raise UserError(
            f"the job has {len(hosts)} machines, which have to know each other by a secret: give all of them the same "
            f"environment variable {TOKEN}, such as `openssl rand -hex 32` prints"
        )
    return found


def lead(machines: Machines, train: Callable[[], int]) -> int:
    """Trains on the first machine, as the head of the others, and returns its exit status."""
    if not machines.several:
        return train()
    address = _address(machines.current)
    os.environ |= _RAY_ENVIRONMENT
    # Ray remembers its cluster in the folder: in its own default one, later runs would look for it.
    with (
        TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        nothing_left(),
        _watched(address, len(machines.all)) as watched,
    ):
        status = 1
        try:
            words = (f"--port={RAY_PORT}", f"--temp-dir={folder}", "--include-dashboard=false", *_node_words(address))
            if _ray("start", "--head", *words).wait():
                raise UserError(f"Ray's head does not start on {machines.current}: see what it says above")
            os.environ["RAY_ADDRESS"] = f"{address}:{RAY_PORT}"
            status = train()
        except UserError:
            status = 2
            raise
        finally:
            _say(watched, status)
    return status


def join(machines: Machines) -> int:
    """Is a node of the first machine's cluster until that ends; returns its exit status.

    Raises:
        UserError: it does not come up, or this machine's node fails again and again.
    """
    head, own = machines.all[0], _address(machines.current)
    budget, node = Budget(RESTARTS, 1, 1), None
    os.environ |= _RAY_ENVIRONMENT
    with _connected(head) as watched, nothing_left():
        address = f"{_address(head)}:{RAY_PORT}"
        while not select.select([watched], [], [], _LOOK_SECONDS)[0]:
            if node is not None and node.poll() is not None:
                if (spent := budget.spend(0, time.monotonic())) is None:
                    raise UserError(f"Ray's node on {machines.current} ended once more than {RESTARTS} restarts allow")
                time.sleep(spent[1])
                node = None
            if node is None and _answers(head):
                node = _ray("start", f"--address={address}", "--block", *_node_words(own))
        return _heard(watched, head)


def _watched(address: str, machines: int) -> socket.socket:
    """Returns where the others wait. Nobody is let in before the end: it is enough that the system connects them."""
    try:
        return socket.create_server((address, WATCH_PORT), backlog=machines)
    except OSError as error:
        raise UserError(f"{address}:{WATCH_PORT} cannot be listened at ({error.strerror})") from error


def _answers(head: str) -> bool:
    with suppress(OSError), socket.create_connection((head, RAY_PORT), _LOOK_SECONDS):
        return True
    return False


def _connected(head: str) -> socket.socket:
    """Returns a connection to the first machine."""
    until, reason = time.monotonic() + START_SECONDS, ""
    while time.monotonic() < until:
        try:
            sock = socket.create_connection((head, WATCH_PORT), _LOOK_SECONDS)
        except OSError as error:  # its name may not be known yet, either
            reason = error.strerror or str(error)
            time.sleep(_LOOK_SECONDS)
            continue
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return sock
    raise UserError(f"{head}, the first machine of the job, did not answer within {START_SECONDS:g} s ({reason})")


def _say(watched: socket.socket, status: int) -> None:
    """Tells those who wait how the first machine has ended."""
    watched.setblocking(False)
    with suppress(OSError):  # nobody waits any more
        while True:
            with watched.accept()[0] as other:
                other.send(bytes([status]))


def _heard(watched: socket.socket, head: str) -> int:
    said = b""
    with suppress(OSError):
        said = watched.recv(1)
    print(f"{head} has ended, with status {said[0]}" if said else f"{head} is gone", file=sys.stderr)
    return said[0] if said else 1


def _address(host: str) -> str:
    """Returns the address of a machine; names may become known a while after a machine is up."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.gethostbyname(host)
        except OSError as error:
            if time.monotonic() > until:
                raise UserError(f"nobody knows the machine {host} ({error.strerror})") from error
            time.sleep(_LOOK_SECONDS)


def _node_words(address: str) -> tuple[str, ...]:
    store = f"--object-store-memory={_OBJECT_STORE_BYTES}"
    return (f"--node-ip-address={address}", "--disable-usage-stats", store)


def _ray(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*RAY, *words], stdin=subprocess.DEVNULL, stdout=sys.stderr)  # noqa: S603 - Ray's own
