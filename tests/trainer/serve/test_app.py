"""The endpoint's application, asked as a server asks it, in this process."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from contextlib import ExitStack
from typing import Any

import pytest

pytest.importorskip("fastapi")

from algorithms.onnx.build import build_model
from algorithms.settings import Cell, MemorySettings
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.algorithms.test_numpy_policy import VECTOR, policy_of
from trainer.config.schema import ServeConfig
from trainer.serve.app import make_app
from trainer.serve.budget import Budget, Busy
from trainer.serve.hosts import AllowedHosts
from trainer.serve.onnx_policy import Model

ROW = [1, 2, 3, 4]


def model_of(spec: BehaviorSpec) -> Model:
    return Model(build_model(policy_of(spec, "ppo"), False).SerializeToString(), "toy")


class Reader(asyncio.Event):
    """Set once clients read their replies; says how many replies have waited for it."""

    waited_for = 0


async def ask(
    app, method: str, path: str, body: bytes = b"", hosts: tuple[str, ...] = ("localhost",), headers=(), reads=None
) -> Any:
    """Returns status, headers and body of the application's reply; one of actions is read once `reads` is set."""
    headers = [*((b"host", host.encode()) for host in hosts), *((k.encode(), v.encode()) for k, v in headers)]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
    }
    sent: list[dict[str, Any]] = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)
        if reads is not None and sent[0]["status"] == 200 and "body" in message:
            reads.waited_for += 1
            await reads.wait()

    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(each.get("body", b"") for each in sent[1:])


def test_pings_and_short_requests_are_answered_while_a_long_one_is_under_way():
    model, may_go_on = model_of(BehaviorSpec("b", (VECTOR,), 2)), threading.Event()
    app, act = make_app(model, ServeConfig(model="toy")), model.act

    def slow(observations, *others):
        assert len(observations[0]) == 1 or may_go_on.wait(100)
        return act(observations, *others)

    model.act = slow

    async def run():
        long = asyncio.create_task(ask(app, "POST", "/invocations", json.dumps({"observations": [ROW] * 100}).encode()))
        await asyncio.sleep(0)
        assert (await ask(app, "GET", "/ping"))[0] == 200
        assert (await ask(app, "POST", "/invocations", json.dumps({"observations": [ROW]}).encode()))[0] == 200
        assert not long.done()
        may_go_on.set()
        return await long

    status, _, body = asyncio.run(run())
    assert status == 200
    assert len(json.loads(body)["continuous_actions"]) == 100


def test_a_refusal_repeats_text_that_no_encoding_has():
    app = make_app(model_of(BehaviorSpec("b", (VECTOR,), 2)), ServeConfig(model="toy"))
    status, _, body = asyncio.run(ask(app, "POST", "/invocations", rb'{"\ud800": 1}'))
    assert (status, json.loads(body)["error"].partition(";")[0]) == (400, "unknown field \\ud800")


def test_fields_of_different_rows_are_refused_by_a_status_of_their_own():
    app = make_app(model_of(BehaviorSpec("b", (VECTOR,), 0, (2,))), ServeConfig(model="toy"))
    body = json.dumps({"observations": [ROW], "action_masks": [[1, 1]] * 2}).encode()
    assert asyncio.run(ask(app, "POST", "/invocations", body))[0] == 409


def test_large_bodies_and_replies_share_a_budget():
    budget = Budget(100)
    budget.held = 100
    budget.check()
    budget.held += 1
    with pytest.raises(Busy, match="there are too many large requests at once: send it again later"):
        budget.check()


def test_so_many_long_requests_wait_for_each_other_and_no_more():
    budget = Budget(100)
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(budget.place())
        with pytest.raises(Busy, match="there are too many long requests at once: send it again later"):
            stack.enter_context(budget.place())
    with budget.place():
        pass


def test_at_most_one_long_reply_is_made_beyond_what_may_be_held():
    app = make_app(model_of(BehaviorSpec("b", (VECTOR,), 2)), ServeConfig(model="toy", max_body_mib=0.01, max_rows=100))
    body = json.dumps({"observations": [ROW] * 100}).encode()

    async def run():
        reads = Reader()
        many = [asyncio.create_task(ask(app, "POST", "/invocations", body, reads=reads)) for _ in range(20)]
        while reads.waited_for + sum(task.done() for task in many) < len(many):
            await asyncio.sleep(0.001)
        reads.set()
        return await asyncio.gather(*many)

    replies = asyncio.run(run())
    made = sum(len(reply) for status, _, reply in replies if status == 200)
    assert made <= 0.01 * 2**20 + max(len(reply) for _, _, reply in replies)
    assert [status for status, *_ in replies].count(503) > 10


def test_nothing_is_worked_out_for_clients_that_hang_up_at_once():
    model = model_of(BehaviorSpec("b", (VECTOR,), 2))
    app = make_app(model, ServeConfig(model="toy"))
    model.act = None  # whoever calls it fails
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": [(b"host", b"localhost")]}
    asyncio.run(app({**scope, "query_string": b""}, receive, send))
    assert sent[0]["status"] == 499


def test_a_ping_is_answered_before_most_of_hundreds_of_requests():
    app = make_app(model_of(BehaviorSpec("b", (VECTOR,), 2)), ServeConfig(model="toy"))
    body, done = json.dumps({"observations": [ROW]}).encode(), []

    async def note(name: str, *words) -> None:
        assert (await ask(app, *words))[0] == 200
        done.append(name)

    async def run():
        many = [asyncio.create_task(note("row", "POST", "/invocations", body)) for _ in range(300)]
        await asyncio.gather(*many, asyncio.create_task(note("ping", "GET", "/ping")))

    asyncio.run(run())
    assert len(done) == 301
    assert done.index("ping") < 150


def test_rows_with_a_long_reply_are_no_short_request():
    memory = MemorySettings(Cell["lstm"], 64)
    policy = policy_of(BehaviorSpec("b", (VECTOR,), 2), "ppo", memory=memory)
    model = Model(build_model(policy, False).SerializeToString(), "toy")
    here, act = [], model.act

    def noted(observations, *others, **more):
        here.append((len(observations[0]), threading.current_thread() is threading.main_thread()))
        return act(observations, *others, **more)

    app = make_app(model, ServeConfig(model="toy"))
    model.act = noted
    asyncio.run(ask(app, "POST", "/invocations", json.dumps({"observations": [ROW] * 60}).encode()))
    assert here == [(60, False)]


def test_the_description_of_many_branches_stays_short():
    model = model_of(BehaviorSpec("b", (VECTOR,), 0, (2,) * 300))
    schema = json.loads(asyncio.run(ask(make_app(model, ServeConfig(model="toy")), "GET", "/openapi.json"))[2])
    assert len(json.dumps(schema)) < 2**16


def test_a_model_that_cannot_act_is_refused_before_anything_listens():
    model = model_of(BehaviorSpec("b", (VECTOR,), 2))

    def broken(*_, **__):
        raise RuntimeError("no such operator")

    model.act = broken
    with pytest.raises(UserError, match=r"the model cannot act \(no such operator\): export it again"):
        make_app(model, ServeConfig(model="toy"))


def test_the_page_escapes_names_and_loads_nothing():
    name = "<script>alert(1)</script>\"'&"
    spec = BehaviorSpec(name, (ObservationSpec("<img src=x onerror=alert(2)>", (4,), "float32"),), 2)
    status, headers, body = asyncio.run(ask(make_app(model_of(spec), ServeConfig(model="toy")), "GET", "/docs"))
    page = body.decode()
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<img" not in page
    assert page.count("<script>") == page.count("</script>") == 1
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\(""", page)
    assert headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("listening", "names", "allowed", "refused"),
    [
        (
            "127.0.0.1",
            [],
            ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST."],
            ["evil.example", "10.1.2.3", "localhost.evil.example", "", "[", "localhost:x@evil.example"],
        ),
        ("0.0.0.0", [], ["localhost", "10.1.2.3:8080", "[fd00::1]"], ["evil.example", "10.1.2.3.evil.example"]),
        ("game.lan", ["*.example.com"], ["game.lan:80", "a.example.com"], ["example.com", "b.example.org"]),
        ("0.0.0.0", ["*"], ["anything.example", ""], []),
    ],
)
def test_only_expected_hosts_are_served(listening, names, allowed, refused):
    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    app = AllowedHosts(inner, listening, names)
    for host in allowed:
        assert asyncio.run(ask(app, "GET", "/ping", hosts=(host,)))[0] == 200, host
    for host in refused:
        status, _, body = asyncio.run(ask(app, "GET", "/ping", hosts=(host,)))
        assert status == 400, host
        assert "use an address of the server, or add the name to allowed_hosts" in json.loads(body)["error"]
    if refused:
        assert asyncio.run(ask(app, "GET", "/ping", hosts=()))[0] == 400
        assert asyncio.run(ask(app, "GET", "/ping", hosts=("localhost", "evil.example")))[0] == 400


def first_page(model: Model, accept: str, host: str = "localhost:8080", **settings: Any) -> tuple[dict[str, str], str]:
    app = make_app(model, ServeConfig(model="toy", **settings))
    status, headers, body = asyncio.run(ask(app, "GET", "/", hosts=(host,), headers=[("accept", accept)]))
    assert status == 200
    return headers, body.decode()


def test_the_first_page_is_text_in_a_terminal_and_html_in_a_browser():
    model = model_of(BehaviorSpec("Toy", (VECTOR,), 2, (2, 3)))
    headers, text = first_page(model, "*/*")
    assert headers["content-type"].partition(";")[0] == "text/plain"
    assert """curl -d '{"observations": [[0.0, 0.0, 0.0, 0.0]]}' 'http://localhost:8080/invocations'""" in text
    assert "Invoke-RestMethod 'http://localhost:8080/invocations' -Method Post" in text
    assert "observations   numbers, [N, 4]: N rows of vector" in text
    assert "discrete_actions    choices, [N, 2]: 0 to 1, 0 to 2" in text
    reply = re.search("It answers:\n  (.*)", text)
    assert len(json.loads(reply[1])["continuous_actions"][0]) == 2
    headers, page = first_page(model, "text/html,application/xhtml+xml;q=0.9")
    assert headers["content-type"].partition(";")[0] == "text/html"
    assert headers["vary"] == "Accept"
    assert "script" not in page + headers["content-security-policy"]


def test_the_first_page_escapes_the_names_of_a_model():
    name = "\x1b[31m<script>it's $(id)"
    model = model_of(BehaviorSpec(name, (ObservationSpec(name, (4,), "float32"), VECTOR), 2))
    text = first_page(model, "*/*")[1]
    assert "\x1b" not in text
    bash = next(line for line in text.splitlines() if line.startswith("  curl"))
    assert bash.count("'") == 4  # around the body, and around the address
    assert json.loads(bash.split("'")[1])["observations"].keys() == {name, "vector"}
    assert "<script>" not in first_page(model, "text/html")[1]


@pytest.mark.parametrize("host", ["x'; id #", "$(id)", "a" * 300, "[::1", "a b", "a:x"])
def test_a_host_that_is_no_address_is_no_part_of_a_command(host):
    text = first_page(model_of(BehaviorSpec("b", (VECTOR,), 2)), "*/*", host, allowed_hosts=["*"])[1]
    assert "'http://localhost:8080/invocations'" in text
    assert host not in text


def test_requests_are_counted_by_path_and_status():
    app = make_app(model_of(BehaviorSpec('b\n"', (VECTOR,), 2)), ServeConfig(model="toy"))
    rows = json.dumps({"observations": [ROW] * 3}).encode()
    for body in (rows, rows, b"{"):
        asyncio.run(ask(app, "POST", "/invocations", body))
    for i in range(3):
        asyncio.run(ask(app, "GET", f"/{i}"))
    asyncio.run(ask(app, "GET", "/ping", hosts=("evil.example",)))
    _, headers, body = asyncio.run(ask(app, "GET", "/metrics"))
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = body.decode().splitlines()
    assert {
        r'outstep_model_info{name="b\\n\""} 1',
        'outstep_requests_total{path="/invocations",status="200"} 2',
        'outstep_requests_total{path="/invocations",status="400"} 1',
        'outstep_requests_total{path="other",status="404"} 3',
        'outstep_requests_total{path="/ping",status="400"} 1',
        'outstep_request_duration_seconds_bucket{le="+Inf"} 3',
        "outstep_request_duration_seconds_count 3",
        "outstep_rows_total 6",
        "outstep_long_requests 0",
    } <= set(lines)


@pytest.mark.extras
def test_prometheus_own_parser_reads_the_metrics():
    parser = pytest.importorskip("prometheus_client.parser")
    app = make_app(model_of(BehaviorSpec('b\\"', (VECTOR,), 2)), ServeConfig(model="toy"))
    asyncio.run(ask(app, "POST", "/invocations", json.dumps({"observations": [ROW]}).encode()))
    page = asyncio.run(ask(app, "GET", "/metrics"))[2].decode()
    families = {each.name: each for each in parser.text_string_to_metric_families(page)}
    assert families["outstep_model_info"].samples[0].labels == {"name": 'b\\"'}
    assert families["outstep_request_duration_seconds"].type == "histogram"
    durations = {each.name: each.value for each in families["outstep_request_duration_seconds"].samples}
    assert durations["outstep_request_duration_seconds_count"] == 1
    assert all(each.documentation and each.type in ("counter", "gauge", "histogram") for each in families.values())
