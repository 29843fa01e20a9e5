"""The log of requests."""

from __future__ import annotations

import os
import re

import pytest

pytest.importorskip("starlette")

from trainer.serve.access_log import _MOST_LINES, AccessLog, first_line


def read_all(descriptor: int) -> str:
    with open(descriptor, "rb") as file:
        return file.read().decode()


def test_each_request_is_a_line_of_the_common_log_format():
    ours, theirs = os.pipe()
    log = AccessLog(theirs)
    log.add("127.0.0.1", "POST /invocations HTTP/1.1", 200, 30, 0.0012)
    log.add("::1", "GET /x HTTP/1.1", 404, 22, 0.0)
    log.close()
    os.close(theirs)
    first, second = read_all(ours).splitlines()
    pattern = (
        r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "POST /invocations HTTP/1.1" 200 30 0\.001200'
    )
    assert re.fullmatch(pattern, first)
    assert second.startswith("::1 - - [")


def test_a_log_that_nobody_reads_stops_nobody_and_says_what_it_left_out():
    ours, theirs = os.pipe()
    log = AccessLog(theirs)
    for _ in range(4 * _MOST_LINES):
        log.add("127.0.0.1", "GET /ping HTTP/1.1", 200, 15, 0.0)
    assert len(log._lines) <= _MOST_LINES
    log.close()  # which waits for a reader, and gives up
    text = b""
    while b"not listed" not in text:
        text += os.read(ours, 2**16)
    lines, left_out = text.count(b"/ping"), int(re.search(rb"^(\d+) requests are not listed", text, re.MULTILINE)[1])
    assert lines + left_out == 4 * _MOST_LINES


def test_a_log_whose_reader_is_gone_stops_nobody():
    ours, theirs = os.pipe()
    os.close(ours)
    log = AccessLog(theirs)
    log.add("127.0.0.1", "GET /ping HTTP/1.1", 200, 15, 0.0)
    log.close()
    assert not log._lines


@pytest.mark.parametrize(
    ("path", "query", "shown"),
    [
        (b"/ping", b"", "/ping"),
        (b"/ping", b"a=b", "/ping?a=b"),
        (b'/"\\', b"\x1b[31m", r"/\x22\x5c?\x5cx1b[31m"),
        (b"/" + b"a" * 60_000, b"b", "/" + "a" * 199 + "..."),
    ],
)
def test_what_a_client_asks_is_cut_short_and_escaped(path, query, shown):
    scope = {"method": "GET", "raw_path": path, "query_string": query, "http_version": "1.1"}
    assert first_line(scope) == f"GET {shown} HTTP/1.1"
