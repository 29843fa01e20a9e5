"""What clients may do to an endpoint: bodies, streams of bytes that are hardly HTTP, and crowds of connections.

Each attack is called again and again, in a process of its own, with the server's port; it returns what was replied.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

Replies = list[str]
"""Statuses, or `hung up` where there was none."""
_LARGEST = 8 * 2**20
"""Bytes: the server's `max_body_mib`."""
_AT_ONCE = 4
"""Connections of one attack by bodies or bytes."""
_CROWD = 600
"""More connections than the server holds."""
_HOLD_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0
_HOST = b"Host: localhost\r\n"
_POST = b"POST /invocations HTTP/1.1\r\n" + _HOST
_PING = b"GET /ping HTTP/1.1\r\n" + _HOST
_CLOSE = b"Connection: close\r\n"


class Attack(NamedTuple):
    """One thing that clients do."""

    run: Callable[[int], Replies]
    model: str = "vector"
    """Of `models`: what is served."""


def attacks() -> dict[str, Attack]:
    """All of them, by name."""
    return {
        "nothing": Attack(_idle),
        **{name: Attack(_posts(body)) for name, body in _bodies().items()},
        "gzip bomb": Attack(_posts(gzip.compress(b"0" * 2**28), b"Content-Encoding: gzip\r\n")),
        "rows to an LSTM: 190,000": Attack(_posts(_rows(190_000, [0.123] * 4)), "lstm"),
        "rows to an LSTM: as many as may be": Attack(_posts(_lstm_rows(1024)), "lstm"),
        "images: as many as fit": Attack(_posts(_images(190, 7)), "image"),
        "images: too many": Attack(_posts(_images(198, 255)[:_LARGEST]), "image"),
        "images: text among them": Attack(_posts(_images(150, 7).replace(b"7]", b'"7"]', 1)), "image"),
        **{name: Attack(_streams(parts)) for name, parts in _streamed().items()},
        "odd requests": Attack(_odd_requests),
        "lengths that lie": Attack(_lying_lengths),
        "connections: opened and closed": Attack(_hang_ups),
        "crowd: 1,100 silent": Attack(_crowd(1100, lambda: b"")),
        "crowd: 1,100 half heads": Attack(_crowd(1100, lambda: _PING + b"X: a")),
        "crowd: large heads": Attack(_crowd(_CROWD, lambda: _POST + b"X: " + b"a" * 65_000)),
        "crowd: large heads and bodies": Attack(_crowd(_CROWD, _head_and_half_body)),
        "crowd: many short headers": Attack(_crowd(_CROWD, lambda: _POST + b"a:\r\n" * 98)),
        "crowd: slow heads": Attack(_crowd(_CROWD, lambda: _PING + b"X: ", b"a")),
        "crowd: slow bodies": Attack(_crowd(_CROWD, lambda: _POST + b"Content-Length: 9000\r\n\r\n{", b" ")),
        "crowd: unread replies": Attack(_crowd(_CROWD, lambda: _post(_lstm_rows(60)), reads=False), "lstm"),
        "crowd: unread long replies": Attack(_crowd(_CROWD, lambda: _post(_rows(1024, [1] * 4)), reads=False), "lstm"),
        "crowd: unread small replies": Attack(_crowd(_CROWD, lambda: (_PING + b"\r\n") * 16, reads=False)),
        "crowd: pipelined heads": Attack(_crowd(_CROWD, _pipelined_heads), "lstm"),
        "crowd: short requests": Attack(_crowd(_CROWD, lambda: _post(_rows(1, [1] * 4))), "lstm"),
        "crowd: short requests of many rows": Attack(_crowd(_CROWD, lambda: _post(_rows(60, [1] * 4))), "lstm"),
        "crowd: long requests": Attack(_crowd(_CROWD, lambda: _post(_lstm_rows(20))), "lstm"),
        "crowd: largest requests": Attack(_crowd(40, lambda: _post(_lstm_rows(1000))), "lstm"),
        "crowd: descriptions": Attack(_crowd(_CROWD, lambda: _get(b"/docs"))),
        "crowd: first pages": Attack(_crowd(_CROWD, lambda: _get(b"/", b"Accept: text/html\r\n")), "image"),
        "crowd: metrics": Attack(_crowd(_CROWD, lambda: _get(b"/metrics"))),
        "crowd: long paths": Attack(_crowd(_CROWD, lambda: _get(b'/%1b"' + b"a?" * 30_000))),
    }


def _rows(count: int, row: Sequence[float]) -> bytes:
    one = json.dumps(row).encode()
    return b'{"observations": [' + b", ".join([one] * count) + b"]}"


def _lstm_rows(count: int) -> bytes:
    memory = json.dumps([0.123456789] * 256).encode()
    return _rows(count, [0.5] * 4)[:-1] + b', "memory": [' + b", ".join([memory] * count) + b"]}"


def _images(count: int, pixel: int) -> bytes:
    value = str(pixel).encode()
    line = b"[" + b",".join([b"[" + b",".join([value] * 3) + b"]"] * 84) + b"]"
    return b'{"observations":[' + b",".join([b"[" + b",".join([line] * 84) + b"]"] * count) + b"]}"


def _bodies() -> dict[str, bytes]:
    """Bodies by name, none of which can be answered."""
    digits = b"1" * (_LARGEST - 100)
    half = _LARGEST // 2 - 100
    return {
        "text: wide": b'{"observations": ["' + b"a" * 750_000 + b'", "b"]}',
        "text: beyond ASCII": b'{"observations": ["\\ud83d\\ude00' + b"a" * (_LARGEST - 100) + b'"]}',
        "text: a field's name": b'{"' + b"a" * (_LARGEST - 100) + b'": 1}',
        "text: lone surrogates": b'{"' + b"\\ud800" * 10_000 + b'": 1}',
        "nested: lists": b"[" * _LARGEST,
        "nested: objects": b'{"a":' * (_LARGEST // 5),
        "nested: below the bound": b'{"observations": ' + b"[" * 900 + b"]" * 900 + b"}",
        "nested: many": b'{"observations": [' + b",".join([b"[" * 50 + b"]" * 50] * 300) + b"]}",
        "lists: empty": b'{"observations": [' + b"[]," * 2_700_000 + b"[]]}",
        "numbers: 1e400": _rows(1000, [1, 2, 3, 4]).replace(b"3", b"1e400"),
        "numbers: of 400 digits": _rows(1000, [1, 2, 3, 4]).replace(b"3", b"3" * 400),
        "numbers: of 4,300 digits": _rows(450, [1, 2, 3, 4]).replace(b"3", b"3" * 4300),
        "numbers: an endless integer": b'{"observations": [[' + digits + b",1,1,1]]}",
        "numbers: an endless fraction": b'{"observations": [[0.' + digits + b",1,1,1]]}",
        "numbers: an endless exponent": b'{"observations": [[1e' + digits + b",1,1,1]]}",
        "numbers: halfway": b'{"observations": [[9007199254740993.' + digits.replace(b"1", b"0") + b"1,1,1,1]]}",
        "numbers: NaN": _rows(1000, [1, 2, 3, 4]).replace(b"3", b"NaN"),
        "numbers: Infinity": _rows(1000, [1, 2, 3, 4]).replace(b"3", b"-Infinity"),
        "keys: twice": b"{" + b'"observations": [[1,2,3,4]],' * 2000 + b'"observations": [[1,2,3,4]]}',
        "keys: many": b"{" + b",".join(b'"%d":1' % i for i in range(700_000)) + b"}",
        "keys: many observations": b'{"observations": {' + b",".join(b'"%d":1' % i for i in range(15_000)) + b"}}",
        "encoding: UTF-16": ("\ufeff" + '{"observations": "' + "\u20ac" * half + '"}')[:half].encode("utf-16-le"),
        "encoding: UTF-32": '{"observations": [[1,2,3,4]]}'.encode("utf-32"),
        "encoding: none": b"\xff\xfe\x00\x80" * (_LARGEST // 4),
        "length: too large": b" " * (_LARGEST + 1),
        "length: far too large": b" " * (20 * _LARGEST),
    }


def _streamed() -> dict[str, Callable[[], Iterator[bytes]]]:
    """Streams of bytes by name, that end only when the server hangs up."""
    chunked = _POST + b"Transfer-Encoding: chunked\r\n\r\n"

    def endless(head: bytes, more: bytes) -> Callable[[], Iterator[bytes]]:
        return lambda: itertools.chain((head,), itertools.repeat(more))

    return {
        "stream: 600 MiB of headers": endless(_PING, (b"X: " + b"a" * 1000 + b"\r\n") * 1000),
        "stream: a header without end": endless(_PING + b"X: ", b"a" * 2**20),
        "stream: an address without end": endless(b"GET /", b"a" * 2**20),
        "stream: empty lines": endless(b"", b"\r\n" * 2**19),
        "stream: chunks without end": endless(chunked, b"4\r\n    \r\n" * 2**14),
        "stream: chunks of one byte": endless(chunked, b"1\r\n \r\n" * 2**14),
        "stream: a chunk's extension": endless(chunked + b"1;a=", b"a" * 2**20),
        "stream: a chunk's length": endless(chunked, b"0" * 2**20),
        "stream: trailers": endless(chunked + b"1\r\n{\r\n0\r\n", b"X: a\r\n" * 2**17),
        "stream: pings": endless(b"", (_PING + b"\r\n") * 2000),
        "stream: requests": endless(b"", _post(_rows(1, [1] * 4)) * 200),
        "stream: a body to /ping": endless(_PING + b"Content-Length: 1000000000000\r\n\r\n", b"a" * 2**20),
        "stream: a body to nowhere": endless(
            b"POST /no HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n",
            b"1000\r\n" + b"a" * 4096 + b"\r\n",
        ),
        "stream: behind an upgrade": endless(_PING + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b"a" * 2**20),
    }


_ODD = [
    b"GET /ping HTTP/1.1\r\n" + _CLOSE + b"\r\n",
    b"GET /ping HTTP/1.1\r\nHost: a\r\n" + _HOST + _CLOSE + b"\r\n",
    *(
        b"GET /ping HTTP/1.1\r\nHost: " + host + b"\r\n" + _CLOSE + b"\r\n"
        for host in (
            b"",
            b"[",
            b"[::1",
            b"LOCALHOST.:80",
            b"localhost:99999999",
            b"\xff",
            b"a" * 60_000,
            b"a@localhost",
        )
    ),
    _PING
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AA==\r\n\r\n",
    _PING + b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    *(
        method + b" /invocations HTTP/1.1\r\n" + _HOST + _CLOSE + b"Content-Length: 0\r\n\r\n"
        for method in (
            b"GET",
            b"HEAD",
            b"PUT",
            b"DELETE",
            b"OPTIONS",
            b"TRACE",
            b"PATCH",
            b"CONNECT",
            b"BREW",
            b"M-SEARCH",
        )
    ),
    *(
        b"GET " + path + b" HTTP/1.1\r\n" + _HOST + _CLOSE + b"\r\n"
        for path in (
            *(b"/../../../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"/docs/../ping", b"//ping", b"/ping/"),
            *(b"/%00", b"/%", b"/%ff%fe", b"/\xff", b"*", b"http://evil.example/ping", b"?", b"/ping?" + b"a" * 60_000),
            *(
                b"/docs?x=<script>",
                b"/openapi.json",
                b"/invocations",
                b"/redoc",
                b"/docs/oauth2-redirect",
                b"/",
                b"/metrics",
            ),
        )
    ),
    b"GET /ping\r\n\r\n",
    b"GET /ping HTTP/1.0\r\n" + _HOST + b"\r\n",
    b"GET /ping HTTP/9.9\r\n" + _HOST + b"\r\n",
    _PING + b"X: a\r\n b\r\n" + _CLOSE + b"\r\n",
    _PING + b"X\0: a\r\n" + _CLOSE + b"\r\n",
    _PING + b": a\r\n" + _CLOSE + b"\r\n",
    (_PING + _CLOSE + b"\r\n").replace(b"\r\n", b"\n"),
]


def _odd_requests(port: int) -> Replies:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda words: _talk(port, [words], end=True), _ODD))


def _lying_lengths(port: int) -> Replies:
    body = _rows(1, [1] * 4)
    size = str(len(body)).encode()
    chunk = b"Transfer-Encoding: chunked\r\n"
    heads = [
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"",
        b"Content-Length: -1\r\n",
        b"Content-Length: +" + size + b"\r\n",
        b"Content-Length: 0x1F\r\n",
        b"Content-Length: 1" + b"0" * 30 + b"\r\n",
        b"Content-Length: " + size + b"\r\nContent-Length: 5\r\n",
        b"Content-Length: " + size + b"\r\n" + chunk,
        chunk + chunk,
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Content-Length: " + size + b"\r\nExpect: 100-continue\r\n",
        b"Content-Length: " + size + b"\r\nExpect: 200-magic\r\n",
    ]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda head: _talk(port, [_POST + _CLOSE + head + b"\r\n" + body], end=True), heads))


def _idle(port: int) -> Replies:
    time.sleep(0.1)
    return []


def _hang_ups(port: int) -> Replies:
    for words in (b"", b"GET", _post(_rows(1000, [1] * 4)), _POST + b"Content-Length: 100\r\n\r\n{"):
        for _ in range(100):
            with contextlib.suppress(OSError), _connect(port) as connection:
                connection.sendall(words)
    return []


def _get(path: bytes, headers: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + _HOST + headers + b"\r\n"


def _post(body: bytes, headers: bytes = b"") -> bytes:
    return _POST + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _head_and_half_body() -> bytes:
    return _POST + b"X: " + b"a" * 65_000 + b"\r\nContent-Length: 65000\r\n\r\n" + b" " * 64_000


def _pipelined_heads() -> bytes:
    """A long request, and others that wait for it with all that the first read takes in."""
    return _post(_lstm_rows(20)) + (_PING + b"X: " + b"a" * 60_000 + b"\r\n\r\n") * 4


def _posts(body: bytes, headers: bytes = b"") -> Callable[[int], Replies]:
    words = _post(body, headers + _CLOSE)

    def run(port: int) -> Replies:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda _: _talk(port, [words]), range(_AT_ONCE)))

    return run


def _streams(parts: Callable[[], Iterator[bytes]]) -> Callable[[int], Replies]:
    def run(port: int) -> Replies:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda _: _talk(port, parts()), range(_AT_ONCE)))

    return run


def _crowd(count: int, words: Callable[[], bytes], then: bytes = b"", reads: bool = True) -> Callable[[int], Replies]:
    """So many connections that all say something, and then `then` ten times a second for a while; few are patient."""
    made: list[bytes] = []

    def run(port: int) -> Replies:
        made[:] = made or [words()]
        crowd: list[socket.socket] = []
        until = time.monotonic() + _HOLD_SECONDS
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                with contextlib.suppress(OSError):
                    connection = stack.enter_context(_connect(port, small=not reads))
                    connection.setblocking(False)
                    crowd.append(connection)
            rest = dict.fromkeys(crowd, made[0])
            while time.monotonic() < until:
                for connection in crowd:
                    with contextlib.suppress(OSError):
                        if left := rest[connection]:
                            rest[connection] = left[connection.send(left) :]
                        elif then:
                            connection.send(then)
                time.sleep(0.1)
            return [_status(connection) for connection in crowd] if reads else []

    return run


def _status(connection: socket.socket) -> str:
    try:
        return connection.recv(2**16)[9:12].decode() or "hung up"
    except BlockingIOError:
        return "waits"
    except OSError:
        return "hung up"


def _talk(port: int, parts: Sequence[bytes] | Iterator[bytes], end: bool = False) -> str:
    """Says all parts, unless the server hangs up before; with `end` nothing more can come. Returns the status."""
    reply, until = b"", time.monotonic() + _PATIENCE_SECONDS
    try:
        with _connect(port) as connection:
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    _send(connection, part, until)
                if end:
                    connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(2**16):
                reply = reply or more
    except TimeoutError:
        return "waits"
    except OSError:
        pass
    return reply[9:12].decode("ascii", "replace") or "hung up"


def _send(connection: socket.socket, part: bytes, until: float) -> None:
    """Sends all of it; TimeoutError if that takes too long."""
    view = memoryview(part)
    while view:
        if time.monotonic() > until:
            raise TimeoutError
        view = view[connection.send(view) :]


def _connect(port: int, small: bool = False) -> socket.socket:
    connection = socket.socket()
    if small:  # what the server sends has to wait there
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    connection.settimeout(_PATIENCE_SECONDS)
    connection.connect(("127.0.0.1", port))
    return connection
