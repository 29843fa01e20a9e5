"""The connection of a player to its trainer: gRPC's unary calls over HTTP/2 (RFC 9113), one at a time, blocking.

gRPC's own Python client spends 300 us of processor time a call, which would count as the game's; this one about 40.
It is tried against gRPC's own server.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

from envs.spec import UserError
from envs.unity.protocol import http2
from envs.unity.protocol.messages import METHOD

CONNECT_SECONDS = 60.0


class Closed(Exception):
    """The trainer has ended the conversation; the message says how."""


@contextlib.contextmanager
def connected(port: int) -> Iterator[Callable[[bytes], bytes]]:
    """Returns the exchange of one serialized UnityMessageProto for another, with the trainer that listens on `port`.

    Raises:
        UserError: nobody listens there for 60 seconds.
        Closed: out of the exchange, once the connection is gone.
    """
    with _connect(port) as sock:
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield _Calls(sock, f"localhost:{port}")


class _Calls(http2.Peer):
    """One call after another over `sock`."""

    def __init__(self, sock: socket.socket, authority: str) -> None:
        settings = http2.SETTING.pack(_ENABLE_PUSH, 0) + http2.OPEN_WINDOWS
        super().__init__(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, settings) + http2.OPEN_CONNECTION)
        self._sock = sock
        # POST and http are indexed in HPACK's static table, as are the names of the next three.
        fields = (b"\x04", METHOD.encode()), (b"\x01", authority.encode()), (b"\x0f\x10", b"application/grpc")
        indexed = b"\x83\x86" + b"".join(name + http2.string(value) for name, value in fields)
        self._headers = indexed + b"\0" + http2.string(b"te") + http2.string(b"trailers")
        self._stream = -1
        self._answer = bytearray()

    def __call__(self, message: bytes) -> bytes:
        """Sends a message and waits for the answer; Closed if none comes."""
        try:
            return self._exchange(message)
        except OSError as error:
            raise Closed(f"the connection is gone ({error.strerror or error})") from None
        except http2.ProtocolError as error:
            raise Closed(f"the trainer broke the protocol ({error})") from None

    def _exchange(self, message: bytes) -> bytes:
        self._stream += 2
        self._stream_windows[self._stream] = self._initial_window
        self._answer.clear()
        self.out += http2.frame(http2.HEADERS, http2.END_HEADERS, self._stream, self._headers)
        self._send(self._stream, message, http2.frame(http2.DATA, http2.END_STREAM, self._stream, b""))
        while not self._receive():
            pass
        self._flush()
        if self._blocked:
            raise Closed("the trainer answered before it had been asked")
        size = len(self._answer) - http2.PREFIX
        if size < 0 or int.from_bytes(self._answer[1 : http2.PREFIX], "big") != size:
            raise Closed("the trainer refused a message")
        return bytes(self._answer[http2.PREFIX :])

    def _flush(self) -> None:
        self._sock.sendall(self.out)
        self.out.clear()

    def _receive(self) -> bool:
        """Sends what there is, and takes in what comes next; returns whether the answer to this call is whole."""
        self._flush()
        received = self._sock.recv(_CHUNK_BYTES)
        if not received:
            raise Closed("the connection is gone (the trainer closed it)")
        self._in += received
        whole = False
        for kind, flags, stream, payload in self._frames():
            own = stream == self._stream
            if kind == http2.DATA:
                content = self._take_data(flags, payload)
                self._answer += content if own else b""
            elif kind == http2.RST_STREAM and own:
                raise Closed("the trainer refused a message")
            else:
                self._take_control(kind, flags, stream, payload)
            whole |= own and kind in (http2.DATA, http2.HEADERS) and bool(flags & http2.END_STREAM)
        return whole


_ENABLE_PUSH = 2
_CHUNK_BYTES = 2**16
_RETRY_SECONDS = 0.1


def _connect(port: int) -> socket.socket:
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return socket.create_connection(("localhost", port), timeout=CONNECT_SECONDS)
        except OSError:
            if time.monotonic() + _RETRY_SECONDS > until:
                raise UserError(
                    f"No trainer listened on port {port} of this machine for {CONNECT_SECONDS:.0f} seconds. "
                    "Start it first, and give its port by --mlagents-port."
                ) from None
            time.sleep(_RETRY_SECONDS)
