"""A bound on the memory that bodies and replies under way take, all clients together."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from envs.spec import UserError
from trainer.serve.requests import TooLarge

_PIECE = 2**16
"""Bytes of one body that count as nothing, and of a reply that are sent before the client has read those before."""


class Busy(UserError):
    """A request that may be answered later, when others are done."""


class MemoryBudget:
    """Bounds bodies: `Busy` or `TooLarge` is raised where one is read. Sends a reply in pieces, as the client reads it.

    Args:
        app: what answers.
        largest: bytes of the largest body; twice as many may be under way at once.
    """

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self._app = app
        self._largest = largest
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        size = 0

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            length = len(message.get("body", b""))
            size += length
            self._held += length
            if size > self._largest:
                raise TooLarge(
                    f"the body is larger than {self._largest:,} bytes: send fewer rows, or raise max_body_mib"
                )
            if size > _PIECE and self._held > 2 * self._largest:
                raise Busy("there are too many large requests at once: send it again later")
            return message

        async def in_pieces(message: Message) -> None:
            nonlocal size
            body = message.get("body", b"")
            if len(body) <= _PIECE:
                await send(message)
                return
            size += len(body)
            self._held += len(body)
            for start in range(0, len(body), _PIECE):
                end = start + _PIECE
                more = end < len(body) or message.get("more_body", False)
                await send({**message, "body": body[start:end], "more_body": more})

        try:
            await self._app(scope, bounded, in_pieces)
        finally:
            self._held -= size
