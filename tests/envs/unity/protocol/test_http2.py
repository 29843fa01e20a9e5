import socket
import struct
import threading

import grpc
import pytest

from envs.unity.protocol.http2 import UNIMPLEMENTED, Cancelled, Connection, ProtocolError, Request, TooLong

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + payload


def request(stream, content, *, flags=1):
    whole = b"\0" + len(content).to_bytes(4, "big") + content
    return frame(HEADERS, 4, stream, b"whatever") + frame(DATA, flags, stream, whole)


def frames(data):
    """(kind, flags, stream, payload) of each."""
    data, found = bytes(data), []
    while data:
        size = int.from_bytes(data[:3], "big")
        found.append((*struct.unpack("!BBI", data[3:9]), data[9 : 9 + size]))
        data = data[9 + size :]
    return found


def greeted(limit=1000):
    connection = Connection(limit)
    assert connection.receive(PREFACE + frame(SETTINGS, 0, 0)) == []
    connection.out.clear()
    return connection


@pytest.mark.parametrize("size", [0, 1, 20_000, 3_000_000])
def test_grpcs_own_client_gets_what_it_sent(size):
    """Both ways past the windows and the largest frames that HTTP/2 begins with."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        sock, _ = listener.accept()
        connection = Connection(2**24)
        sock.sendall(connection.out)
        connection.out.clear()
        while data := sock.recv(65536):
            for event in connection.receive(data):
                connection.respond(event.stream, event.content[::-1])
            sock.sendall(connection.out)
            connection.out.clear()
        sock.close()

    thread = threading.Thread(target=serve)
    thread.start()
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{listener.getsockname()[1]}", options) as channel:
        call = channel.unary_unary("/any/method")
        content = bytes(range(256)) * (size // 256) + bytes(size % 256)
        for _ in range(3):
            assert call(content, timeout=200) == content[::-1]
    thread.join()
    listener.close()


def test_a_request_may_come_byte_by_byte_in_padded_pieces():
    connection = Connection(1000)
    whole = b"\0" + (5).to_bytes(4, "big") + b"hello"
    sent = (
        PREFACE
        + frame(SETTINGS, 0, 0)
        + frame(HEADERS, 0, 1, b"part of")
        + frame(9, 4, 1, b"the headers")
        + frame(DATA, 8, 1, b"\x03" + whole[:4] + b"pad")
        + frame(DATA, 1, 1, whole[4:])
    )
    events = [event for byte in sent for event in connection.receive(bytes([byte]))]
    assert events == [Request(1, b"hello")]


def test_settings_and_pings_are_acknowledged():
    connection = greeted()
    connection.receive(frame(SETTINGS, 0, 0) + frame(PING, 0, 0, b"12345678") + frame(PING, 1, 0, b"12345678"))
    assert frames(connection.out) == [(SETTINGS, 1, 0, b""), (PING, 1, 0, b"12345678")]


def test_an_answer_waits_for_the_clients_windows():
    connection = Connection(1000)
    small = struct.pack("!HIHI", 4, 10, 5, 16384)
    connection.receive(PREFACE + frame(SETTINGS, 0, 0, small) + request(1, b"hi"))
    connection.out.clear()
    connection.respond(1, b"x" * 12)  # 17 bytes with its prefix
    assert [(kind, len(payload)) for kind, _, _, payload in frames(connection.out)[1:]] == [(DATA, 10)]
    connection.out.clear()
    connection.receive(frame(WINDOW_UPDATE, 0, 1, (3).to_bytes(4, "big")))
    assert [(kind, len(payload)) for kind, _, _, payload in frames(connection.out)] == [(DATA, 3)]
    connection.out.clear()
    connection.receive(frame(WINDOW_UPDATE, 0, 1, (9).to_bytes(4, "big")))
    assert [(kind, flags & 1) for kind, flags, _, _ in frames(connection.out)] == [(DATA, 0), (HEADERS, 1)]


def test_what_is_no_single_plain_message_is_refused():
    connection = greeted()
    compressed = frame(HEADERS, 4, 1) + frame(DATA, 1, 1, b"\1\0\0\0\1x")
    short = frame(HEADERS, 4, 3) + frame(DATA, 1, 3, b"\0\0\0\0\5x")
    empty = frame(HEADERS, 5, 5)
    assert connection.receive(compressed + short + empty) == []
    refusals = frames(connection.out)
    assert [stream for _, _, stream, _ in refusals] == [1, 3, 5]
    assert all(str(UNIMPLEMENTED).encode() in payload for *_, payload in refusals)


def test_a_message_beyond_the_limit_is_refused_before_it_is_whole():
    connection = greeted(limit=100)
    assert connection.receive(frame(HEADERS, 4, 1) + frame(DATA, 0, 1, bytes(200))) == [TooLong(100)]
    assert b"100 bytes" in connection.out
    assert connection.receive(frame(DATA, 1, 1, bytes(200))) == []
    assert connection.receive(request(3, b"short")) == [Request(3, b"short")]


def test_a_request_that_is_cancelled_is_told_of_and_not_answered():
    connection = greeted()
    assert connection.receive(request(1, b"hi") + frame(RST_STREAM, 0, 1, bytes(4))) == [
        Request(1, b"hi"),
        Cancelled(1),
    ]


def test_an_answer_to_a_cancelled_request_is_dropped_and_the_next_is_sent():
    connection = greeted()
    connection.receive(request(1, b"hi") + frame(RST_STREAM, 0, 1, bytes(4)))
    connection.respond(1, b"late")
    assert not connection.out
    connection.receive(request(3, b"hi"))
    connection.respond(3, b"answer")
    assert [stream for _, _, stream, _ in frames(connection.out)] == [3, 3, 3]


@pytest.mark.parametrize("setting", [(5, 0), (5, 2**24), (4, 2**31)])
def test_settings_that_cannot_be_are_refused(setting):
    with pytest.raises(ProtocolError):
        greeted().receive(frame(SETTINGS, 0, 0, struct.pack("!HI", *setting)))


def test_requests_without_end_are_refused():
    with pytest.raises(ProtocolError, match="more than 16 requests at once"):
        greeted().receive(b"".join(frame(HEADERS, 4, 2 * i + 1) for i in range(17)))


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, PREFACE + frame(SETTINGS, 0, 0, b"odd")])
def test_a_client_that_does_not_speak_http2_is_told_apart(data):
    with pytest.raises(ProtocolError):
        Connection(100).receive(data)
