"""Messages over TCP: who is let in, what is refused, and that nothing is lost on a way that is slow."""

from __future__ import annotations

import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from trainer.cluster import stream
from trainer.cluster.calls import Answering, Asking, packed, unpacked
from trainer.cluster.messages import HEADER, MOST_BYTES, Message, Part
from trainer.cluster.stream import Listener, Stream, connect

SECRET = b"s" * 32


class Door:
    """A listener on loopback, and whom it has let in."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.admitted: list[tuple[dict[str, Any], Stream]] = []
        self.listener = Listener("127.0.0.1", SECRET, self.selector, lambda *who: self.admitted.append(who))

    def until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end
            for key, _ in self.selector.select(0.05):
                key.data()

    def ask(self, secret: bytes = SECRET, **greeting: Any) -> tuple[Stream | None, Exception | None]:
        """What becomes of one who connects."""
        found: list[tuple[Stream | None, Exception | None]] = []

        def attempt() -> None:
            try:
                found.append((connect(self.listener.address, secret, greeting, 20), None))
            except OSError as error:
                found.append((None, error))

        thread = threading.Thread(target=attempt)
        thread.start()
        self.until(lambda: found)
        thread.join()
        return found[0]


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.listener.close()
    for _, way in made.admitted:
        way.close()


def test_who_knows_the_secret_is_let_in_with_what_it_says(door: Door) -> None:
    way, _ = door.ask(key=7, host="there")
    assert [said for said, _ in door.admitted] == [{"key": 7, "host": "there"}]
    way.send(Message({"hello": 1}))
    received: list[Message] = []
    door.until(lambda: (message := door.admitted[0][1].receive()) is not None and not received.append(message))
    assert received[0].content == {"hello": 1}
    way.close()


def test_who_does_not_know_the_secret_stays_outside(door: Door) -> None:
    _, error = door.ask(b"t" * 32, key=7)
    assert isinstance(error, OSError)
    assert not door.admitted


def test_an_impostor_is_not_believed() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def pretend() -> None:
        sock, _ = server.accept()
        sock.sendall(b"r" * 32)
        sock.recv(4096)
        sock.sendall(b"m" * 32)
        sock.close()

    thread = threading.Thread(target=pretend)
    thread.start()
    with pytest.raises(ConnectionRefusedError, match="does not know the run's secret"):
        connect(server.getsockname()[:2], SECRET, {}, 20)
    thread.join()
    server.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\n\r\n" * 9, b"\xff" * 68, bytes(64) + struct.pack("<I", 2**32 - 1)]
)
def test_strangers_cost_bounded_memory_and_leave(door: Door, sent: bytes) -> None:
    sock = socket.create_connection(door.listener.address)
    sock.sendall(sent)
    sock.shutdown(socket.SHUT_WR)
    door.until(lambda: door.listener._strangers)
    door.until(lambda: not door.listener._strangers)
    assert not door.admitted
    sock.close()


def test_only_so_many_strangers_wait_at_once(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_STRANGERS", 2)
    socks = [socket.create_connection(door.listener.address) for _ in range(4)]
    door.until(lambda: len(door.listener._strangers) == 2)
    for sock in socks:
        sock.settimeout(0.2)
    for _ in range(10):
        for key, _ in door.selector.select(0.05):
            key.data()
    assert len(door.listener._strangers) == 2
    monkeypatch.setattr(stream, "HELLO_SECONDS", -1.0)
    for stranger in door.listener._strangers.values():
        stranger.until = 0.0
    way, error = door.ask(key=1)  # those that say nothing make room
    assert error is None or way is None
    assert len(door.listener._strangers) <= 2
    for sock in socks:
        sock.close()


def pair() -> tuple[Stream, Stream]:
    server = socket.create_server(("127.0.0.1", 0))
    one = socket.create_connection(server.getsockname())
    other, _ = server.accept()
    server.close()
    return Stream(one, patience=60), Stream(other)


def test_long_messages_come_whole_and_in_order_over_a_slow_way() -> None:
    ours, theirs = pair()
    sent = [bytes([i]) * (2**i) for i in (0, 3, 10, 22, 24)]
    for number, data in enumerate(sent):
        theirs.send(Message({"number": number}, [Part("rows", "b", number, len(data), data)]))
    assert theirs.unsent
    got = []
    while len(got) < len(sent):
        while (message := ours.receive()) is not None:
            got.append((message.content["number"], bytes(message.parts[0].data)))
        assert theirs.receive() is None  # which sends on
    assert got == list(enumerate(sent))
    assert not theirs.unsent
    theirs.close()
    with pytest.raises(EOFError):
        ours.receive()
    ours.close()


def test_a_message_longer_than_any_is_refused_before_memory_is_taken() -> None:
    ours, theirs = pair()
    ours.socket.send(HEADER.pack(MOST_BYTES, 1))
    select.select([theirs.socket], [], [])
    with pytest.raises(ValueError, match="more than"):
        theirs.receive()
    assert len(theirs._buffer) == 0
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[1,2,3]",
        b'[{},[["rows","b",0,1,99]]]',
        b'[{},[["rows","b",0,-1,0]]]',
        b'[{},[["rows","b",true,1,0]]]',
        b'[{},[["rows","b"]]]',
        b"[[],[]]",
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_damaged_messages_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="a damaged message"):
        Message.decode(HEADER.pack(len(text), 0), memoryview(text))


def test_calls_are_answered_in_order() -> None:
    host = Answering()
    pool = []

    def call(request):
        from concurrent.futures import Future

        future: Future = Future()
        thread = threading.Thread(target=lambda: future.set_result(host.call(request)))
        thread.start()
        pool.append(thread)
        while len(host._waiting) < len(pool):
            time.sleep(0.001)
        return future

    asking = Asking(call)
    for number in range(2):
        asking.send(Message({"number": number}))
    for number in range(2):
        assert host.receive().content == {"number": number}
        host.send(Message({"answer": number}, [Part("rows", "b", 1, 3, b"abc")]))
    answers: list[Message] = []
    while len(answers) < 2:
        if (answer := asking.receive()) is not None:
            answers.append(answer)
    assert [answer.content["answer"] for answer in answers] == [0, 1]
    assert bytes(answers[0].parts[0].data) == b"abc"
    host.close()
    with pytest.raises(EOFError):
        host.call(packed(Message({})))
    with pytest.raises(ValueError, match="another length"):
        unpacked(packed(Message({}))[:-1])
    asking.close()
