"""The HTTP side of the endpoint: `/ping`, `/invocations`, and a page that describes them (`/docs`, `/openapi.json`).

A pass takes tens of microseconds, less than handing it to a thread would: it runs where requests are read.
"""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from envs.spec import UserError
from trainer.config.schema import ServeConfig
from trainer.serve.onnx_policy import Model
from trainer.serve.openapi import description, invocation_docs
from trainer.serve.requests import answer


def make_app(model: Model, config: ServeConfig) -> FastAPI:
    """Returns an application that answers requests with the actions of `model`."""
    app = FastAPI(title=f"Outstep: {model.exported.spec.name}", description=description(model.exported))
    largest = int(config.max_body_mib * 2**20)

    @app.get("/ping")
    async def ping() -> dict[str, str]:
        """Returns whether the model is there."""
        return {"status": "ok"}

    @app.post("/invocations", openapi_extra=invocation_docs(model.exported))
    async def invocations(request: Request) -> Response:
        """Returns actions for observations."""
        try:
            body = await asyncio.wait_for(_body(request, largest), config.request_seconds)
        except asyncio.TimeoutError:
            reason = f"the request took more than {config.request_seconds:g} s to arrive: send it faster"
            return _refusal(408, reason)
        except UserError as error:
            return _refusal(413, str(error))
        except ClientDisconnect:
            return Response(status_code=400)  # the client is gone
        try:
            return Response(answer(model, body), media_type="application/json")
        except UserError as error:
            return _refusal(400, str(error))

    return app


async def _body(request: Request, largest: int) -> bytes:
    """Returns the body; UserError if it is above the limit."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > largest:
            raise UserError(f"the body is larger than {largest:,} bytes: send fewer rows, or raise max_body_mib")
        parts.append(part)
    return b"".join(parts)


def _refusal(status: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, status, headers={"Connection": "close"} if status != 400 else None)
