"""The HTTP side of the endpoint: `/invocations`, and pages that describe the server (`trainer/serve/pages.py`).

A short request takes tens of microseconds, less than handing it to a thread would: it is answered where requests are
read. Longer ones are answered by one thread, one after another, while `/ping` and short ones go on.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from envs.spec import UserError
from trainer.config.schema import ServeConfig
from trainer.serve.arrays import cut
from trainer.serve.budget import CLIENT_GONE, Budget, Busy, WithinBudget
from trainer.serve.hosts import AllowedHosts
from trainer.serve.metrics import Metrics
from trainer.serve.observed import Observed, Observer
from trainer.serve.onnx_policy import Model
from trainer.serve.openapi import description, invocation_docs
from trainer.serve.pages import add_pages
from trainer.serve.requests import Limits, Reply, RowsDiffer, TooLarge, answer, is_short, reply_row_bytes

_SHORT_SECONDS = 0.001
"""How long a pass may take where requests are read."""
_MOST_SHORT_ROWS = 64
_SHORT_REPLY = 2**14
"""Bytes of a reply that may be written there."""


def make_app(model: Model, config: ServeConfig, observer: Observer | None = None) -> FastAPI:
    """Returns an application that answers requests with the actions of `model`; UserError if the model cannot act.

    `observer` is told of each request; None = only `/metrics` tells of them.
    """
    exported = model.exported
    limits = Limits.of(exported, config.max_rows, int(config.max_body_mib * 2**20))
    budget, observer = Budget(limits.body), observer or Observer()
    app = FastAPI(
        title=f"Outstep: {exported.spec.name}",
        description=description(exported),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(WithinBudget, budget=budget)
    app.add_middleware(AllowedHosts, host=config.host, names=config.allowed_hosts)
    app.add_middleware(Observed, observer=observer)
    observer.metrics.gauges |= budget.gauges()
    add_pages(app, model, config, limits, observer.metrics)
    invocations = _Invocations(model, limits, budget, observer.metrics)
    docs = invocation_docs(exported, limits)
    app.add_api_route("/invocations", invocations.post, methods=["POST"], name="invocations", openapi_extra=docs)
    return app


class _Invocations:
    """Answers requests for actions."""

    def __init__(self, model: Model, limits: Limits, budget: Budget, metrics: Metrics) -> None:
        self._model, self._limits, self._budget, self._metrics = model, limits, budget, metrics
        self._short_rows = min(_short_rows(model), max(1, _SHORT_REPLY // reply_row_bytes(model.exported)))
        self._worker = ThreadPoolExecutor(1, "long_requests")
        self._alone = asyncio.Lock()

    async def post(self, request: Request) -> Response:
        """Returns actions for observations."""
        try:
            body = bytearray()  # Request.body() would keep its parts, and all of it
            async for part in request.stream():
                body += part
            if is_short(body, self._short_rows):
                reply = answer(self._model, body, self._limits)
            else:
                with self._budget.place():
                    reply = await self._answer_long(body)
            self._metrics.rows += reply.rows
            return Response(reply.body, media_type="application/json")
        except Busy as error:
            return _refusal(503, error)
        except RowsDiffer as error:
            return _refusal(409, error)
        except TooLarge as error:
            return _refusal(413, error)
        except UserError as error:
            return _refusal(400, error)
        except asyncio.CancelledError:  # the server has been asked to stop, and waits no longer
            return _refusal(503, UserError("the server stops"))
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)

    async def _answer_long(self, body: bytearray) -> Reply:
        async with self._alone:  # the reply before has been counted by now
            self._budget.check()  # others' replies may not have been read
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._worker, answer, self._model, body, self._limits)


def _short_rows(model: Model) -> int:
    """Returns how many rows a request may have that is answered where requests are read, by how long one row takes."""
    exported = model.exported
    row = [np.zeros((1, *o.shape), o.dtype) for o in exported.spec.observations]
    mask = np.ones((1, sum(exported.spec.branches)), np.bool_)
    memory = np.zeros((1, exported.memory_size), np.float32)
    seconds = float("inf")
    for _ in range(10):  # the first takes longer, and so do some on a busy machine
        start = time.perf_counter()
        try:
            chosen = model.act(row, mask, memory, deterministic=True)
        except Exception as error:  # onnxruntime's, of many kinds
            raise UserError(f"the model cannot act ({cut(error)}): export it again") from error
        seconds = min(seconds, time.perf_counter() - start)
    shapes = [array.shape for array in chosen]
    wanted = [(1, exported.spec.continuous_size), (1, len(exported.spec.branches)), memory.shape]
    if shapes != wanted:
        raise UserError(f"the model answers one row by arrays of shapes {shapes}, not {wanted}: export it again")
    return min(_MOST_SHORT_ROWS, int(_SHORT_SECONDS / seconds))


def _refusal(status: int, error: UserError) -> Response:
    # In ASCII: a client's own text may have characters that no encoding has.
    headers = {"Connection": "close"} if status in (413, 503) else None
    return Response(json.dumps({"error": str(error)}), status, headers, "application/json")
