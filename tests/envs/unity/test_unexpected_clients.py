"""Whoever else finds the port of a player: refused, while the player is let in and the run goes on."""

from __future__ import annotations

import itertools
import os
import random
import selectors
import socket
import ssl
import struct
import sys
import tracemalloc

import grpc
import psutil
import pytest

from envs.unity.protocol.decoding import encode_reply
from envs.unity.protocol.http2 import PERMISSION_DENIED
from envs.unity.protocol.server import Arrived, Connected, Failed, PlayerServer, UnexpectedClient
from tests.envs.making import unity_manager
from tests.envs.unity.client import Client, Message, free_port, info, parameters
from tests.envs.unity.protocol.test_http2 import (
    DATA,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    request,
)
from tests.envs.unity.test_player_pool import faults, players_of, turn

WALKER = "Walker?team=0"
GREETED = PREFACE + frame(SETTINGS, 0, 0)


def client_hello():
    """How a browser begins that was told to use https."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def without_end(made, most=2**22):
    """`made(stream)` for one stream after another, `most` bytes in all."""
    return b"".join(made(stream) for stream in itertools.islice(itertools.count(1, 2), most // len(made(1))))


def not_whole():
    """A message, but for its last byte."""
    return frame(HEADERS, 4, 1) + frame(DATA, 0, 1, b"\0" + (500).to_bytes(4, "big") + bytes(499))


SILENT = {
    "says nothing": lambda: b"",
    "stops within the preface": lambda: PREFACE[:9],
    "stops within a frame": lambda: GREETED + frame(PING, 0, 0, bytes(8))[:-1],
    "stops within a message": lambda: GREETED + not_whole(),
    "opens windows that are none": lambda: GREETED + frame(WINDOW_UPDATE, 0, 0, b"\xff" * 4) * 99,
    "cancels what it never asked": lambda: GREETED + frame(RST_STREAM, 0, 9, bytes(4)),
    "sends data of no request": lambda: GREETED + frame(DATA, 1, 9, bytes(99)),
    "pings at length and reads nothing": (
        lambda: GREETED + without_end(lambda _: frame(PING, 0, 0, bytes(2**14)), most=2**24)
    ),
    "pads beyond the frame": lambda: GREETED + frame(HEADERS, 4, 1) + frame(DATA, 9, 1, b"\xff12"),
}
"""Unexpected clients that may be a player yet, by what they have sent."""
REFUSED = {
    "speaks HTTP/1": (lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "no HTTP/2 client"),
    "speaks TLS": (client_hello, "no HTTP/2 client"),
    "speaks nothing known": (lambda: random.Random(5).randbytes(5000), "no HTTP/2 client"),
    "announces a huge frame": (lambda: GREETED + b"\xff\xff\xff\0\0\0\0\0\1", "a frame of 16777215 bytes"),
    "sets what cannot be": (lambda: GREETED + frame(SETTINGS, 0, 0, b"odd"), "settings of the wrong size"),
    "asks much at once": (lambda: GREETED + b"".join(frame(HEADERS, 4, s) for s in range(1, 99, 2)), "more than 16"),
    "pings without end": (lambda: GREETED + without_end(lambda _: frame(PING, 0, 0, bytes(8))), "10000 frames"),
    "sets without end": (lambda: GREETED + without_end(lambda _: frame(SETTINGS, 0, 0)), "10000 frames"),
    "opens windows without end": (
        lambda: GREETED + without_end(lambda _: frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
        "10000 frames",
    ),
    "resets without end": (
        lambda: (
            GREETED + without_end(lambda stream: frame(HEADERS, 4, stream) + frame(RST_STREAM, 0, stream, bytes(4)))
        ),
        "10000 frames",
    ),
    "sends crumbs without end": (
        lambda: GREETED + frame(HEADERS, 4, 1) + without_end(lambda _: frame(DATA, 0, 1)),
        "10000 frames",
    ),
    "sends headers without end": (
        # Of HPACK's bombs: one entry of 4 kB for its table, which each byte repeats. Nobody here unpacks it.
        lambda: (
            GREETED
            + frame(HEADERS, 0, 1, b"\x40\x01a\x7f\xe1\x1e" + bytes(4000))
            + without_end(lambda _: frame(9, 0, 1, b"\xbe" * 200))
        ),
        "10000 frames",
    ),
    "asks without end": (lambda: GREETED + without_end(lambda stream: request(stream, b"hi")), "more than 16"),
    "sends another message": (lambda: GREETED + request(1, Message().SerializeToString()), "another message"),
}
"""Unexpected clients that are told of, and why."""
EVERY = {**SILENT, **{name: made for name, (made, _) in REFUSED.items()}}


class Served:
    """A server and its selector."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.events = []
        first = encode_reply({}, reset=True)
        self.server = PlayerServer(0, 7, 1, first, self.selector, self.events.append)
        self.server.listen(lambda sock: None)
        self.port = self.server.port

    def recv(self, timeout=0.0):
        """Lets the server do what there is to do."""
        for key, _ in self.selector.select(timeout):
            key.data()
        return {}

    def reported(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def meet(self, data):
        """An unexpected client that has sent `data`, as far as it was listened to."""
        sock = socket.create_connection(("127.0.0.1", self.port))
        push(sock, data, self.recv)
        return sock

    def let_in(self):
        """A player by hand, which has introduced itself and sent an agent."""
        player = Client(self.port, self)
        assert player.introduce().unity_input.rl_initialization_input.seed == 7
        assert player.ask_for_input().unity_input.rl_input.command == 1
        player.answer = player.say({WALKER: [info(1, [1.0])]}, [parameters(WALKER)])
        while not self.reported(Arrived):
            self.recv(0.01)
        return player


@pytest.fixture
def served():
    served = Served()
    yield served
    served.server.stop()
    served.selector.close()


def push(sock, data, turn, more=100):
    """Sends until all is sent, the other side has gone, or it does not listen; and `more` turns."""
    sock.setblocking(False)
    data, ignored = memoryview(data), 0
    while data and ignored < 100:
        ignored += 1
        try:
            sent = sock.send(data[:65536])
            data, ignored = data[sent:], 0
        except BlockingIOError:
            pass
        except OSError:
            return
        turn()
    for _ in range(more):
        turn()


def ended(sock):
    """Whether the server has closed the connection."""
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize("kind", SILENT)
def test_an_unexpected_client_that_has_not_said_all_is_left_when_the_player_comes(served, kind):
    unexpected_client = served.meet(SILENT[kind]())
    assert not served.events
    served.let_in().close()
    assert ended(unexpected_client)
    assert len(served.reported(Connected)) == 1
    assert not served.reported(Failed)
    unexpected_client.close()


@pytest.mark.parametrize("kind", REFUSED)
def test_an_unexpected_client_is_refused_and_told_of_once_and_the_player_is_let_in(served, kind):
    made, why = REFUSED[kind]
    data = made()
    clients = [served.meet(data) for _ in range(2)]
    (reported,) = served.events
    assert isinstance(reported, UnexpectedClient)
    assert why in reported.why
    assert reported.address == f"127.0.0.1 port {clients[0].getsockname()[1]}"
    assert "another message" in why or all(map(ended, clients))
    served.let_in().close()
    assert not served.reported(Failed)
    for unexpected_client in clients:
        unexpected_client.close()


@pytest.mark.parametrize("kind", EVERY)
def test_unexpected_clients_take_little_memory_however_much_they_send(served, kind):
    data = EVERY[kind]()
    crowd = []
    tracemalloc.start()
    for _ in range(20):
        crowd.append(served.meet(data))
        if len(data) > 2**20:  # one such is enough
            break
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**20
    for unexpected_client in crowd:
        unexpected_client.close()


def test_messages_that_begin_at_once_hold_together_what_one_may(served):
    part = b"\0\0\0\xff\0" + bytes(60_000)
    begun = b"".join(frame(HEADERS, 4, stream) + frame(DATA, 0, stream, part) for stream in range(1, 31, 2))
    tracemalloc.start()
    unexpected_client = served.meet(GREETED + begun)
    assert tracemalloc.get_traced_memory()[0] < 400_000  # of 900,000 that were sent
    tracemalloc.stop()
    served.let_in().close()
    unexpected_client.close()


def test_another_method_is_refused_by_grpcs_own_status(served):
    with grpc.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        asked = channel.unary_unary("/grpc.health.v1.Health/Check").future(b"", timeout=200)
        while not asked.done():
            served.recv(0.01)
        assert asked.code().value[0] == PERMISSION_DENIED
    served.let_in().close()


def test_a_flood_of_connections_never_takes_the_players_place(served):
    flood = [served.meet(b"") for _ in range(40)]
    player = socket.create_connection(("127.0.0.1", served.port))
    hello = Message()
    about = hello.unity_output.rl_initialization_output
    about.communication_version = "1.5.0"
    push(player, GREETED, served.recv)
    flood += [served.meet(b"") for _ in range(40)]
    assert len(served.server._clients) == 16
    push(player, request(1, hello.SerializeToString()), served.recv)
    assert served.reported(Connected)
    (reported,) = served.reported(UnexpectedClient)
    assert reported.why == "it did not introduce itself, as 15 others"
    assert all(map(ended, flood))
    for sock in [*flood, player]:
        sock.close()


def test_once_the_player_is_there_nobody_listens(served):
    player = served.let_in()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port))
    served.server.reply(encode_reply({}))
    assert player.answer.get().header.status == 200
    player.close()


def test_only_this_machine_is_listened_to(served):
    assert {listener.getsockname()[0] for listener in served.server._listeners} <= {"127.0.0.1", "::1"}


def test_a_player_that_breaks_the_protocol_is_named_by_what_it_did(served):
    player = socket.create_connection(("127.0.0.1", served.port))
    hello = Message()
    hello.unity_output.rl_initialization_output.communication_version = "1.5.0"
    endless = without_end(lambda _: frame(PING, 0, 0, bytes(8)))
    push(player, GREETED + request(1, hello.SerializeToString()) + endless, served.recv)
    (failed,) = served.reported(Failed)
    assert failed.why == "it broke the protocol (10000 frames without a message to answer)"
    assert not served.reported(UnexpectedClient)
    player.close()


def test_a_player_that_goes_while_much_is_to_be_sent_is_missed(served):
    player = socket.create_connection(("127.0.0.1", served.port))
    hello = Message()
    hello.unity_output.rl_initialization_output.communication_version = "1.5.0"
    said = Message()
    said.header.status = 200
    windows = frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 2**31 - 1)) + frame(WINDOW_UPDATE, 0, 0, b"\x3f\0\0\0")
    push(player, PREFACE + windows + request(1, hello.SerializeToString()), served.recv)
    for stream in (3, 5):
        push(player, request(stream, said.SerializeToString()), served.recv)
    served.server.reply(bytes(2**24))  # more than any system takes from one who does not read
    served.recv()
    player.close()
    while not served.reported(Failed):
        served.recv(1.0)
    assert served.reported(Failed) == [Failed("it closed its connection", left=True)]


@pytest.mark.parametrize("version", ["9" * 5000, "²", "-1", ""])
def test_a_version_that_is_none_harms_nobody(served, version):
    player = socket.create_connection(("127.0.0.1", served.port))
    hello = Message()
    about = hello.unity_output.rl_initialization_output
    about.communication_version, about.package_version = "1.5.0", version
    push(player, GREETED + request(1, hello.SerializeToString()), served.recv)
    assert served.reported(Connected) == [Connected(version)]
    player.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody says who has connected")
def test_a_process_that_was_not_launched_cannot_take_a_players_place(tmp_path):
    words = ("env=basic", "fault=hang:0", f"once={tmp_path / 'claimed'}")
    with unity_manager(tmp_path / "logs", 2, words) as manager:
        manager.start()
        while not manager.samples.any():
            turn(manager)
        missing = int(manager.samples.argmin())
        thief = Client(manager._players.of[missing].server.port)
        hello = Message()
        hello.unity_output.rl_initialization_output.communication_version = "1.5.0"
        answer = thief.send(hello)
        while not answer.done():
            turn(manager)
        with pytest.raises(grpc.RpcError):
            answer.result()
        assert not manager.samples[missing]
        (event,) = manager.events
        assert event.kind == "unexpected"
        assert f"and was refused (process {os.getpid()} of user " in event.text
        thief.close()


def test_a_run_goes_on_among_unexpected_clients_of_every_kind(tmp_path, monkeypatch):
    """One player plays, the other comes late; both their ports are found by all unexpected clients at once."""
    monkeypatch.setattr("envs.unity.player_pool.refusal", lambda sock, launched: None)  # as if nobody said who they are
    words = ("env=basic", "fault=hang:0", f"once={tmp_path / 'claimed'}")
    with unity_manager(tmp_path / "logs", 2, words) as manager:
        manager.start()
        while not manager.samples.any():
            turn(manager)
        playing = int(manager.samples.argmax())
        ports = [player.server.port for player in manager._players.of]
        pids = players_of(manager)
        clients = []
        for made in EVERY.values():
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", ports[playing]))
            before = manager.samples[playing]
            clients.append(socket.create_connection(("127.0.0.1", ports[1 - playing])))
            push(clients[-1], made(), lambda: turn(manager), more=20)
            assert manager.samples[playing] > before
        (events,) = manager.events
        assert events.kind == "unexpected"
        assert events.text.startswith(f"Instance {1 - playing}: somebody at 127.0.0.1 port ")
        late = Client(ports[1 - playing])
        hello = Message()
        hello.unity_output.rl_initialization_output.communication_version = "1.5.0"
        answer = late.send(hello)
        while not answer.done():
            turn(manager)
        assert answer.result()
        assert players_of(manager) == pids
        assert not faults(manager)
        psutil.Process(pids[1 - playing]).kill()  # it hangs, and would be waited for
        late.close()
        for unexpected_client in clients:
            unexpected_client.close()


def test_the_editor_is_waited_for_among_unexpected_clients(tmp_path):
    port = free_port()
    with unity_manager(tmp_path, port=port) as manager:
        manager.start()
        manager.events.clear()
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in EVERY]
        for unexpected_client, made in zip(clients, EVERY.values()):
            push(unexpected_client, made(), lambda: manager.recv(0.0), more=20)
        client = Client(port, manager)
        client.introduce()
        client.ask_for_input()
        client.say({WALKER: [info(1, [1.0])]}, [parameters(WALKER)])
        assert len(manager.recv(10)["Walker"].decisions.agent) == 1
        assert [events.kind for events in manager.events] == ["unexpected"]
        client.close()
        for unexpected_client in clients:
            unexpected_client.close()
