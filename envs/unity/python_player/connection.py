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


class _Calls:
    """One call after another over `sock`."""

    def __init__(self, sock: socket.socket, authority: str) -> None:
        self._sock = sock
        # POST and http are indexed in HPACK's static table, as are the names of the next three.
        fields = (b"\x04", METHOD.encode()), (b"\x01", authority.encode()), (b"\x0f\x10", b"application/grpc")
        indexed = b"\x83\x86" + b"".join(name + http2.string(value) for name, value in fields)
        self._headers = indexed + b"\0" + http2.string(b"te") + http2.string(b"trailers")
        self._stream = -1
        self._in = bytearray()
        self._window = self._initial_window = self._stream_window = 65535
        """Bytes that may be sent: in all, on a new stream, and on this one."""
        self._frame_bytes = 16384
        self._consumed = 0
        settings = http2.SETTING.pack(_ENABLE_PUSH, 0) + http2.OPEN_WINDOWS
        sock.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, settings) + http2.OPEN_CONNECTION)

    def __call__(self, message: bytes) -> bytes:
        """Sends a message and waits for the answer; Closed if none comes."""
        try:
            return self._exchange(message)
        except OSError as error:
            raise Closed(f"the connection is gone ({error.strerror or error})") from None

    def _exchange(self, message: bytes) -> bytes:
        self._stream += 2
        self._stream_window = self._initial_window
        left = b"\0" + len(message).to_bytes(4, "big") + message
        out = http2.frame(http2.HEADERS, http2.END_HEADERS, self._stream, self._headers)
        answer = bytearray()
        while left:
            room = min(self._window, self._stream_window, self._frame_bytes)
            if room <= 0:
                self._sock.sendall(out)
                out = b""
                if self._take_frames(answer):
                    raise Closed("the trainer answered before it had been asked")
                continue
            part, left = left[:room], left[room:]
            self._window -= len(part)
            self._stream_window -= len(part)
            out += http2.frame(http2.DATA, 0 if left else http2.END_STREAM, self._stream, part)
        self._sock.sendall(out)
        while not self._take_frames(answer):
            pass
        if len(answer) < http2.PREFIX or int.from_bytes(answer[1 : http2.PREFIX], "big") != len(answer) - http2.PREFIX:
            raise Closed("the trainer refused a message")
        return bytes(answer[http2.PREFIX :])

    def _take_frames(self, answer: bytearray) -> bool:
        """Takes in what comes next; whether the answer to this call is whole."""
        received = self._sock.recv(_CHUNK_BYTES)
        if not received:
            raise Closed("the connection is gone (the trainer closed it)")
        buffer = self._in
        buffer += received
        at, whole = 0, False
        while len(buffer) - at >= http2.HEADER.size:
            high, low, kind, flags, stream = http2.HEADER.unpack_from(buffer, at)
            end = at + http2.HEADER.size + (high << 16 | low)
            if len(buffer) < end:
                break
            whole |= self._take(kind, flags, stream, buffer[at + http2.HEADER.size : end], answer)
            at = end
        del buffer[:at]
        return whole

    def _take(self, kind: int, flags: int, stream: int, payload: bytearray, answer: bytearray) -> bool:
        """Takes in a frame; whether it ends the answer to this call."""
        if kind == http2.DATA:
            self._consumed += len(payload)
            if self._consumed > http2.CREDIT:
                self._sock.sendall(http2.frame(http2.WINDOW_UPDATE, 0, 0, self._consumed.to_bytes(4, "big")))
                self._consumed = 0
            if stream == self._stream:
                answer += payload[1 : len(payload) - payload[0]] if flags & http2.PADDED else payload
        elif kind == http2.SETTINGS and not flags & http2.ACK:
            for key, value in http2.SETTING.iter_unpack(payload):
                if key == http2.INITIAL_WINDOW_SIZE:
                    self._stream_window += value - self._initial_window
                    self._initial_window = value
                elif key == http2.MAX_FRAME_SIZE:
                    self._frame_bytes = value
            self._sock.sendall(http2.frame(http2.SETTINGS, http2.ACK, 0, b""))
        elif kind == http2.PING and not flags & http2.ACK:
            self._sock.sendall(http2.frame(http2.PING, http2.ACK, 0, payload))
        elif kind == http2.WINDOW_UPDATE:
            more = int.from_bytes(payload, "big") & 0x7FFFFFFF
            if not stream:
                self._window += more
            elif stream == self._stream:
                self._stream_window += more
        elif kind == http2.RST_STREAM and stream == self._stream:
            raise Closed("the trainer refused a message")
        return kind in (http2.DATA, http2.HEADERS) and bool(flags & http2.END_STREAM) and stream == self._stream


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
