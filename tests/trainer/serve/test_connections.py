"""Bounds on connections, without sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("uvicorn")

from uvicorn.server import ServerState

from trainer.serve.connections import Connection, Settings
from trainer.serve.observed import Observer

POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


class Wire:
    """Stands in for a transport."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        self.sent = self.late = b""
        self.closing = self.aborted = False
        self.reading = True
        self._loop, self._connection = loop, connection

    def get_extra_info(self, name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if self.aborted:
            self.late += data
            raise RuntimeError("the handler is closed")  # as uvloop's does
        self.sent += data

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._loop.call_soon(self._connection.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class House:
    """A server without sockets, whose clock stands still."""

    def __init__(self, **bounds: Any) -> None:
        self.answered = asyncio.Event()
        bounds = {"most_connections": 4, "most_bytes": 10_000, **bounds}
        self.observer = Observer()
        bounds |= {"request_seconds": 100.0, "observer": self.observer}
        self.settings = Settings(self._app, interface="asgi3", log_config=None, **bounds)
        self.settings.load()
        self.state = ServerState()
        self.seconds = 0.0
        self._loop = asyncio.get_running_loop()

    def connect(self) -> tuple[Connection, Wire]:
        connection = Connection(self.settings, self.state, {}, self._loop)
        wire = Wire(self._loop, connection)
        connection.loop = Clock(self)  # type: ignore[assignment]
        connection.connection_made(wire)  # type: ignore[arg-type]
        return connection, wire

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await self.answered.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Clock:
    """The event loop, with the time of a house."""

    def __init__(self, house: House) -> None:
        self._house, self._loop = house, asyncio.get_running_loop()

    def time(self) -> float:
        return self._house.seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_whoever_has_been_silent_for_longest_makes_room() -> None:
    async def run() -> None:
        house = House()
        wires = []
        for _ in range(6):
            wires.append(house.connect()[1])
            house.seconds += 0.6
        await settle()
        assert [wire.aborted for wire in wires] == [True, True, False, False, False, False]

    asyncio.run(run())


def test_a_burst_of_connections_leaves_those_that_have_just_connected_a_moment_to_ask() -> None:
    async def run() -> None:
        house = House()
        wires = [house.connect()[1] for _ in range(13)]
        await settle()
        assert [wire.aborted for wire in wires] == [True] + [False] * 12

    asyncio.run(run())


def test_the_connection_whose_requests_take_most_memory_makes_room() -> None:
    async def run() -> None:
        house = House()
        (large, _), (small, _), (other, _) = three = [house.connect() for _ in range(3)]
        small.data_received(POST + b"Content-Length: 9999\r\n\r\n" + b" " * 3000)
        large.data_received(POST + b"Content-Length: 9999\r\n\r\n" + b" " * 6000)
        await settle()
        other.data_received(POST + b"X: " + b"a" * 2000)
        await settle()
        assert [wire.aborted for _, wire in three] == [True, False, False]
        assert sum(house.settings.bytes.values()) == house.settings.all_bytes > 5000
        for connection, _ in three[1:]:
            connection.connection_lost(None)
        assert (house.settings.bytes, house.settings.all_bytes, house.settings.waiting) == ({}, 0, {})

    asyncio.run(run())


def test_others_are_answered_while_a_long_part_is_parsed() -> None:
    async def run() -> None:
        house = House(most_bytes=2**20)
        house.answered.set()
        (long, wire), (other, quick) = house.connect(), house.connect()
        long.data_received(
            POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 60_000 + b"0\r\n\r\n" + GET + b"\r\n"
        )
        assert not wire.reading
        other.data_received(GET + b"\r\n")
        await settle()
        assert quick.sent.endswith(b"ok")
        assert not wire.sent
        for _ in range(10):
            await settle()
        assert wire.sent.count(b"ok") == 2  # the body has ended, and so has the request behind it
        assert wire.reading

    asyncio.run(run())


def test_requests_that_were_answered_take_nothing() -> None:
    async def run() -> None:
        house = House()
        house.answered.set()
        connection, wire = house.connect()
        for _ in range(100):
            connection.data_received(GET + b"X: " + b"a" * 4000 + b"\r\n\r\n")
            await settle()
        connection.data_received((GET + b"\r\n") * 8)
        for _ in range(20):
            await settle()
        assert wire.sent.count(b"HTTP/1.1 200") == 108
        assert house.settings.all_bytes == 0

    asyncio.run(run())


def test_clients_that_do_not_read_make_room_too() -> None:
    async def run() -> None:
        house = House()
        house.answered.set()
        wires = []
        for _ in range(5):
            connection, wire = house.connect()
            wires.append(wire)
            connection.data_received(GET + b"\r\n")
            connection.pause_writing()
            await settle()
            house.seconds += 2
        assert [wire.aborted for wire in wires] == [True] + [False] * 4
        for each in list(house.state.connections):
            each.connection_lost(None)

    asyncio.run(run())


def test_a_client_that_is_gone_gets_no_reply_to_any_of_its_requests() -> None:
    async def run() -> None:
        house = House()
        connection, wire = house.connect()
        connection.data_received((GET + b"\r\n") * 3)
        await settle()
        wire.abort()
        await settle()
        house.answered.set()
        await settle()
        assert wire.sent == wire.late == b""

    asyncio.run(run())


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_a_client_that_asks_for_another_protocol_is_answered_as_usual_and_told_that_the_connection_ends(
    protocol,
) -> None:
    async def run() -> None:
        house = House()
        house.answered.set()
        for words in (GET + b"%b\r\n", POST + b"Content-Length: 3\r\n%b\r\nabc"):
            connection, wire = house.connect()
            connection.data_received(words % (b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"))
            await settle()
            assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"connection: close\r\n" in wire.sent
            assert wire.closing

    asyncio.run(run())


def test_a_refused_head_that_asks_for_another_protocol_harms_nobody() -> None:
    async def run() -> None:
        connection, wire = House().connect()
        connection.data_received(GET + b"X: a\r\n" * 101 + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert wire.sent.startswith(b"HTTP/1.1 431")
        await settle()

    asyncio.run(run())
