"""Messages over TCP: who connects proves that it knows the run's secret, and so does who is connected to.

    server: 32 random bytes
    client: 32 random bytes, HMAC-SHA256(secret, "client", both), the length of a greeting, the greeting
    server: HMAC-SHA256(secret, "server", both)

The greeting is covered by the client's HMAC. What follows is neither signed nor encrypted, as the network is the run's
own (docs/cluster.md).
"""

from __future__ import annotations

import contextlib
import hmac
import json
import select
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from secrets import token_bytes
from typing import Any, Protocol

from trainer.cluster.messages import HEADER, Message

HELLO_SECONDS = 10.0
"""Who connects has so long to prove itself."""
MOST_STRANGERS = 64
"""So many may be about to prove themselves at once."""
MOST_GREETING_BYTES = 4096
SECRET_BYTES = _RANDOM = _MAC = 32
_LENGTH = struct.Struct("<I")
_READ_BYTES = 2**20
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


class Way(Protocol):
    """How messages travel between the learner's host and another: two calls, the same at both ends."""

    socket: socket.socket
    """Readable when there may be something to receive."""

    def send(self, message: Message) -> None:
        """Sends a message. OSError if the other side is gone."""

    def receive(self) -> Message | None:
        """Returns a message, whose parts are valid until the next call; None if there is none yet.

        Raises EOFError or OSError when the other side is gone, ValueError if it sends what is none.
        """

    @property
    def unsent(self) -> bool:
        """Whether something waits for room on its way: `receive` sends it on once the socket can be written."""

    def close(self) -> None:
        """Ends the connection."""


class Stream:
    """A way over a connected socket."""

    def __init__(self, sock: socket.socket, patience: float | None = None) -> None:
        """With `patience`, `send` waits so many seconds for the other side to take more; without, it never waits."""
        self.socket = sock
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._patience = patience
        self._unsent: deque[memoryview] = deque()
        self._header, self._body, self._buffer = bytearray(HEADER.size), memoryview(b""), bytearray()
        self._got = 0

    def send(self, message: Message) -> None:  # noqa: D102
        self._unsent.extend(memoryview(piece).cast("B") for piece in message.encode() if len(piece))
        self._flush()
        while self._patience is not None and self._unsent:
            if not select.select([], [self.socket], [], self._patience)[1]:
                raise TimeoutError(f"nothing was taken for {self._patience:g} s")
            self._flush()

    @property
    def unsent(self) -> bool:  # noqa: D102
        return bool(self._unsent)

    def _flush(self) -> None:
        while self._unsent:
            try:
                sent = self.socket.send(self._unsent[0])
            except (BlockingIOError, InterruptedError):
                return
            if sent < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][sent:]
            else:
                self._unsent.popleft()

    def receive(self) -> Message | None:  # noqa: D102
        if self._unsent:
            self._flush()
        if self._got < HEADER.size:
            if not self._read(memoryview(self._header), self._got, HEADER.size):
                return None
            size = Message.size(self._header)
            if size > len(self._buffer):
                self._body = memoryview(b"")
                self._buffer = bytearray(size)
            self._body = memoryview(self._buffer)[:size]
        if not self._read(self._body, self._got - HEADER.size, len(self._body)):
            return None
        self._got = 0
        return Message.decode(self._header, self._body)

    def close(self) -> None:  # noqa: D102
        self.socket.close()

    def _read(self, into: memoryview, got: int, size: int) -> bool:
        """Reads until `into` holds `size` bytes; False if there are not as many yet."""
        while got < size:
            try:
                count = self.socket.recv_into(into[got : min(size, got + _READ_BYTES)])
            except (BlockingIOError, InterruptedError):
                return False
            if not count:
                raise EOFError("the connection was closed")
            got += count
            self._got += count
        return True


def connect(address: tuple[str, int], secret: bytes, greeting: dict[str, Any], seconds: float) -> Stream:
    """Connects to a `Listener`, and returns the way to it.

    Raises:
        OSError: nobody answers within `seconds`, or it does not know the secret.
    """
    until = time.monotonic() + seconds
    sock = socket.create_connection(address, seconds)
    try:
        sock.settimeout(seconds)
        theirs, ours, text = _receive_exactly(sock, _RANDOM, until), token_bytes(_RANDOM), json.dumps(greeting).encode()
        sock.sendall(ours + _proof(secret, b"client", theirs, ours, text) + _LENGTH.pack(len(text)) + text)
        answer = _receive_exactly(sock, _MAC, until)
        if not hmac.compare_digest(answer, _proof(secret, b"server", theirs, ours)):
            raise ConnectionRefusedError(f"who answers at {address[0]}:{address[1]} does not know the run's secret")
    except BaseException:
        sock.close()
        raise
    return Stream(sock, patience=seconds)


class Listener:
    """Lets in who knows the secret. Its sockets are in the `selector`, whose data are functions to call."""

    def __init__(
        self,
        host: str,
        secret: bytes,
        selector: selectors.BaseSelector,
        admit: Callable[[dict[str, Any], Stream], None],
        port: int = 0,
    ) -> None:
        """`admit` is called with the greeting of who has proven itself, and the way to it."""
        self._secret, self._selector, self._admit = secret, selector, admit
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        self._socket.setblocking(False)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._strangers: dict[socket.socket, _Stranger] = {}
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Lets in nobody any more."""
        for sock in list(self._strangers):
            self._leave(sock)
        self._selector.unregister(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        now = time.monotonic()
        for sock, stranger in list(self._strangers.items()):
            if now > stranger.until:
                self._leave(sock)
        with contextlib.suppress(OSError):
            sock, _ = self._socket.accept()
            if len(self._strangers) >= MOST_STRANGERS:
                sock.close()
                return
            sock.setblocking(False)
            stranger = _Stranger(token_bytes(_RANDOM), now + HELLO_SECONDS)
            sock.send(stranger.random)  # into the empty buffer of a new connection
            self._strangers[sock] = stranger
            self._selector.register(sock, selectors.EVENT_READ, lambda: self._hear(sock))

    def _hear(self, sock: socket.socket) -> None:
        stranger = self._strangers[sock]
        try:
            # Never more than what was announced: what follows belongs to the way.
            data = sock.recv(stranger.missing)
            if not data or time.monotonic() > stranger.until:
                raise EOFError
            stranger.data += data
            if stranger.missing:
                return
            greeting = stranger.greeting(self._secret)
            sock.send(_proof(self._secret, b"server", stranger.random, stranger.theirs))
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, EOFError, ValueError, RecursionError):
            self._leave(sock)
            return
        del self._strangers[sock]
        self._selector.unregister(sock)
        self._admit(greeting, Stream(sock))

    def _leave(self, sock: socket.socket) -> None:
        del self._strangers[sock]
        self._selector.unregister(sock)
        sock.close()


class _Stranger:
    """What has come of one that has not proven itself yet."""

    def __init__(self, random: bytes, until: float) -> None:
        self.random, self.until = random, until
        self.data = bytearray()

    @property
    def missing(self) -> int:
        """How many bytes of its hello have not come; ValueError if its greeting is too long."""
        fixed = _RANDOM + _MAC + _LENGTH.size
        if len(self.data) < fixed:
            return fixed - len(self.data)
        length = _LENGTH.unpack_from(self.data, _RANDOM + _MAC)[0]
        if length > MOST_GREETING_BYTES:
            raise ValueError(f"a greeting of {length} bytes")
        return fixed + int(length) - len(self.data)

    @property
    def theirs(self) -> bytes:
        return bytes(self.data[:_RANDOM])

    def greeting(self, secret: bytes) -> dict[str, Any]:
        """Returns what it says; ValueError if it does not know the secret."""
        text = bytes(self.data[_RANDOM + _MAC + _LENGTH.size :])
        proof = _proof(secret, b"client", self.random, self.theirs, text)
        if not hmac.compare_digest(proof, bytes(self.data[_RANDOM : _RANDOM + _MAC])):
            raise ValueError("another secret")
        greeting = json.loads(text)
        if not isinstance(greeting, dict):
            raise ValueError("no greeting")
        return greeting


def _proof(secret: bytes, *said: bytes) -> bytes:
    return hmac.digest(secret, b"outstep " + b"".join(said), "sha256")


def _receive_exactly(sock: socket.socket, size: int, until: float) -> bytes:
    data = b""
    while len(data) < size:
        sock.settimeout(max(0.001, until - time.monotonic()))
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionRefusedError("the connection was closed before it was agreed on")
        data += more
    return data
