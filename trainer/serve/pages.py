"""What the endpoint says of itself: `/`, `/docs`, `/openapi.json`, `/metrics` and `/ping`."""

from __future__ import annotations

import functools
import json

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from envs.spec import UserError
from trainer.config.schema import ServeConfig
from trainer.serve import docs_page, start_page
from trainer.serve.metrics import CONTENT_TYPE, Metrics
from trainer.serve.onnx_policy import Model
from trainer.serve.openapi import metrics_docs, ping_docs, start_docs
from trainer.serve.requests import Limits, answer


def add_pages(app: FastAPI, model: Model, config: ServeConfig, limits: Limits, metrics: Metrics) -> None:
    """Adds all that is asked by GET. The description is made once: it would be written anew for each client."""
    exported = model.exported
    schema = functools.cache(lambda: json.dumps(app.openapi()).encode())
    docs = functools.cache(lambda: docs_page.docs_page(app.openapi()).encode())

    @functools.cache
    def reply() -> bytes | None:
        body = start_page.example(exported)
        try:
            return answer(model, body, limits).body if body else None
        except UserError:  # the policy answers zeros with NaN
            return None

    @app.get("/", openapi_extra=start_docs(), response_class=PlainTextResponse)
    async def start(request: Request) -> Response:
        """Returns a request to paste into a shell, and what the model takes and gives."""
        host = start_page.host_of(request.headers.get("host", ""), f"localhost:{config.port}")
        parts = start_page.sections(exported, reply(), host)
        headers = {"Vary": "Accept"}
        if "text/html" in request.headers.get("accept", ""):
            headers["Content-Security-Policy"] = start_page.CONTENT_SECURITY_POLICY
            return Response(start_page.as_html(app.title, parts), headers=headers, media_type="text/html")
        return Response(start_page.as_text(app.title, parts, host), headers=headers, media_type="text/plain")

    @app.get("/ping", openapi_extra=ping_docs())
    async def ping() -> dict[str, str]:
        """Returns whether the model is there."""
        return {"status": "ok"}

    @app.get("/metrics", openapi_extra=metrics_docs(), response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Returns what Prometheus reads: requests by status, their seconds, rows, and what waits."""
        return Response(metrics.page(exported.spec.name), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/docs", include_in_schema=False)
    async def description() -> Response:
        """Returns a page for people, with the whole schema."""
        headers = {"Content-Security-Policy": docs_page.CONTENT_SECURITY_POLICY}
        return Response(docs(), media_type="text/html", headers=headers)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        """Returns the description for programs."""
        return Response(schema(), media_type="application/json")
