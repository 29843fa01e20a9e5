"""The way of hosts that cannot connect to the learner's: calls of theirs, which somebody else makes. Knows no Ray."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from envs.spec import Array
from trainer.cluster.messages import HEADER, Message


def packed(message: Message) -> Array:
    """Returns the bytes of a message as an array (uint8), which Ray passes on without a pickle."""
    return np.frombuffer(b"".join(message.encode()), np.uint8)


def unpacked(data: Array) -> Message:
    """Returns the message of such an array; ValueError if it is none."""
    view = np.ascontiguousarray(data).view(np.uint8).data
    if len(view) < HEADER.size or Message.size(view[: HEADER.size]) != len(view) - HEADER.size:
        raise ValueError("a message of another length")
    return Message.decode(view[: HEADER.size], view[HEADER.size :])


class _Wakes:
    """A socket that is readable once another thread has said so."""

    unsent = False

    def __init__(self) -> None:
        self.socket, self._other = socket.socketpair()
        for end in (self.socket, self._other):
            end.setblocking(False)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it wakes anyway; or closed
            self._other.send(b"\0")

    def _slept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.socket.recv(65536)

    def close(self) -> None:
        self.socket.close()
        self._other.close()


class Answering(_Wakes):
    """The host's end: requests come by `call`, in threads of others."""

    def __init__(self) -> None:
        super().__init__()
        self._lock, self._closed = threading.Lock(), False
        self._requests: deque[Array] = deque()
        self._waiting: deque[Future[Array]] = deque()

    def call(self, request: Array) -> Array:
        """Returns the answer to a request once there is one; EOFError once this end is closed."""
        answer: Future[Array] = Future()
        with self._lock:
            if self._closed:
                raise EOFError("the host has ended")
            self._requests.append(request)
            self._waiting.append(answer)
        self._wake()
        return answer.result()

    def send(self, message: Message) -> None:
        """Answers the oldest request."""
        data = packed(message)
        with self._lock:
            self._waiting.popleft().set_result(data)

    def receive(self) -> Message | None:
        """Returns a request; None if there is none."""
        self._slept()
        with self._lock:
            return unpacked(self._requests.popleft()) if self._requests else None

    def close(self) -> None:
        """Answers nothing any more."""
        with self._lock:
            self._closed = True
            for answer in self._waiting:
                answer.set_exception(EOFError("the host has ended"))
        super().close()


class Asking(_Wakes):
    """The learner's end: requests go by `call`, which returns what becomes an answer."""

    def __init__(self, call: Callable[[Array], Future[Array]]) -> None:
        super().__init__()
        self._call = call
        self._answers: deque[Future[Array]] = deque()

    def send(self, message: Message) -> None:
        """Sends a request."""
        answer = self._call(packed(message))
        self._answers.append(answer)
        answer.add_done_callback(lambda _: self._wake())

    def receive(self) -> Message | None:
        """Returns the answer to the oldest request; None if there is none yet. OSError if the host is gone."""
        self._slept()
        if not self._answers or not self._answers[0].done():
            return None
        try:
            return unpacked(self._answers.popleft().result())
        except ValueError:
            raise
        except Exception as error:  # whatever made the call fail
            raise ConnectionError(str(error).strip().splitlines()[-1:] or "its call failed") from error
