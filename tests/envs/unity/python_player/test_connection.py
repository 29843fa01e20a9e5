import contextlib
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from envs.spec import UserError
from envs.unity.protocol.messages import METHOD
from envs.unity.python_player import connection
from envs.unity.python_player.connection import Closed, connected


@contextlib.contextmanager
def serving(answer):
    """A server of gRPC's own whose one method is `answer(request, context)`; its port."""
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", -1)])
    service, _, method = METHOD[1:].rpartition("/")
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: answer(server, request))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.mark.parametrize("size", [0, 1, 20_000, 3_000_000])
def test_grpcs_own_server_gets_and_gives_messages_of_any_size(size):
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    with serving(lambda server, request: request[::-1]) as port, connected(port) as exchange:
        for _ in range(3):
            assert exchange(content) == content[::-1]


def test_many_calls_follow_one_another():
    with serving(lambda server, request: request + b"!") as port, connected(port) as exchange:
        assert [exchange(b"%d" % i) for i in range(500)] == [b"%d!" % i for i in range(500)]


def test_an_error_of_the_server_closes():
    def fail(server, request):
        raise RuntimeError("scripted")

    with serving(fail) as port, connected(port) as exchange, pytest.raises(Closed, match="refused"):
        exchange(b"anything")


def test_a_server_that_goes_closes():
    def leave(server, request):
        server.stop(None)
        return b""

    def twice(exchange):
        exchange(b"one")
        exchange(b"two")

    with serving(leave) as port, connected(port) as exchange, pytest.raises(Closed):
        twice(exchange)


def test_nobody_who_listens_is_told_with_the_port(monkeypatch):
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.05)
    with pytest.raises(UserError, match="No trainer listened on port 1 "), connected(1):
        pass
