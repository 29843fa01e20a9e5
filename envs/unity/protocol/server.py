"""The server of one player: the handshake, then one message in and one answer out, in the loop of whoever drives it.

The player is the client. It asks, and blocks until it is answered. All servers of a manager share its selector: what a
player says is read and decoded in the thread that calls `recv`.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from envs.spec import BehaviorSpec, UserError
from envs.unity.protocol.bounds import MOST_MESSAGE_BYTES, PlayerFault, check_parts, shown
from envs.unity.protocol.decoding import Agents, Decoder
from envs.unity.protocol.http2 import PERMISSION_DENIED, Cancelled, Connection, ProtocolError, Request, TooLong
from envs.unity.protocol.messages import API_VERSION, CAPABILITIES, message, raw_class


class Connected(NamedTuple):
    """The player is there and speaks our version."""

    package_version: str


class Arrived(NamedTuple):
    """A message of the player, which now waits for `PlayerServer.reply`."""

    time: float
    """`time.perf_counter()` when it was read."""
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
    """Whether it has gone by itself: then its process may be about to end, and its exit status say more."""


class Noted(NamedTuple):
    """Something is to be said of what the player serves."""

    text: str


class UnexpectedClient(NamedTuple):
    """Another client has connected, and was refused; the player is waited for as before.

    Only the first is reported, and the first few that were refused for what they are.
    """

    address: str
    why: str
    """`no HTTP/2 client`, …"""


Event = Connected | Arrived | Failed | Noted | UnexpectedClient | UserError
"""A `UserError`: the player serves what cannot be trained on; no restart would help."""


class PlayerServer:
    """Listens on loopback, lets exactly one player in, and exchanges messages with it.

    The protocol has no key, so the player is whoever first introduces itself as one, of those that `listen` lets in.
    Until then others may connect: each can hold and send little, and the longest silent one makes room for the next.
    From then on nobody listens.

    Args:
        port: 0 for one that the system picks.
        seed: given to the player, int32.
        num_areas: training areas that the player is asked for.
        first: the answer to the player's first request for input: `encode_reply(…, reset=True)`.
        selector: where its sockets are watched; the data of every key in it is a function to call.
        report: called with every event.

    Raises:
        UserError: the port is taken.
    """

    def __init__(
        self,
        port: int,
        seed: int,
        num_areas: int,
        first: bytes,
        selector: selectors.BaseSelector,
        report: Callable[[Event], object],
    ) -> None:
        self._seed, self._num_areas, self._first = seed, num_areas, first
        self._selector, self._report = selector, report
        self._listeners, self.port = _listen(port)
        self._clients: list[_Client] = []
        self._player: _Client | None = None
        self._met_unexpected = False
        self._refusals: set[str] = set()
        self._exchanges = 0
        self._waiting: int | None = None
        """Stream of the message that has no answer yet."""
        self._closing = False

    def listen(self, refusal: Callable[[socket.socket], str | None]) -> None:
        """Begins to accept clients; those that have come before wait so long. `refusal` says whom to refuse, and why.

        Once the player has come it does nothing.
        """
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener, refusal))

    @property
    def occupied(self) -> bool:
        """Whether the player is connected."""
        return self._player in self._clients

    def reply(self, answer: bytes) -> None:
        """Answers the message that arrived last."""
        if self._player is not None and self._waiting is not None:
            self._player.connection.respond(self._waiting, answer)
            self._waiting = None
            self._player.flush()

    def close(self) -> None:
        """Lets the player quit: now if it waits, else when it next asks."""
        self._closing = True
        self.reply(_closing_message())

    def stop(self) -> None:
        """Ends the server and gives its port back."""
        self.close()
        self._stop_listening()
        for client in list(self._clients):
            self._drop(client)

    def _accept(self, listener: socket.socket, refusal: Callable[[socket.socket], str | None]) -> None:
        with contextlib.suppress(OSError):
            sock, (host, port, *_) = listener.accept()
            if why := refusal(sock):
                sock.close()
                if why not in self._refusals and len(self._refusals) < _REFUSALS:
                    self._refusals.add(why)
                    self._report(UnexpectedClient(f"{host} port {port}", why))
                return
            if len(self._clients) >= _STRANGERS:
                silent = [client for client in self._clients if not client.connection.greeted]
                self._refuse((silent or self._clients)[0], f"it did not introduce itself, as {_STRANGERS - 1} others")
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = _Client(sock, f"{host} port {port}", self._selector, self._read)
            self._clients.append(client)
            client.flush()

    def _read(self, client: _Client) -> None:
        try:
            data = client.sock.recv(min(_CHUNK_BYTES, client.connection.limit))
            at = time.perf_counter()
            events = client.connection.receive(data)
        except BlockingIOError:
            return
        except ProtocolError as error:
            self._refuse(client, str(error))
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        for event in events:
            if isinstance(event, TooLong):
                if client is self._player:
                    self._fail(f"it sent a message of more than {event.limit:,} bytes")
            elif isinstance(event, Cancelled):
                if client is self._player and event.stream == self._waiting:
                    self._drop(client)
                    return
            else:
                answer = self._answer(client, event, at)
                if answer is not None:
                    client.connection.respond(event.stream, answer)
        client.flush()

    def _answer(self, client: _Client, request: Request, at: float) -> bytes | None:
        """Returns what to answer at once, if anything."""
        if self._closing:
            return _closing_message()
        try:
            check_parts(request.content)
            incoming = raw_class("UnityMessageProto").FromString(request.content)
        except PlayerFault as fault:  # of the player: others cannot send so much
            return self._fail(str(fault))
        except DecodeError:
            incoming = None
        if client is not self._player:
            return self._shake_hands(client, request, incoming)
        if incoming is None:
            return self._fail("it sent bytes that are no message of the protocol")
        if self._waiting is not None:
            return self._fail("it sent a message before its last was answered")
        if incoming.header.status != _OK:
            return self._fail("it closed its connection", left=True)
        self._exchanges += 1
        if self._exchanges == 1:  # it only asks for input
            return self._first
        return self._take(incoming.unity_output, request.stream, at)

    def _shake_hands(self, client: _Client, request: Request, incoming: Any) -> bytes | None:
        if incoming is None or not incoming.unity_output.HasField("rl_initialization_output"):
            client.connection.refuse(request.stream, PERMISSION_DENIED, "this is no player's first message")
            self._report_unexpected(client, "it sent another message than a player's first")
            return None
        about = incoming.unity_output.rl_initialization_output
        version = about.communication_version
        if version.partition(".")[0] != API_VERSION.partition(".")[0]:
            return self._fail(
                f"it speaks version {shown(version, 20)} of the ML-Agents protocol, and Outstep {API_VERSION}: "
                "build it with a release of the ML-Agents package whose protocol is 1.x (1.0 or newer)"
            )
        self._player = client
        client.connection.limit = MOST_MESSAGE_BYTES
        self._stop_listening()
        for other in [other for other in self._clients if other is not client]:
            self._drop(other)
        self._decoder = Decoder(about.package_version)
        self._report(Connected(about.package_version))
        return _initialization(self._seed, self._num_areas)

    def _take(self, output: Any, stream: int, at: float) -> bytes | None:
        known, noted = set(self._decoder.specs), len(self._decoder.notes)
        try:
            agents = self._decoder.decode(output)
        except PlayerFault as fault:
            return self._fail(str(fault))
        except UserError as error:
            self._report(error)
            return _closing_message()
        except Exception as error:  # whatever a broken player sends, the others go on
            return self._fail(f"its message cannot be read ({type(error).__name__}: {error})")
        specs = self._decoder.specs
        new = {name: specs[name] for name in specs if name not in known} if len(specs) > len(known) else {}
        self._waiting = stream
        for text in self._decoder.notes[noted:]:
            self._report(Noted(text))
        self._report(Arrived(at, agents, new, output.rl_output.side_channel))
        return None

    def _fail(self, why: str, left: bool = False) -> bytes:
        self._closing = True
        self._report(Failed(why, left))
        return _closing_message()

    def _refuse(self, client: _Client, why: str) -> None:
        """Ends the connection of a client that does what it may not."""
        if client is not self._player:
            self._report_unexpected(client, why)
        elif not self._closing:
            self._fail(f"it broke the protocol ({why})")
        self._drop(client)

    def _report_unexpected(self, client: _Client, why: str) -> None:
        if not self._met_unexpected:
            self._met_unexpected = True
            self._report(UnexpectedClient(client.address, why))

    def _drop(self, client: _Client) -> None:
        """Ends a connection; the player's is its end."""
        if client in self._clients:
            self._clients.remove(client)
            client.close()
            if client is self._player and not self._closing:
                self._fail("it closed its connection", left=True)

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(KeyError):  # it was never listened to
                self._selector.unregister(listener)
            listener.close()
        self._listeners = []


class _Client:
    """A connected socket, and what is spoken over it."""

    def __init__(
        self, sock: socket.socket, address: str, selector: selectors.BaseSelector, read: Callable[[_Client], object]
    ) -> None:
        self.sock = sock
        self.address = address
        self.connection = Connection(_STRANGERS_BYTES)
        self._selector = selector
        self._read = read
        self._events = selectors.EVENT_READ
        selector.register(sock, self._events, self._turn)

    def flush(self) -> None:
        """Sends as much of the output as there is room for, and the rest as soon as there is.

        A client that does not read is not read from either, else its answers would pile up here.
        """
        out = self.connection.out
        if out:
            try:
                del out[: self.sock.send(out)]
            except BlockingIOError:
                pass  # no room
            except OSError:  # it has gone, which reading shows
                out.clear()
        events = (selectors.EVENT_WRITE if out else 0) | (selectors.EVENT_READ if len(out) < _UNREAD_BYTES else 0)
        if events != self._events and self.sock.fileno() >= 0:
            self._events = events
            self._selector.modify(self.sock, events, self._turn)

    def close(self) -> None:
        """Closes the socket."""
        self._selector.unregister(self.sock)
        self.sock.close()

    def _turn(self) -> None:
        if self._events & selectors.EVENT_WRITE:
            self.flush()
        if self._events & selectors.EVENT_READ and self.sock.fileno() >= 0:
            self._read(self)


_OK, _CLOSE = 200, 400
_PACKAGE_VERSION = "1.1.0"  # some C# releases refuse Python packages that they think too new
_STRANGERS, _STRANGERS_BYTES = 16, 2**16  # clients, and bytes of a message, before the player is there
_UNREAD_BYTES = 2**16
_REFUSALS = 8  # reported: a client can ask a new process to connect as often as it likes
_CHUNK_BYTES = 2**20  # read at most so much at once: a large message must not hold up the others
_ATTEMPTS = 20
_LOOPBACK = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
"""Players dial `localhost`, which may be either."""


def check_port(port: int) -> None:
    """Raises UserError if a server could not listen there."""
    for listener in _listen(port)[0]:
        listener.close()


def _listen(port: int) -> tuple[list[socket.socket], int]:
    """Sockets that listen on both loopback addresses (as far as there are both), and their port."""
    reason = None
    for _ in range(_ATTEMPTS):
        taken, listeners = port, []
        try:
            for host, family in _LOOPBACK.items():
                if _has(host):
                    listeners.append(socket.create_server((host, taken), family=family))
                    taken = listeners[-1].getsockname()[1]
        except OSError as error:
            for listener in listeners:
                listener.close()
            reason = error
            if not port:
                continue  # the other address has this port taken
            raise UserError(
                f"port {port} is in use: another run, or ML-Agents' own trainer, waits for the Unity Editor there; "
                "end it (the Editor itself always uses 5004; env.port is for a player that you start by hand)"
            ) from error
        for listener in listeners:
            listener.setblocking(False)
        return listeners, taken
    raise UserError(f"no port could be opened on {' and '.join(_LOOPBACK)}: {reason}")


@cache
def _has(host: str) -> bool:
    """Returns whether this machine can listen there."""
    try:
        with socket.socket(_LOOPBACK[host], socket.SOCK_STREAM) as trial:
            trial.bind((host, 0))
    except OSError:
        return False
    return True


def _initialization(seed: int, num_areas: int) -> bytes:
    answer = message("unity_message", "UnityMessageProto")()
    answer.header.status = _OK
    about = answer.unity_input.rl_initialization_input
    about.seed, about.num_areas = seed, num_areas
    about.communication_version, about.package_version = API_VERSION, _PACKAGE_VERSION
    for capability in (*CAPABILITIES, "multiAgentGroups"):
        setattr(about.capabilities, capability, True)
    return bytes(answer.SerializeToString())


@cache
def _closing_message() -> bytes:
    answer = message("unity_message", "UnityMessageProto")()
    answer.header.status = _CLOSE
    return bytes(answer.SerializeToString())
