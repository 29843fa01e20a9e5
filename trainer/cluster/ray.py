"""Ray: it finds room for relays on the hosts of a cluster, starts them, and tells of their ends.

The only file that imports it, and only the ingest and the hosts import this file: Ray's driver takes over signals.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")  # else it prints what a message of ours says once
import ray
from ray._private.utils import read_ray_address
from ray.exceptions import RayActorError, RayTaskError

from envs.process.lifetime import ignore_signals
from envs.spec import Array, UserError
from trainer.cluster.calls import Answering, Asking
from trainer.cluster.hosts import Starter
from trainer.cluster.relay import HostSetup, by_tcp, run_relay
from trainer.cluster.stream import Way
from trainer.config.schema import ClusterConfig, TrainConfig, Transport

CONNECT_SECONDS = 5.0
"""The address of a cluster has so long to answer."""
_THREADS = 6
"""Of a relay's actor: one collects, others wait with calls."""
_END_SECONDS = 3.0
_SHOWN = 300


def start_ray(config: TrainConfig, selector: selectors.BaseSelector) -> tuple[Starter, str]:
    """Connects to the cluster of `RAY_ADDRESS`, to the one that runs here, or starts one of this machine.

    Returns:
        What starts relays there, and the address of this host in it.

    Raises:
        UserError: nobody answers, the token is refused or missing, or the collectors do not fit.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    _check_address(address)
    # Ray starts workers with a niceness of 15, as if games could wait. Nodes that run already keep theirs.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        logging.getLogger("ray").setLevel(logging.ERROR)
        # What Ray remembers of a cluster that was killed would be waited for.
        ray.init(None if address or _runs_here() else "local", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds, by what has failed
        raise _refused(address, error) from error
    finally:
        ignore_signals()  # Ray has set handlers of its own; signals are the learner's
    node = ray._private.worker._global_node  # there is no public way to know whether one was found or started
    started_here = not address and node is not None and node.is_head()
    _check_token(config.cluster, ray.get_runtime_context().gcs_address)
    _check_room(config.cluster, started_here)
    address = ray.util.get_node_ip_address()
    return RayStarter(config.cluster, selector), str(address)


def _check_address(address: str) -> None:
    if address in ("", "auto", "local"):
        return
    if "://" in address:
        raise UserError(
            f"RAY_ADDRESS={address}: give the address of the head itself, host:6379. Ray's client (ray://) and jobs "
            "(http://) are for submitting: ray job submit --address … -- outstep train …"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"RAY_ADDRESS={address} must be host:port, as `ray start --head` prints it")
    try:
        _connect(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"RAY_ADDRESS={address}: nobody answers there ({reason}). Is the cluster's head up?") from error


def _connect(address: str) -> None:
    """Connects to `host:port` and leaves again; OSError if nobody answers."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def _runs_here() -> bool:
    """Returns whether the cluster answers that Ray remembers having started on this machine."""
    remembered = read_ray_address()
    with contextlib.suppress(OSError, ValueError):
        _connect(remembered or "")
        return True
    return False


def _refused(address: str, error: Exception) -> UserError:
    """Returns what to say of a cluster that did not let this run in."""
    where = f"RAY_ADDRESS={address}" if address else "the Ray cluster of this machine"
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:_SHOWN]
    return UserError(
        f"{where}: the cluster does not let this run in ({reason}). If it refuses the token or wants one, give that of "
        "its head: RAY_AUTH_MODE=token, with RAY_AUTH_TOKEN or ~/.ray/auth_token. Its Ray has to be of the same "
        f"version, too: here it is {ray.__version__}"
    )


def _check_token(cluster: ClusterConfig, gcs_address: str) -> None:
    host = gcs_address.rpartition(":")[0].strip("[]")
    loopback = host == "localhost"
    with contextlib.suppress(ValueError):
        loopback = loopback or ipaddress.ip_address(host).is_loopback
    if loopback or cluster.insecure or os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return
    raise UserError(
        f"the Ray cluster at {gcs_address} is on a network and asks for no token: whoever reaches it runs code on it. "
        "Start its nodes with RAY_AUTH_MODE=token and give the token here, or say cluster.insecure=true if nobody else "
        "can reach it"
    )


def _check_room(cluster: ClusterConfig, started_here: bool) -> None:
    """Refuses more collectors than a cluster has room for: at once where it cannot grow, else if it does not."""
    needed = cluster.collectors if started_here else min(cluster.min_collectors, cluster.collectors)
    until = time.monotonic() + (0.0 if started_here else cluster.silent_seconds)
    while (room := sum(_room(cluster, node["Resources"]) for node in _nodes())) < needed:
        if time.monotonic() >= until:
            wanted = ", ".join(f"{amount:g} {name}" for name, amount in _wanted(cluster).items())
            key = "cluster.collectors" if started_here else "cluster.min_collectors"
            nodes = [node["Resources"].get("CPU", 0.0) for node in _nodes()]
            raise UserError(
                f"{key}={needed} do not fit: each asks for {wanted}, and the cluster has room for {int(room)} ("
                f"{len(nodes)} node{'s' * (len(nodes) != 1)} with {sum(nodes):g} CPU). Ask for fewer, lower "
                "cluster.cpus or cluster.resources, or add nodes"
            )
        time.sleep(0.5)


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()
    return [node for node in nodes if node["Alive"]]


def _wanted(cluster: ClusterConfig) -> dict[str, float]:
    wanted = {"CPU": cluster.cpus, **{name: float(amount) for name, amount in cluster.resources.items()}}
    return {name: amount for name, amount in wanted.items() if amount}


def _room(cluster: ClusterConfig, resources: dict[str, float]) -> float:
    shares = [resources.get(name, 0.0) // amount for name, amount in _wanted(cluster).items()]
    return min(shares, default=float(cluster.collectors))


class RayStarter:
    """Starts each relay as an actor."""

    def __init__(self, cluster: ClusterConfig, selector: selectors.BaseSelector) -> None:
        self._cluster = cluster
        self._actors: dict[int, Any] = {}
        self._news: deque[tuple[int, str, str | Way]] = deque()
        self._wakes, self._woken = socket.socketpair()
        for end in (self._wakes, self._woken):
            end.setblocking(False)
        selector.register(self._woken, selectors.EVENT_READ, self._wake_up)

    def start(self, setup: HostSetup) -> None:  # noqa: D102
        own = dict(self._cluster.resources)
        options = {
            "num_cpus": self._cluster.cpus,
            "num_gpus": own.pop("GPU", 0),
            "resources": own,
            "max_concurrency": _THREADS,
            "max_restarts": 0,
            "scheduling_strategy": "SPREAD",
        }
        actor: Any = ray.remote(**options)(RelayActor).remote()
        self._actors[setup.key] = actor
        self._when(actor.host.remote(), lambda host: self._tell(setup.key, "placed", str(host)), setup.key)
        self._when(actor.run.remote(setup), lambda _: self._tell(setup.key, "ended", "it has ended"), setup.key)
        if self._cluster.transport is not Transport.tcp:
            self._when(actor.greeting.remote(), lambda said: self._greet(setup.key, actor, said), setup.key)

    def end(self, key: int) -> None:  # noqa: D102
        if (actor := self._actors.pop(key, None)) is not None:
            with contextlib.suppress(Exception):  # it has ended
                ray.kill(actor)

    def news(self) -> list[tuple[int, str, str | Way]]:  # noqa: D102
        found = []
        while self._news:
            found.append(self._news.popleft())
        return found

    def close(self) -> None:  # noqa: D102
        # Those that were told to stop end their games by themselves; the others are killed.
        until = time.monotonic() + _END_SECONDS
        while self._actors and time.monotonic() < until:
            for key, what, _ in self.news():
                if what == "ended":
                    self._actors.pop(key, None)
            time.sleep(0.05)
        for key in list(self._actors):
            self.end(key)
        ray.shutdown()
        self._wakes.close()
        self._woken.close()

    def _when(self, ref: Any, then: Callable[[Any], None], key: int) -> None:
        """Calls `then` with what a call returns, in a thread of Ray's; its failure is the relay's end."""

        def done(future: Any) -> None:
            error = future.exception()
            if error is None:
                then(future.result())
            else:
                self._tell(key, "ended", _reason(error))

        ref.future().add_done_callback(done)

    def _greet(self, key: int, actor: Any, said: dict[str, Any] | None) -> None:
        if said is None:  # it has connected by itself
            return
        if said.get("refusal"):
            self._tell(key, "refused", str(said["refusal"]))
            return
        self._tell(key, "way", Asking(lambda request: actor.pull.remote(request).future()))

    def _tell(self, key: int, what: str, content: str | Way) -> None:
        self._news.append((key, what, content))
        with contextlib.suppress(OSError):
            self._wakes.send(b"\0")

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(65536)


class RelayActor:
    """A relay in a process that Ray has started on some host."""

    def __init__(self) -> None:
        self._said: dict[str, Any] | None = None
        self._connected = threading.Event()
        self._calls: Answering | None = None

    def host(self) -> str:
        """Returns the host's name."""
        return socket.gethostname()

    def run(self, setup: HostSetup) -> None:
        """Collects until the learner's host has enough or is gone."""
        transport, by_network = setup.config.cluster.transport, by_tcp(setup)

        def connected(said: dict[str, Any]) -> Way:
            way: Way | None = None
            try:
                if transport is not Transport.ray:
                    way = by_network(said)
            except OSError:
                if transport is Transport.tcp:
                    raise
            if way is None:
                self._said, way = said, Answering()
                self._calls = way
            self._connected.set()
            return way

        try:
            run_relay(setup, connected)
        finally:
            self._connected.set()

    def greeting(self) -> dict[str, Any] | None:
        """Returns what it says of itself where calls have to be made; None once it has connected by itself."""
        self._connected.wait()
        return self._said

    def pull(self, request: Array) -> Array:
        """Returns the answer to a request."""
        if self._calls is None:
            raise EOFError("the host has connected by itself")
        return self._calls.call(request)


def _reason(error: BaseException) -> str:
    """Returns why an actor ended, in a line or two."""
    if isinstance(error, RayActorError):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return " ".join(lines)[:_SHOWN]
    cause = error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
    return f"{type(cause).__name__}: {str(cause).strip()[:_SHOWN]}"
