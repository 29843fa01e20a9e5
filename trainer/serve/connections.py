"""Bounds on what a connection may do before there is a request that the application could refuse.

Uvicorn waits for as long as it takes for a request's head, and takes heads of any size from any number of connections;
its `limit_concurrency` counts only once a head is there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from trainer.serve.observed import Observer

LARGEST_HEAD = 2**16
"""Bytes of a request's first line and headers; also of chunk headers and trailers that come without a body."""
MOST_HEADERS = 100
"""Each takes 30 times its size in memory if it is short."""
MOST_WAITING = 16
"""How many requests a client may send on one connection before the first is answered."""
_BURST = 3
"""So many times the connections that there may be are open for a moment: who has just connected may be about to ask."""
_MOMENT_SECONDS = 1.0
_LARGEST_PART = 2**18
"""Bytes that are read at once, after which a connection whose requests wait is not read any more."""
_SLICE = 2**14
"""Bytes of a connection that are parsed in one turn of the loop: as chunks of one byte they take some milliseconds."""
_LOG_SECONDS = 10
_HEAD_REASON = f"the request's head is larger than {LARGEST_HEAD:,} bytes"


class Settings(uvicorn.Config):
    """Uvicorn's settings, and those of `Connection`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        request_seconds: float,
        most_connections: int,
        most_bytes: int,
        observer: Observer,
        **kwargs: Any,
    ) -> None:
        super().__init__(app, http=Connection, ws="none", **kwargs)
        self.observer = observer
        self.request_seconds = request_seconds
        self.most_connections = most_connections
        self.most_bytes = most_bytes
        """Of all requests together that have not been answered."""
        self.bytes: dict[Connection, int] = {}
        self.all_bytes = 0
        self.waiting: dict[Connection, float] = {}
        """Connections whose client has to go on, and since when, the one first that has been silent for longest."""

    def configure_logging(self) -> None:
        """Lets each kind of line through once in a while: who sends nonsense must not fill the log."""
        super().configure_logging()
        logging.getLogger("uvicorn.error").addFilter(_Seldom())


class Connection(HttpToolsProtocol):
    """A connection of uvicorn's that is given up if a request does not arrive, or a reply is not read, in time.

    Where there are too many, the one is closed that has kept the server waiting for longest. That way clients which
    open connections and send nothing do not keep others out.
    """

    config: Settings
    _timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None
    _unread = 0
    """Bytes since the request's beginning, or the last part of its body."""
    _rest = b""
    """What has been read and not been parsed yet. Meanwhile no more is read."""
    _part = 0
    """Bytes of the part that is being parsed, unless it also holds what belongs to an earlier request."""
    _head = 0
    """Bytes of the request's headers so far."""
    _running: RequestResponseCycle | None = None
    """The request that is being answered, or was last."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts to wait for the first request."""
        super().connection_made(transport)
        self._await_client()
        if (there := len(self.connections)) <= (most := self.config.most_connections):
            return
        oldest, since = next(iter(self.config.waiting.items()))  # this one, if there is no other
        if there > _BURST * most or self.loop.time() - since > _MOMENT_SECONDS:
            self.logger.warning(
                "%d connections are open, as many as there may be: the one that has been silent for longest is closed",
                most,
            )
            self._note_closed("too many")
            oldest._drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops all timers."""
        self._forget()
        for timer in (self._timer, self._reader_timer, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        if self._running is not None:  # uvicorn tells only the latest of several requests
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Takes a part of a request, and parses a slice of that in each turn of the loop: others are answered too."""
        if self.transport.is_closing():
            return
        if self._timer is None:
            self._await_client()
        config = self.config
        self._count(config.bytes.get(self, 0) + len(data))
        while config.all_bytes > config.most_bytes:
            self.logger.warning("Requests that wait take too much memory: the connection that takes most is closed")
            self._note_closed("too much memory")
            max(config.bytes, key=config.bytes.__getitem__)._drop()
        begun = bool(self._rest)
        self._rest += data
        if not begun:
            self._parse()

    def _parse(self) -> None:
        if self.transport.is_closing():
            return
        part, self._rest = self._rest[:_SLICE], self._rest[_SLICE:]
        self._unread += len(part)
        self._part = len(part)
        super().data_received(part)
        if self._unread > LARGEST_HEAD and not self.transport.is_closing():
            self._refuse(431, _HEAD_REASON)
        if self._rest and not self.transport.is_closing():
            self.transport.pause_reading()
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._parse()
        if not (self._rest or self.flow.read_paused or self.transport.is_closing()):
            self.transport.resume_reading()

    def on_message_begin(self) -> None:
        """Begins with a request."""
        super().on_message_begin()
        self._unread, self._head = self._part, 0
        if self._timer is None:
            self._await_client()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header, or a trailer."""
        self._head += len(name) + len(value)
        if len(self.headers) >= MOST_HEADERS:
            self._refuse(431, f"the request has more than {MOST_HEADERS} headers")
        elif self._head > LARGEST_HEAD:
            self._refuse(431, _HEAD_REASON)
        else:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hands a request to the application, which may wait for its body."""
        if len(self.pipeline) >= MOST_WAITING:
            self.logger.warning("More than %d requests wait on one connection: it is closed", MOST_WAITING)
            self._note_closed("too many requests")
            self.transport.close()
        if len(self.url) > LARGEST_HEAD:
            self._refuse(431, _HEAD_REASON)
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Takes a part of the body."""
        self._unread = self._part = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request: it has arrived."""
        self._part = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.transport.is_closing():
            self.config.waiting.pop(self, None)
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        super().on_response_complete()
        unread = len(self._rest) + (0 if self._timer is None else self._unread)
        self._count(min(self.config.bytes.get(self, 0), unread + (_LARGEST_PART if self.pipeline else 0)))
        self._note_wait()

    def pause_writing(self) -> None:
        """Waits for the client to read its reply."""
        super().pause_writing()
        self._wait_from_now()
        self._reader_timer = self.loop.call_later(self.config.request_seconds, self._give_up_reader)

    def resume_writing(self) -> None:
        """Goes on once the client has read."""
        super().resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        if not self._waits_for_client():
            self.config.waiting.pop(self, None)

    def timeout_keep_alive_handler(self) -> None:
        """Closes a silent connection, and does not wait for a client that never reads its reply."""
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP."""
        super().send_400_response(msg)
        self.config.observer.refused(self.client, 400, len(msg))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _waits_for_client(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or (self.cycle.more_body and not self.pipeline)

    def _replies(self) -> bool:
        return self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete

    def _await_client(self) -> None:
        self._note_wait()
        self._timer = self.loop.call_later(self.config.request_seconds, self._give_up)

    def _note_wait(self) -> None:
        if self._waits_for_client():
            self._wait_from_now()

    def _wait_from_now(self) -> None:
        self.config.waiting.pop(self, None)
        self.config.waiting[self] = self.loop.time()

    def _note_closed(self, reason: str) -> None:
        self.config.observer.metrics.closed[reason] += 1

    def _count(self, size: int) -> None:
        self.config.all_bytes += size - self.config.bytes.pop(self, 0)
        if size:
            self.config.bytes[self] = size

    def _forget(self) -> None:
        self.connections.discard(self)
        self.config.waiting.pop(self, None)
        self._count(0)

    def _drop(self) -> None:
        """Closes the connection, and gives up what it holds at once: hundreds may be read in one turn of the loop."""
        self.transport.abort()
        self.connection_lost(None)
        self.pipeline.clear()
        self._rest = b""
        for held in (self.headers, self.cycle and self.cycle.body):
            if held:
                held.clear()

    def _unsupported_upgrade_warning(self) -> None:
        """Answers as if no other protocol had been asked for; what follows is not parsed, so the connection ends."""
        if self.cycle is not None:  # else its head was refused
            self.cycle.keep_alive = False

    def _give_up(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if not self._waits_for_client():  # an earlier request is under way, and what follows it has not been read
            self._await_client()
            return
        self.logger.warning("A request did not arrive in time: its connection is closed")
        self._note_closed("slow request")
        seconds = self.config.request_seconds
        self._refuse(408, f"the request took more than {seconds:g} s to arrive: send it faster")

    def _give_up_reader(self) -> None:
        self.logger.warning("A client did not read its reply in time: its connection is closed")
        self._note_closed("reply not read")
        self.transport.abort()

    def _refuse(self, status: int, reason: str) -> None:
        if self.transport.is_closing():
            return
        if self._waits_for_client() and not self._replies():
            body = json.dumps({"error": reason}).encode()
            line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
            head = f"{line}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
            self.config.observer.refused(self.client, status, len(body))
        self.transport.close()


class _Seldom(logging.Filter):
    """Lets a kind of line through once in ten seconds, with the number of those that were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        last, more = self._seen.get(record.msg, (-_LOG_SECONDS, 0))
        if now - last < _LOG_SECONDS:
            self._seen[record.msg] = (last, more + 1)
            return False
        self._seen[record.msg] = (now, 0)
        if more:
            record.msg = f"{record.msg} (and {more} times before)"
        return True
