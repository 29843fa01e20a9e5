"""Requests to the endpoint, the bytes that bring them, and models: inputs for fuzzing, and what takes them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from random import Random
from typing import Any

import onnx
from fastapi.dependencies import models
from uvicorn.server import ServerState

from algorithms.onnx.build import build_model
from algorithms.onnx.contract import METADATA
from algorithms.policy import Policy
from algorithms.settings import Cell, MemorySettings, NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec
from tests.stress.mutations import changed_bytes, changed_json, random_bytes
from trainer.config.schema import ServeConfig
from trainer.serve import start_page
from trainer.serve.access_log import AccessLog
from trainer.serve.app import make_app
from trainer.serve.connections import Connection, Settings
from trainer.serve.docs_page import docs_page
from trainer.serve.observed import Observer
from trainer.serve.onnx_policy import Model
from trainer.serve.requests import Limits, answer

_RANDOM = 0.05
"""Share of inputs that are random bytes."""
_LARGEST = 2**16
"""Bytes of a request."""
_LITERALS = [b"1e400", b"-1e400", b"3" * 400, b"3" * 5000, b"NaN", b"-Infinity", b"1e-400", b"0.1" + b"1" * 400]
_LITERALS += [b'"\\ud800"', b'"<script>"', b"[" * 1500, b'{"a":' * 1500, b"true", b"null", b"{}", b"[]", b"[[]]", b"-0"]
_ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be")


class Refused(Exception):
    """What a client sent was not answered by a status of success."""


class Requests:
    """Bodies, for a policy with all that a policy may have."""

    def __init__(self) -> None:
        observations = (
            ObservationSpec("vector", (4,), "float32"),
            ObservationSpec("größe", (2, 3), "float32"),
            ObservationSpec("camera", (5, 4, 3), "uint8", 1 / 255),
        )
        spec = BehaviorSpec("Runner", observations, 2, (3, 2), masked=True)
        settings = NetworkSettings([8], memory=MemorySettings(Cell["lstm"], 4))
        self._content: bytes = build_model(Policy(spec, settings, "ppo"), channels_last=True).SerializeToString()
        self.model = Model(self._content, "fuzzed")
        self._limits = Limits.of(self.model.exported, 64, _LARGEST)
        whole = [_request(rows) for rows in (1, 2, 5)]
        self.valid = [json.dumps(each).encode() for each in (*whole, *({"inputs": each} for each in whole))]

    def draw(self, random: Random) -> bytes:
        """A body with a value, a literal or any of its bytes changed, and perhaps in another encoding."""
        body = random.choice(self.valid)
        kind = random.random()
        if kind < _RANDOM:
            return random_bytes(random)
        if kind < 1 / 5:
            return changed_bytes(random, body, self.valid)
        if kind < 3 / 5:
            for _ in range(random.choice((1, 1, 2, 5))):
                body = changed_json(random, body)
        else:
            places = list(re.finditer(rb"\d+|true|null", body))
            place = random.choice(places)
            body = body[: place.start()] + random.choice(_LITERALS) + body[place.end() :]
        if random.random() < _RANDOM:
            body = body.decode("utf-8", "surrogatepass").encode(random.choice(_ENCODINGS), "surrogatepass")
        return body

    def take(self, body: bytes) -> None:
        """Answers it; a reply has to be JSON without NaN."""
        json.loads(answer(self.model, body, self._limits).body, parse_constant=_no_constant)

    def draw_model(self, random: Random) -> bytes:
        """A model with other metadata, or other bytes."""
        if random.random() < 1 / 5:
            return changed_bytes(random, self._content)
        model = onnx.load_from_string(self._content)
        entry = next(each for each in model.metadata_props if each.key == METADATA)
        if random.random() < 1 / 5:
            entry.value = changed_bytes(random, entry.value.encode()).decode("utf-8", "replace")
        else:
            for _ in range(random.choice((1, 1, 2, 5))):
                entry.value = changed_json(random, entry.value.encode()).decode()
        content: bytes = model.SerializeToString()
        return content

    def take_model(self, content: bytes) -> None:
        """Makes an application of it, as `outstep serve` does, and its pages."""
        model = Model(content, "fuzzed")
        app = make_app(model, ServeConfig(model="fuzzed"))
        json.dumps(app.openapi(), allow_nan=False)
        docs_page(app.openapi())
        parts = start_page.sections(model.exported, start_page.example(model.exported), "localhost")
        start_page.as_text(app.title, parts, "localhost")
        start_page.as_html(app.title, parts)
        for cache in vars(models).values():  # FastAPI's, which keep each application; a server makes one
            if hasattr(cache, "cache_clear"):
                cache.cache_clear()


class Clients:
    """What clients send, as it comes, to a server without sockets."""

    def __init__(self, requests: Requests) -> None:
        self._bodies = requests.valid
        self._loop = asyncio.new_event_loop()
        self._failures: list[str] = []
        self._loop.set_exception_handler(lambda loop, context: self._failures.append(str(context)))
        config = ServeConfig(model="fuzzed", max_body_mib=_LARGEST / 2**20)
        observer = Observer(log=AccessLog(os.open(os.devnull, os.O_WRONLY)))
        app = make_app(requests.model, config, observer)
        bounds: dict[str, Any] = {"request_seconds": 10.0, "most_connections": 10, "most_bytes": 2**22}
        self._settings = Settings(app, **bounds, observer=observer, lifespan="off", log_config=None)
        self._settings.load()
        logger = logging.getLogger("uvicorn.error")
        logger.addHandler(_Errors(self._failures))
        logger.propagate = False

    def draw(self, random: Random) -> list[bytes]:
        """Some requests, one after another, some of their bytes changed, and cut into pieces as they come."""
        data = b"".join(self._request(random) for _ in range(random.choice((1, 1, 2, 5, 40))))
        kind = random.random()
        if kind < _RANDOM:
            data = random_bytes(random)
        elif kind < 1 / 2:
            data = changed_bytes(random, data, self._bodies)
        cuts = sorted(random.randint(0, len(data)) for _ in range(random.choice((0, 1, 3, 20))))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)])]

    def take(self, pieces: list[bytes]) -> None:
        """Serves them; nothing may be raised or logged as an error."""
        self._failures.clear()
        replied = self._loop.run_until_complete(self._serve(pieces))
        if self._failures:
            raise AssertionError(self._failures[0])
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", replied)]
        if any(status >= 500 and status != 503 for status in statuses):
            raise AssertionError(f"it was replied {statuses}")
        if not any(status < 300 for status in statuses):
            raise Refused

    async def _serve(self, pieces: list[bytes]) -> bytes:
        state = ServerState()
        connection = Connection(self._settings, state, {}, self._loop)
        wire = _Wire(self._loop, connection)
        connection.connection_made(wire)  # type: ignore[arg-type]
        for piece in pieces:
            if piece and not wire.closing:
                connection.data_received(piece)
            await asyncio.sleep(0)
        while any(not task.done() for task in state.tasks) and connection.pipeline:
            await asyncio.sleep(0)
        wire.close()
        if state.tasks:
            await asyncio.wait(state.tasks)
        await asyncio.sleep(0)
        assert not self._settings.waiting
        return b"".join(wire.sent)

    def _request(self, random: Random) -> bytes:
        body = random.choice(self._bodies)
        method, path = random.choice(_TARGETS)
        headers = [b"Host: localhost", *random.sample(_HEADERS, random.choice((0, 0, 1, 2)))]
        if method == b"POST" and random.random() < 1 / 3:
            headers.append(b"Transfer-Encoding: chunked")
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:], b""))
        elif method == b"POST" or random.random() < _RANDOM:
            headers.append(b"Content-Length: %d" % random.choice((*[len(body)] * 6, 0, 5, len(body) + 1, 10**9)))
        else:
            body = b""
        random.shuffle(headers)
        return b"%b %b HTTP/1.1\r\n%b\r\n\r\n%b" % (method, path, b"\r\n".join(headers), body)


_TARGETS = [(b"POST", b"/invocations")] * 6 + [(b"GET", b"/ping")] * 3
_TARGETS += [(b"GET", path) for path in (b"/docs", b"/openapi.json", b"/ping/", b"/%00", b"//a/../ping?x=%ff")]
_TARGETS += [(method, b"/invocations") for method in (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"CONNECT")]
_HEADERS = [
    *(b"Host: evil.example", b"Host: [::1]:8080", b"Host: [", b"Expect: 100-continue", b"Content-Encoding: gzip"),
    *(b"Connection: close", b"Connection: Upgrade\r\nUpgrade: websocket", b"Connection: Upgrade\r\nUpgrade: h2c"),
    *(b"Content-Type: text/plain; charset=utf-16", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"X: \xff\x01"),
    b"X: " + b"a" * 2**16,
]


class _Wire:
    """Stands in for a transport: keeps what is written, and ends the connection when asked to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        self.sent: list[bytes] = []
        self.closing = False
        self._loop, self._connection = loop, connection

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name in ("sockname", "peername") else None

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if not self.closing:
            self.sent.append(bytes(data))

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._loop.call_soon(self._connection.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        """What was cut into pieces comes all the same, as what was read before does."""

    resume_reading = pause_reading


class _Errors(logging.Handler):
    """Notes each error that is logged."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._failures = failures

    def emit(self, record: logging.LogRecord) -> None:
        self._failures.append(f"{record.getMessage().strip()}: {record.exc_info and record.exc_info[1]!r}")


def _request(rows: int) -> dict[str, Any]:
    return {
        "observations": {
            "vector": [[0.5, -1, 2e3, 0]] * rows,
            "größe": [[[1, 2, 3], [4, 5, 6.5]]] * rows,
            "camera": [[[[7, 8, 255]] * 4] * 5] * rows,
        },
        "action_masks": [[1, 0, 1, True, False]] * rows,
        "deterministic": rows > 1,
        "memory": [[0.1] * 8] * rows,
    }


def _no_constant(name: str) -> float:
    raise AssertionError(f"the reply has {name}")
