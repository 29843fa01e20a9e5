"""One gRPC server for one player: the handshake, then one message in and one answer out. Its worker is a thread.

The player is the client. It asks, and blocks until it is answered; what it says in asking is decoded in the thread that
serves it, and told to whoever drives the instances.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from queue import SimpleQueue
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from envs.spec import BehaviorSpec, UserError
from envs.unity.decoding import Agents, Decoder, PlayerFault
from envs.unity.messages import API_VERSION, METHOD, message, raw_message_class

LOOPBACK = ("127.0.0.1", "[::1]")
"""Where servers listen. Players dial `localhost`, which may be either."""
_PACKAGE_VERSION = "1.1.0"  # some C# releases refuse Python packages that they think too new
_MESSAGE_BYTES = 256 * 2**20
_OK, _CLOSE = 200, 400
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # else two servers share a port without an error
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
)


class Connected(NamedTuple):
    """The player is there and speaks our version."""

    package_version: str


class Arrived(NamedTuple):
    """A message of the player, which now waits for `PlayerServer.reply`."""

    time: float
    """`time.perf_counter()` when it came."""
    agents: dict[str, Agents]
    """By full behavior id."""
    specs: dict[str, BehaviorSpec]
    """Of the behaviors that this message is the first to hold, by name."""
    side_channel: bytes


class Failed(NamedTuple):
    """The player cannot go on."""

    why: str
    """`it closed its connection`, …"""
    left: bool = False
    """Whether it has gone by itself: then its process may be about to end, and tell more by its exit status."""


class Refused(NamedTuple):
    """The player serves what cannot be trained on; no restart would help."""

    error: UserError


Event = Connected | Arrived | Failed | Refused


class PlayerServer:
    """Listens on loopback, lets exactly one player in, and exchanges messages with it.

    Args:
        port: 0 for one that the system picks.
        seed: given to the player, int32.
        num_areas: training areas that the player is asked for.
        first: the answer to the player's first request for input: `encode_reply(…, reset=True)`.
        tell: called with every event, from threads of the server.

    Raises:
        UserError: the port is taken.
    """

    def __init__(self, port: int, seed: int, num_areas: int, first: bytes, tell: Callable[[Event], object]) -> None:
        self._seed, self._num_areas, self._first, self._tell = seed, num_areas, first, tell
        self._peer: str | None = None
        self._exchanges = 0
        self._closing = False
        self._waiting = 0
        self._replies: SimpleQueue[bytes] = SimpleQueue()
        self._server, self.port = _listen(port, self._exchange)
        self._server.start()

    def reply(self, answer: bytes) -> None:
        """Answers the message that arrived last."""
        self._replies.put(answer)

    def close(self) -> None:
        """Tells the player to quit: now if it waits, else when it next asks."""
        self._closing = True
        self._replies.put(_closing_message())

    def stop(self, grace: float = 0.0) -> None:
        """Ends the server, `grace` seconds after at most if an answer is still under way, and gives its port back."""
        self.close()
        self._server.stop(grace).wait()

    def _exchange(self, request: bytes, context: Any) -> bytes:
        at = time.perf_counter()
        if self._closing:
            return _closing_message()
        if self._peer is not None and self._peer != context.peer():
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "another player is served here")
        try:
            incoming = raw_message_class().FromString(request)
        except DecodeError:
            return self._reject(context, "it sent bytes that are no message of the protocol")
        if self._peer is None:
            return self._shake_hands(incoming, context)
        if incoming.header.status != _OK:
            return self._fail("it closed its connection", left=True)
        self._exchanges += 1
        if self._exchanges == 1:  # it only asks for input
            return self._first
        return self._answer(incoming.unity_output, at, context)

    def _shake_hands(self, incoming: Any, context: Any) -> bytes:
        output = incoming.unity_output
        if not output.HasField("rl_initialization_output"):
            return self._reject(context, None)  # a stranger: the player may still come
        about = output.rl_initialization_output
        version = about.communication_version
        if version.partition(".")[0] != API_VERSION.partition(".")[0]:
            return self._fail(
                f"it speaks version {version or '(none)'} of the ML-Agents protocol, and Outstep {API_VERSION}: "
                "build it with a release of the ML-Agents package whose protocol is 1.x (1.0 or newer)"
            )
        self._peer = context.peer()
        self._decoder = Decoder(about.package_version)
        self._tell(Connected(about.package_version))
        return _initialization(self._seed, self._num_areas)

    def _answer(self, output: Any, at: float, context: Any) -> bytes:
        known = set(self._decoder.specs)
        try:
            agents = self._decoder.decode(output)
        except PlayerFault as fault:
            return self._fail(str(fault))
        except UserError as error:
            self._tell(Refused(error))
            return _closing_message()
        specs = self._decoder.specs
        new = {name: specs[name] for name in specs.keys() - known} if len(specs) > len(known) else {}
        self._waiting = self._exchanges
        if not context.add_callback(partial(self._ended, self._exchanges)):
            return self._fail("it closed its connection", left=True)
        self._tell(Arrived(at, agents, new, output.rl_output.side_channel))
        answer = self._replies.get()
        self._waiting = 0
        return answer

    def _ended(self, exchange: int) -> None:
        """The call is over: answered, or cut off while the player waited. The next may have begun by now."""
        if self._waiting == exchange:
            self._replies.put(_closing_message())
            if not self._closing:
                self._tell(Failed("it closed its connection", left=True))

    def _fail(self, why: str, left: bool = False) -> bytes:
        self._closing = True
        self._tell(Failed(why, left))
        return _closing_message()

    def _reject(self, context: Any, why: str | None) -> bytes:
        """Refuses a message; that of the player that was let in is its end."""
        if why is not None and self._peer is not None:
            self._fail(why)
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, why or "no player's first message")
        raise AssertionError  # abort raises


def _listen(port: int, exchange: Callable[[bytes, Any], bytes]) -> tuple[Any, int]:
    """A server, not yet started, that listens on both loopback addresses (as far as there are both), and its port."""
    hosts = [host for host in LOOPBACK if _has(host)]
    for _ in range(_ATTEMPTS):
        # One thread for the player, and one to refuse others.
        pool = ThreadPoolExecutor(2, thread_name_prefix="player")
        server = grpc.server(pool, handlers=[_Handler(exchange)], options=_OPTIONS)
        taken = port
        try:
            for host in hosts:
                if not (bound := server.add_insecure_port(f"{host}:{taken}")):  # grpc before 1.60 raises nothing
                    raise RuntimeError
                taken = bound
        except RuntimeError:
            server.stop(0)
            if not port:
                continue  # the other address has this port taken
            raise UserError(
                f"port {port} is in use: another run, or ML-Agents' own trainer, waits for the Unity Editor there; "
                "end it (the Editor itself always uses 5004; env.port is for a player that you start by hand)"
            ) from None
        return server, taken
    raise UserError(f"no port could be opened on {' and '.join(hosts)}: is a firewall in the way?")


_ATTEMPTS = 20


@cache
def _has(host: str) -> bool:
    """Whether this machine can listen there."""
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.bind((host.strip("[]"), 0))
    except OSError:
        return False
    return True


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The protocol's one method, on bytes."""

    def __init__(self, exchange: Callable[[bytes, Any], bytes]) -> None:
        self._method = grpc.unary_unary_rpc_method_handler(exchange)

    def service(self, handler_call_details: Any) -> Any:
        return self._method if handler_call_details.method == METHOD else None


def _initialization(seed: int, num_areas: int) -> bytes:
    answer = message("unity_message", "UnityMessageProto")()
    answer.header.status = _OK
    about = answer.unity_input.rl_initialization_input
    about.seed, about.num_areas = seed, num_areas
    about.communication_version, about.package_version = API_VERSION, _PACKAGE_VERSION
    for capability in _CAPABILITIES:
        setattr(about.capabilities, capability, True)
    serialized: bytes = answer.SerializeToString()
    return serialized


# Observations of variable length are claimed so that they arrive, and can be refused by name.
_CAPABILITIES = (
    "baseRLCapabilities",
    "concatenatedPngObservations",
    "compressedChannelMapping",
    "hybridActions",
    "variableLengthObservation",
    "multiAgentGroups",
)


@cache
def _closing_message() -> bytes:
    answer = message("unity_message", "UnityMessageProto")()
    answer.header.status = _CLOSE
    serialized: bytes = answer.SerializeToString()
    return serialized
