"""Bounds on what all clients together take: the memory of bodies and replies, and turns of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from envs.spec import UserError
from trainer.serve.requests import TooLarge

_PIECE = 2**16
"""Bytes of one body that count as nothing, and of a reply that are sent before the client has read those before."""
_MOST_LONG = 64
"""How many long requests may wait for each other: fewer than connections, so that others can still connect."""
_A_TURN = 32
"""How many requests are begun in one turn of the event loop."""
CLIENT_GONE = 499
"""nginx's status, in logs alone, of a request whose client has gone before the reply."""


class Busy(UserError):
    """A request that may be answered later, when others are done."""


class Budget:
    """How many bytes there are of bodies and replies; `largest` of one body, and about as many of all."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.held = 0
        self._long = self._begun = 0

    def gauges(self) -> dict[str, tuple[str, Callable[[], float]]]:
        """Returns what waits now, for `Metrics`."""
        return {
            "outstep_long_requests": ("Requests of many rows that wait or are answered.", lambda: self._long),
            "outstep_held_bytes": ("Bodies and replies that are held.", lambda: self.held),
        }

    def check(self) -> None:
        """Raises `Busy` if there is no room for more."""
        if self.held > self.largest:
            raise Busy("there are too many large requests at once: send it again later")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place among the long requests; raises `Busy` if there is none."""
        if self._long >= _MOST_LONG:
            raise Busy("there are too many long requests at once: send it again later")
        self._long += 1
        try:
            yield
        finally:
            self._long -= 1

    async def turn(self) -> None:
        """Waits until a request may begin, so that hundreds at once let `/ping` come in between."""
        while self._begun >= _A_TURN:
            await asyncio.sleep(0)
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._begun += 1

    def _next_turn(self) -> None:
        self._begun = 0


class WithinBudget:
    """Serves requests within a budget.

    `Busy` or `TooLarge` is raised where a body is read. A long reply is sent in pieces, as its client reads it.
    """

    def __init__(self, app: ASGIApp, budget: Budget) -> None:
        self._app = app
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        budget, size = self._budget, 0
        first: list[Message] = []
        if scope["path"] != "/ping":
            await budget.turn()
            first.append(await receive())
            if first[0]["type"] == "http.disconnect":  # hundreds that hang up at once must not keep others waiting
                await Response(status_code=CLIENT_GONE)(scope, receive, send)
                return

        def take(message: Message) -> bytes:
            nonlocal size
            body: bytes = message.get("body", b"")
            size += len(body)
            budget.held += len(body)
            return body

        async def bounded() -> Message:
            message = first.pop() if first else await receive()
            take(message)
            if size > budget.largest:
                reason = f"the body is larger than {budget.largest:,} bytes"
                raise TooLarge(f"{reason}: send fewer rows, or raise max_body_mib")
            if size > _PIECE:
                budget.check()
            return message

        async def in_pieces(message: Message) -> None:
            body = take(message)
            if len(body) <= _PIECE:
                await send(message)
                return
            for start in range(0, len(body), _PIECE):
                end = start + _PIECE
                more = end < len(body) or message.get("more_body", False)
                await send({**message, "body": body[start:end], "more_body": more})

        try:
            await self._app(scope, bounded, in_pieces)
        finally:
            budget.held -= size
