"""Notes what becomes of each request: in the metrics, and in the access log if there is one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainer.serve.access_log import AccessLog, first_line
from trainer.serve.metrics import Metrics

_SERVER_ERROR = 500


@dataclass(frozen=True)
class Observer:
    """Who is told of requests."""

    metrics: Metrics = field(default_factory=Metrics)
    log: AccessLog | None = None

    def refused(self, client: tuple[str, int] | None, status: int, reply_bytes: int) -> None:
        """Notes a request that was refused before it was read."""
        self.metrics.count("", status, 0.0)
        if self.log is not None:
            self.log.add(client[0] if client else "-", "-", status, reply_bytes, 0.0)


class Observed:
    """Serves requests, and tells an observer of each."""

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        self._app, self._observer = app, observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        begun, status, size = time.perf_counter(), _SERVER_ERROR, 0  # unless there is a reply

        async def noting(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - begun
            self._observer.metrics.count(scope["path"], status, seconds)
            if (log := self._observer.log) is not None:
                client = scope.get("client")
                log.add(client[0] if client else "-", first_line(scope), status, size, seconds)
