"""gRPC's unary calls over HTTP/2 (RFC 9113), without sockets: bytes in, requests out, bytes back.

A general gRPC server costs a player's step about 300 us of threads and queues; this costs about 20, in the thread that
receives players' messages. It serves one method, so the headers of requests are not looked at.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 7, 8, 12
"""Statuses of gRPC."""


class Request(NamedTuple):
    """A whole message of the client, which now waits for `respond` or `refuse`."""

    stream: int
    content: bytes


class Cancelled(NamedTuple):
    """The client does not wait for the answer to this request any more."""

    stream: int


class TooLong(NamedTuple):
    """A request of more bytes than one may have was refused."""

    limit: int


class ProtocolError(Exception):
    """The client does not speak HTTP/2, or sends more than it may."""


class Peer:
    """What both sides of a connection do: frames that come are read, messages are sent as far as there is a window."""

    def __init__(self, greeting: bytes) -> None:
        self.out = bytearray(greeting)
        """What is to be sent; take from it what was."""
        self._in = bytearray()
        self._consumed = 0
        self._window = self._initial_window = 65535
        """Bytes that may be sent: in all, and on a new stream."""
        self._stream_windows: dict[int, int] = {}
        """Of streams whose message is not sent whole yet."""
        self._frame_bytes = _SMALLEST_FRAME
        self._blocked: deque[tuple[int, bytes, bytes]] = deque()
        """Streams, what is left of a message for which there is no window yet, and the frame that ends it."""

    def _frames(self) -> Iterator[tuple[int, int, int, bytearray]]:
        """Yields kind, flags, stream and payload of the frames that have come whole."""
        buffer, at = self._in, 0
        while len(buffer) - at >= HEADER.size:
            high, low, kind, flags, stream = HEADER.unpack_from(buffer, at)
            size = high << 16 | low
            if size > _LARGEST_FRAME:
                raise ProtocolError(f"a frame of {size} bytes")
            end = at + HEADER.size + size
            if len(buffer) < end:
                break
            yield kind, flags, stream, buffer[at + HEADER.size : end]
            at = end
        del buffer[:at]

    def _take_data(self, flags: int, payload: bytearray) -> bytearray:
        """Returns the content of a DATA frame, for which the other side is given credit."""
        self._consumed += len(payload)
        if self._consumed > _CREDIT:
            self.out += frame(WINDOW_UPDATE, 0, 0, self._consumed.to_bytes(4, "big"))
            self._consumed = 0
        return payload[1 : len(payload) - payload[0]] if flags & PADDED and payload else payload

    def _take_control(self, kind: int, flags: int, stream: int, payload: bytearray) -> None:
        """Handles frames that are about the connection; all others are ignored."""
        if kind == SETTINGS and not flags & ACK:
            self._take_settings(payload)
        elif kind == PING and not flags & ACK:
            self.out += frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE and len(payload) == 4:
            more = int.from_bytes(payload, "big") & 0x7FFFFFFF
            if not stream:
                self._window += more
            elif stream in self._stream_windows:
                self._stream_windows[stream] += more
            self._send_blocked()

    def _take_settings(self, payload: bytearray) -> None:
        if len(payload) % SETTING.size:
            raise ProtocolError("settings of the wrong size")
        for key, value in SETTING.iter_unpack(payload):
            if key == _INITIAL_WINDOW_SIZE:
                if value > _LARGEST_WINDOW:
                    raise ProtocolError(f"a window of {value} bytes")
                for stream in self._stream_windows:
                    self._stream_windows[stream] += value - self._initial_window
                self._initial_window = value
            elif key == _MAX_FRAME_SIZE:
                if not _SMALLEST_FRAME <= value < 2**24:
                    raise ProtocolError(f"frames of {value} bytes")
                self._frame_bytes = value
        self.out += frame(SETTINGS, ACK, 0, b"")
        self._send_blocked()

    def _send(self, stream: int, content: bytes, end: bytes) -> None:
        """Sends a message on a stream, and a frame `end` behind it, after those that wait for a window."""
        self._blocked.append((stream, b"\0" + len(content).to_bytes(4, "big") + content, end))
        self._send_blocked()

    def _send_blocked(self) -> None:
        """Sends of the messages what the other side has room for."""
        while self._blocked:
            stream, content, end = self._blocked[0]
            room = min(self._window, self._stream_windows.get(stream, 0))
            if room <= 0:
                return
            self._blocked.popleft()
            part, rest = content[:room], content[room:]
            for at in range(0, len(part), self._frame_bytes):
                self.out += frame(DATA, 0, stream, part[at : at + self._frame_bytes])
            self._window -= len(part)
            if rest:
                self._stream_windows[stream] -= len(part)
                self._blocked.appendleft((stream, rest, end))
            else:
                self._stream_windows.pop(stream, None)
                self.out += end


class Connection(Peer):
    """The server's side of one client's connection.

    Args:
        limit: bytes that a message, or all that have begun, may have; it can be raised later.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(_GREETING)
        self.limit = limit
        self.greeted = False
        """Whether the client has said that it speaks HTTP/2."""
        self._small_frames = 0
        """Since the last answer."""
        self._received: dict[int, bytearray] = {}
        """By stream: what has come of a request that is not whole yet."""

    def receive(self, data: bytes) -> list[Request | Cancelled | TooLong]:
        """Takes what the client has sent; ProtocolError if the connection is to be closed."""
        self._in += data
        if not self.greeted:
            if not PREFACE.startswith(self._in[: len(PREFACE)]):
                raise ProtocolError("no HTTP/2 client")
            if len(self._in) < len(PREFACE):
                return []
            del self._in[: len(PREFACE)]
            self.greeted = True
        events: list[Request | Cancelled | TooLong] = []
        for kind, flags, stream, payload in self._frames():
            if kind != DATA or len(payload) < _SMALL_BYTES:
                self._small_frames += 1
                if self._small_frames > _SMALL_FRAMES:
                    raise ProtocolError(f"{_SMALL_FRAMES} frames without a message to answer")
            self._take(kind, flags, stream, payload, events)
        return events

    def respond(self, stream: int, content: bytes) -> None:
        """Answers a request, unless it was cancelled."""
        if stream not in self._stream_windows:
            return
        self._small_frames = 0
        self.out += frame(HEADERS, END_HEADERS, stream, _RESPONSE)
        self._send(stream, content, frame(HEADERS, END_HEADERS | END_STREAM, stream, _DONE))

    def refuse(self, stream: int, status: int, why: str) -> None:
        """Answers a request with an error of gRPC."""
        self._stream_windows.pop(stream, None)
        error = _literal(b"grpc-status", str(status).encode())
        error += _literal(b"grpc-message", why.encode("ascii", "replace"))
        self.out += frame(HEADERS, END_HEADERS | END_STREAM, stream, _RESPONSE + error)

    def _take(
        self, kind: int, flags: int, stream: int, payload: bytearray, events: list[Request | Cancelled | TooLong]
    ) -> None:
        if kind == DATA:
            self._add(stream, self._take_data(flags, payload), events)
        elif kind == HEADERS:
            if len(self._stream_windows) >= _STREAMS:
                raise ProtocolError(f"more than {_STREAMS} requests at once")
            self._received[stream] = bytearray()
            self._stream_windows[stream] = self._initial_window
        elif kind == RST_STREAM:
            self._received.pop(stream, None)
            if self._stream_windows.pop(stream, None) is not None:
                self._blocked = deque(answer for answer in self._blocked if answer[0] != stream)
                events.append(Cancelled(stream))
        else:
            self._take_control(kind, flags, stream, payload)
        if kind in (DATA, HEADERS) and flags & END_STREAM and stream in self._received:
            self._take_whole(stream, events)

    def _add(self, stream: int, content: bytearray, events: list[Request | Cancelled | TooLong]) -> None:
        """Adds to a request, unless that was cancelled or refused."""
        if stream in self._received:
            self._received[stream] += content
            if sum(map(len, self._received.values())) > self.limit + PREFIX:  # of all streams together
                del self._received[stream]
                self.refuse(stream, RESOURCE_EXHAUSTED, f"a message may have {self.limit} bytes")
                events.append(TooLong(self.limit))

    def _take_whole(self, stream: int, events: list[Request | Cancelled | TooLong]) -> None:
        received = self._received.pop(stream)
        prefix = b"\0" + (len(received) - PREFIX).to_bytes(4, "big", signed=True)
        if received[:PREFIX] != prefix:
            self.refuse(stream, UNIMPLEMENTED, "one message, not compressed, is expected")
        else:
            events.append(Request(stream, bytes(received[PREFIX:])))


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER = struct.Struct("!BHBBI")
SETTING = struct.Struct("!HI")
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5
_SMALLEST_FRAME = 2**14  # of the largest that a client may ask for
_LARGEST_FRAME = 2**20
_STREAMS = 16
_SMALL_BYTES, _SMALL_FRAMES = 2**10, 10_000
"""A client that only ever sends pings, settings, resets or crumbs costs 1 us a frame: it is left after so many."""
_LARGEST_WINDOW = 2**31 - 1
_CREDIT = 2**24
"""The client is given back what it has sent after so many bytes."""
PREFIX = 5  # of a message: whether it is compressed, and its length


def frame(kind: int, flags: int, stream: int, payload: bytes | bytearray) -> bytes:
    """Returns a frame of HTTP/2."""
    size = len(payload)
    return HEADER.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def string(text: bytes) -> bytes:
    """Returns a string of HPACK (RFC 7541), not compressed; it must be shorter than 127 bytes."""
    return bytes([len(text)]) + text


def _literal(name: bytes, value: bytes) -> bytes:
    """Returns a header field that is not indexed (RFC 7541)."""
    return b"\0" + string(name) + string(value)


_STATUS_200 = b"\x88"  # indexed in HPACK's static table
_RESPONSE = _STATUS_200 + _literal(b"content-type", b"application/grpc")
_DONE = _literal(b"grpc-status", b"0")
OPEN_WINDOWS = SETTING.pack(_INITIAL_WINDOW_SIZE, _LARGEST_WINDOW)
"""The setting that lets the other side send as much as it likes on a stream; `OPEN_CONNECTION` does so for all."""
OPEN_CONNECTION = frame(WINDOW_UPDATE, 0, 0, (_LARGEST_WINDOW - 65535).to_bytes(4, "big"))
_GREETING = frame(SETTINGS, 0, 0, OPEN_WINDOWS + SETTING.pack(_MAX_FRAME_SIZE, _LARGEST_FRAME)) + OPEN_CONNECTION
