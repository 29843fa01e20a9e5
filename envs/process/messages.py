"""Whole Python objects over a socket between parent and child, received without ever blocking the parent.

They are pickled, which is fit for a socket pair alone: it has no name, so nobody else can speak over it.
"""

from __future__ import annotations

import pickle
import selectors
import socket
import struct
import time
from typing import Any

_LENGTH = struct.Struct("!I")
_CHUNK_BYTES = 1 << 20
"""Read at most so much at once: a long message (a picture) must not hold up the steps of others."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair of stream sockets, small messages sent at once."""
    ours, theirs = socket.socketpair()
    if ours.family == socket.AF_INET:  # Windows has TCP behind it, which gathers small packets
        for end in (ours, theirs):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


def send_object(sock: socket.socket, content: Any) -> None:
    """Sends one object; waits until the other side has room for it."""
    data = pickle.dumps(content, protocol=5)
    sock.sendall(_LENGTH.pack(len(data)) + data)


def dispatch(selector: selectors.BaseSelector, seconds: float) -> list[Any]:
    """Waits at most so long for sockets, and calls the functions that are the data of the readable ones.

    Returns what they returned, other than None.
    """
    seconds = max(0.0, seconds)
    if not selector.get_map():  # which Windows does not wait for
        time.sleep(seconds)
        return []
    return [found for key, _ in selector.select(seconds) if (found := key.data()) is not None]


class Inbox:
    """The receiving end: collects what has come and hands out whole objects. Trusts the sender, our own child."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.setblocking(False)
        self._data = bytearray()
        self.closed = False
        """Whether the sender is gone."""

    def take(self) -> list[Any]:
        """The objects that are complete by now."""
        try:
            data = self.socket.recv(_CHUNK_BYTES)
            self.closed = not data
            self._data += data
        except BlockingIOError:
            pass
        except OSError:  # a killed sender resets the connection where sockets are TCP
            self.closed = True
        found = []
        while len(self._data) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._data)[0]
            if len(self._data) < end:
                break
            found.append(pickle.loads(self._data[_LENGTH.size : end]))  # noqa: S301 - from our own child
            del self._data[:end]
        return found
