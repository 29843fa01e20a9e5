"""The connection of a player to its trainer: gRPC's unary calls over HTTP/2 (RFC 9113), one at a time, blocking.

gRPC's own Python client spends 300 us of processor time a call, which would count as the game's; this one about 40.
It is tried against gRPC's own server.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator

from envs.spec import UserError
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
        call = _Calls(sock, f"localhost:{port}")

        def exchange(message: bytes) -> bytes:
            try:
                return call(message)
            except OSError as error:
                raise Closed(f"the connection is gone ({error.strerror or error})") from None

        yield exchange


class _Calls:
    """One call after another over `sock`."""

    def __init__(self, sock: socket.socket, authority: str) -> None:
        self._sock = sock
        self._headers = (
            b"\x83\x86"  # POST, http: indexed in HPACK's static table, as are the names of the next three
            b"\x04"
            + _string(METHOD.encode())
            + b"\x01"
            + _string(authority.encode())
            + b"\x0f\x10"
            + _string(b"application/grpc")
            + b"\x00"
            + _string(b"te")
            + _string(b"trailers")
        )
        self._stream = -1
        self._in = bytearray()
        self._window = self._initial_window = self._stream_window = 65535
        """Bytes that may be sent: in all, on a new stream, and on this one."""
        self._frame_bytes = 16384
        self._consumed = 0
        settings = _SETTING.pack(_ENABLE_PUSH, 0) + _SETTING.pack(_INITIAL_WINDOW_SIZE, _LARGEST_WINDOW)
        more = (_LARGEST_WINDOW - 65535).to_bytes(4, "big")
        sock.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, more))

    def __call__(self, message: bytes) -> bytes:
        """Sends a message and waits for the answer; OSError or Closed if none comes."""
        self._stream += 2
        self._stream_window = self._initial_window
        left = b"\0" + len(message).to_bytes(4, "big") + message
        out = _frame(_HEADERS, _END_HEADERS, self._stream, self._headers)
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
            out += _frame(_DATA, 0 if left else _END_STREAM, self._stream, part)
        self._sock.sendall(out)
        while not self._take_frames(answer):
            pass
        if len(answer) < _PREFIX or int.from_bytes(answer[1:_PREFIX], "big") != len(answer) - _PREFIX:
            raise Closed("the trainer refused a message")
        return bytes(answer[_PREFIX:])

    def _take_frames(self, answer: bytearray) -> bool:
        """Takes in what comes next; whether the answer to this call is whole."""
        received = self._sock.recv(_CHUNK_BYTES)
        if not received:
            raise Closed("the connection is gone (the trainer closed it)")
        buffer = self._in
        buffer += received
        at, whole = 0, False
        while len(buffer) - at >= _HEADER.size:
            high, low, kind, flags, stream = _HEADER.unpack_from(buffer, at)
            end = at + _HEADER.size + (high << 16 | low)
            if len(buffer) < end:
                break
            whole |= self._take(kind, flags, stream, buffer[at + _HEADER.size : end], answer)
            at = end
        del buffer[:at]
        return whole

    def _take(self, kind: int, flags: int, stream: int, payload: bytearray, answer: bytearray) -> bool:
        """Takes in a frame; whether it ends the answer to this call."""
        if kind == _DATA:
            self._consumed += len(payload)
            if self._consumed > _CREDIT:
                self._sock.sendall(_frame(_WINDOW_UPDATE, 0, 0, self._consumed.to_bytes(4, "big")))
                self._consumed = 0
            if stream == self._stream:
                answer += payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload
        elif kind == _SETTINGS and not flags & _ACK:
            for key, value in _SETTING.iter_unpack(payload):
                if key == _INITIAL_WINDOW_SIZE:
                    self._stream_window += value - self._initial_window
                    self._initial_window = value
                elif key == _MAX_FRAME_SIZE:
                    self._frame_bytes = value
            self._sock.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._sock.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE:
            more = int.from_bytes(payload, "big") & 0x7FFFFFFF
            if not stream:
                self._window += more
            elif stream == self._stream:
                self._stream_window += more
        elif kind == _RST_STREAM and stream == self._stream:
            raise Closed("the trainer refused a message")
        return kind in (_DATA, _HEADERS) and bool(flags & _END_STREAM) and stream == self._stream


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER = struct.Struct("!BHBBI")
_SETTING = struct.Struct("!HI")
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 1, 1, 4, 8
_ENABLE_PUSH, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 2, 4, 5
_LARGEST_WINDOW = 2**31 - 1
_CREDIT = 2**24
_CHUNK_BYTES = 2**16
_PREFIX = 5  # of a message: whether it is compressed, and its length
_RETRY_SECONDS = 0.1


def _frame(kind: int, flags: int, stream: int, payload: bytes | bytearray) -> bytes:
    size = len(payload)
    return _HEADER.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def _string(text: bytes) -> bytes:
    """Returns a string of HPACK (RFC 7541) as it is; shorter than 127 bytes."""
    return bytes([len(text)]) + text


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
