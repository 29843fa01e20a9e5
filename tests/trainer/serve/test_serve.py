"""The endpoint as a process of its own, in which torch cannot be imported."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from algorithms.onnx.build import build_model
from envs.spec import BehaviorSpec
from tests.algorithms.test_numpy_policy import VECTOR, policy_of
from trainer.serve.__main__ import main

WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from trainer.serve.__main__ import main; sys.exit(main(sys.argv[1:]))"
)
POST = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n"
GOOD = {"observations": [[1, 2, 3, 4], [5, 6, 7, 8]]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("model") / "Toy = 1.onnx"
    spec = BehaviorSpec("Toy", (VECTOR,), 2, (2, 3), True)
    file.write_bytes(build_model(policy_of(spec, "sac"), False).SerializeToString())
    return file


@contextmanager
def serving(model: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server that is up, and its port."""
    command = [sys.executable, "-c", WITHOUT_TORCH, f"model={model}", "port=0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith(f"serving Toy from {model} on http://127.0.0.1:")
            yield server, int(line.rpartition(":")[2].partition("/")[0])
        finally:
            server.kill()


@pytest.fixture(scope="module")
def port(model) -> Iterator[int]:
    with serving(model, "max_body_mib=0.01", "request_seconds=3") as (_, port):
        yield port


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, dict]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=200)) as connection:
        connection.request(method, path, body)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())


def assert_lives(port: int) -> None:
    status, reply = ask(port, "POST", "/invocations", json.dumps(GOOD).encode())
    assert status == 200
    assert [len(reply["continuous_actions"]), len(reply["discrete_actions"])] == [2, 2]


def test_it_answers_pings_and_requests_without_torch(port):
    assert ask(port, "GET", "/ping") == (200, {"status": "ok"})
    assert_lives(port)


def test_one_connection_serves_many_requests(port):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=200)) as connection:
        for _ in range(20):
            connection.request("POST", "/invocations", json.dumps(GOOD))
            reply = connection.getresponse()
            assert reply.status == 200
            assert not reply.will_close
            reply.read()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the body is not JSON"),
        (
            b'{"observations": [[1, 2, 3]]}',
            "observations has shape [1, 3]: observations must be numbers of shape [N, 4]",
        ),
        (b'{"observations": [[1, 2, 3, NaN]]}', "observations[0][3] is nan: only finite numbers will do"),
        (b'{"observations": [[1, 2, 3, 4]], "action_masks": [[0, 0, 1, 1, 1]]}', "action_masks[0] allows no choice"),
    ],
)
def test_bad_requests_are_told_what_would_be_right_and_it_lives_on(port, body, words):
    status, reply = ask(port, "POST", "/invocations", body)
    assert status == 400
    assert words in reply["error"]
    assert_lives(port)


def raw(port: int, *parts: bytes) -> bytes:
    """What is replied to bytes, sent as they are, until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=200) as connection:
        for part in parts:
            connection.sendall(part)
        reply = b""
        while more := connection.recv(65536):
            reply += more
    return reply


def test_a_body_that_is_too_large_is_refused_before_it_has_come(port):
    announced = raw(port, POST + b"Content-Length: 1000000000\r\n\r\n", b"[" * 20_000)
    assert announced.startswith(b"HTTP/1.1 413")
    assert b"the body is larger than 10,485 bytes: send fewer rows, or raise max_body_mib" in announced
    chunk = b"1000\r\n" + b"[" * 4096 + b"\r\n"
    chunked = raw(port, POST + b"Transfer-Encoding: chunked\r\n\r\n", chunk * 3)
    assert chunked.startswith(b"HTTP/1.1 413")
    assert_lives(port)


def test_a_request_that_never_ends_is_given_up(port):
    reply = raw(port, POST + b"Content-Length: 100\r\n\r\n", b'{"observations": ')
    assert reply.startswith(b"HTTP/1.1 408")
    assert b"the request took more than 3 s to arrive" in reply
    assert_lives(port)


@pytest.mark.parametrize("words", [b"", b"GET /ping HT", b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX: a", b"\r\n"])
def test_a_connection_that_stays_silent_is_given_up(port, words):
    assert raw(port, words).startswith(b"HTTP/1.1 408")
    assert_lives(port)


PING = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "words",
    [
        PING + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        PING + b"X: " + b"a" * 70_000,
        PING + b"X: abcd\r\n" * 101 + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 70_000,
    ],
    ids=["value", "value, unfinished", "number", "path", "path, unfinished"],
)
def test_a_head_that_is_too_large_is_refused(port, words):
    assert raw(port, words).startswith(b"HTTP/1.1 431")
    assert_lives(port)


def test_headers_just_below_the_bound_are_taken(port):
    head = PING + b"X: " + b"a" * 60_000 + b"\r\nConnection: close\r\n\r\n"
    assert raw(port, head).startswith(b"HTTP/1.1 200")


def takes(port: int, first: bytes, more: bytes) -> bool:
    """Whether the server takes something again and again, and never hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=200) as connection:
        try:
            connection.sendall(first)
            for _ in range(10_000):
                connection.sendall(more)
        except ConnectionError:
            return False
    return True


def test_a_trailer_without_end_is_cut_off(port):
    chunk = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: "
    assert not takes(port, chunk, b"a" * 65536)
    assert_lives(port)


def test_requests_that_nobody_waits_for_are_not_collected(port):
    assert not takes(port, b"", (PING + b"\r\n") * 1000)
    assert_lives(port)


def hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False


@pytest.mark.skipif(os.name == "nt", reason="Windows counts files otherwise")
def test_silent_connections_keep_nobody_out_and_are_logged(model):
    with serving(model, "request_seconds=100") as (server, port):
        silent = [socket.create_connection(("127.0.0.1", port), timeout=200) for _ in range(530)]
        try:
            silent[-1].sendall(b"GET /ping HT")
            assert_lives(port)
            silent[0].settimeout(0.1)
            while not hung_up(silent[0]):
                silent.append(socket.create_connection(("127.0.0.1", port), timeout=200))
            assert_lives(port)
        finally:
            for connection in silent:
                connection.close()
        server.send_signal(signal.SIGTERM)
        assert server.wait(200) == 0
        assert server.stderr is not None
        log = server.stderr.read()
        assert (
            "connections are open, as many as there may be: the one that has been silent for longest is closed" in log
        )
        assert log.count("\n") == 1


@pytest.mark.skipif(os.name == "nt" or shutil.which("curl") is None, reason="a shell and curl are needed")
def test_the_request_of_the_first_page_works_when_pasted(port):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=200)) as connection:
        connection.request("GET", "/")
        page = connection.getresponse().read().decode()
    command = page.partition("(bash, zsh):\n")[2].partition("\n\n")[0]
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout == page.partition("It answers:\n  ")[2].partition("\n")[0]


def test_log_and_metrics_tell_of_each_request_and_of_what_is_none(model):
    with serving(model, "access_log=true", "request_seconds=1") as (server, port):
        assert_lives(port)
        assert raw(port, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
        assert raw(port, b"GET /pi").startswith(b"HTTP/1.1 408")
        metrics = raw(port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").decode()
        for line in (
            'outstep_requests_total{path="/invocations",status="200"} 1',
            'outstep_requests_total{path="other",status="400"} 1',
            'outstep_requests_total{path="other",status="408"} 1',
            'outstep_closed_connections_total{reason="slow request"} 1',
            "outstep_rows_total 2",
            "outstep_connections 1",
        ):
            assert f"{line}\n" in metrics
        server.send_signal(signal.SIGTERM)
        assert server.wait(200) == 0
        assert server.stdout is not None
        log = [re.sub(r" - - \[.*?\]|( \d+)? [\d.]+$", "", line) for line in server.stdout.read().splitlines()]
    requests = ["POST /invocations HTTP/1.1", "-", "-", "GET /metrics HTTP/1.1"]
    assert log == [f'127.0.0.1 "{line}" {status}' for line, status in zip(requests, (200, 400, 408, 200))]


def test_other_hosts_are_refused(port):
    reply = raw(port, b"GET /ping HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 400")
    assert b"Host is evil.example: use an address of the server, or add the name to allowed_hosts" in reply


@pytest.mark.extras
@pytest.mark.timeout(1200)
def test_schemathesis_finds_nothing(model, tmp_path):
    pytest.importorskip("schemathesis")
    options = ["-n", "1000", "--continue-on-failure", "--suppress-health-check", "all", "--no-color"]
    with serving(model) as (_, port):
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1100, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "No issues found" in done.stdout


def test_clients_that_hang_up_or_talk_nonsense_harm_nobody(port):
    half = POST + b"Content-Length: 100\r\n\r\n{"
    for words in (half, b"\x16\x03\x01\x02\x00\x01\x00", b"GET"):
        with socket.create_connection(("127.0.0.1", port), timeout=200) as connection:
            connection.sendall(words)
    assert_lives(port)
    assert ask(port, "GET", "/other")[0] == 404
    assert ask(port, "GET", "/invocations")[0] == 405


def test_its_description_has_the_models_own_shapes_and_examples_that_work(port):
    status, page = ask(port, "GET", "/openapi.json")
    assert status == 200
    assert "observes `vector` float32[4]; acts by 2 continuous actions from -1 to 1" in page["info"]["description"]
    body = page["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
    fields = body["schema"]["oneOf"][0]["properties"]
    assert fields["observations"]["items"]["minItems"] == fields["observations"]["items"]["maxItems"] == 4
    assert fields["action_masks"]["items"]["minItems"] == 5
    for example in body["examples"].values():
        assert ask(port, "POST", "/invocations", json.dumps(example["value"]).encode())[0] == 200


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=200).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_asked_and_first_answers_what_is_under_way(model, number):
    with serving(model) as (server, port):
        body = json.dumps(GOOD).encode()
        with socket.create_connection(("127.0.0.1", port), timeout=200) as connection:
            head = POST + f"Content-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head + body[:5])
            assert ask(port, "GET", "/ping")[0] == 200  # the first one's beginning has been read by now
            server.send_signal(number)
            while listens(port):
                pass
            connection.sendall(body[5:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert server.wait(200) == 0
        assert server.stderr is not None
        assert server.stderr.read() == ""


def test_what_cannot_be_served_is_one_message_and_status_2(model, tmp_path, capsys):
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:-200])
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(model.read_bytes().replace(b"outstep", b"someone"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = {
            (): "model is missing: give it, for example model=Game.onnx",
            (f"model={tmp_path / 'none.onnx'}",): "cannot be read (No such file or directory): name an .onnx file",
            (f"model={tmp_path}",): "cannot be read (Is a directory): name an .onnx file",
            (f"model={tmp_path / 'text.onnx'}",): "is not an ONNX model, or damaged (",
            (f"model={tmp_path / 'cut.onnx'}",): "is not an ONNX model, or damaged (",
            (f"model={foreign}",): "is not a model of ours: write one with outstep export",
            (
                f"model={model}",
                f"port={port}",
            ): f"host=127.0.0.1 port={port} cannot be listened on (Address already in use)",
            (f"model={model}", "port=70000"): "port=70000 must lie between 0 and 65535",
            (f"model={model}", "port=0", "host=203.0.113.7"): "host=203.0.113.7 port=0 cannot be listened on (",
            (f"model={model}", "max_body_mib=0"): "max_body_mib=0.0 must be above 0",
            (f"model={model}", "request_seconds=-1"): "request_seconds=-1.0 must be above 0",
        }
        for words, message in refused.items():
            assert main(list(words)) == 2
            err = capsys.readouterr().err
            assert message in err
            assert err.startswith("error: ")
            assert err.count("\n") == 1


def test_missing_libraries_are_named(model, monkeypatch, capsys):
    for module, words in {
        "onnxruntime": "onnxruntime is missing",
        "fastapi": "the endpoint's libraries are missing",
    }.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            patch.delitem(sys.modules, "trainer.serve.app", raising=False)
            assert main([f"model={model}", "port=0"]) == 2
            err = capsys.readouterr().err
            assert words in err
            assert "pip install 'outstep[serve]'" in err
