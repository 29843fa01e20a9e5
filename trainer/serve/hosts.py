"""Which names a server may be addressed by.

A web page can make a browser send requests to a server of the user's own machine or network, if the page's host name is
made to point there (DNS rebinding). Such a request carries the page's name as its `Host`, so only expected names are
served. Starlette's TrustedHostMiddleware is not used, as it has no words for "any numeric address", which is safe.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from fastapi import Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from trainer.serve.arrays import cut

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class AllowedHosts:
    """Answers 400 unless a request's one `Host` is allowed.

    Args:
        app: what answers the others.
        host: the address that the server listens on. It is allowed, as loopback is; so is every numeric address if this
            is not loopback, where other machines use this machine's addresses.
        names: names that are allowed besides; `*.example.com` and `*` stand for many.
    """

    def __init__(self, app: ASGIApp, host: str, names: Sequence[str]) -> None:
        self._app = app
        self._patterns = [name.lower() for name in (*_LOOPBACK, host, *names)]
        self._addresses = not (host == "localhost" or _is_address(host, loopback=True))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        hosts = Headers(scope=scope).getlist("host") if scope["type"] == "http" else []
        if "*" in self._patterns or (len(hosts) == 1 and self._allows(hosts[0])):
            await self._app(scope, receive, send)
            return
        seen = cut(", ".join(hosts)) or "missing"
        reason = f"Host is {seen}: use an address of the server, or add the name to allowed_hosts"
        refusal = Response(json.dumps({"error": reason}), 400, {"Connection": "close"}, "application/json")
        await refusal(scope, receive, send)

    def _allows(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if self._addresses and _is_address(name):
            return True
        return any(fnmatchcase(name, pattern) for pattern in self._patterns)


def _is_address(name: str, loopback: bool = False) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not loopback
