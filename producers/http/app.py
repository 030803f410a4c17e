"""The ingress's routes: reads a request within its bounds, has it answered in a thread, writes the answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from urllib.parse import unquote_to_bytes

import anyio
import anyio.to_thread
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from civicbus.names import DepartmentId
from civicbus.producers.http import answers
from civicbus.producers.http.answers import Answer
from civicbus.producers.http.ingress import Ingress
from civicbus.producers.http.intake import RETRY_AFTER_S
from civicbus.producers.http.metrics import REJECTED, SECONDS
from civicbus.producers.http.rejections import Kind, Rejected

# Requests at once; each may hold a body, and the threads of the first kind wait for the broker.
MOST_REQUESTS = 64
_WRITING_THREADS = 32
_READING_THREADS = 4
_BODY_WITHIN_S = 30.0

Act = Callable[[DepartmentId, bytes], Answer]
Handled = Callable[[Request], Awaitable[Response]]


def make_app(ingress: Ingress) -> FastAPI:
    """The ASGI application."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    writing, reading = anyio.CapacityLimiter(_WRITING_THREADS), anyio.CapacityLimiter(_READING_THREADS)
    answered = partial(_answered, ingress, anyio.CapacityLimiter(MOST_REQUESTS))

    @app.post("/v1/events")
    async def take_events(request: Request) -> Response:
        return await answered(request, writing, lambda by, body: ingress.take_events(by, request.headers, body))

    @app.put("/v1/datasets/{dataset}/records")
    async def put_records(request: Request, dataset: str) -> Response:
        return await answered(
            request, writing, lambda by, body: ingress.put_records(by, dataset, request.headers, body)
        )

    @app.delete("/v1/datasets/{dataset}/records/{key:path}")
    async def delete_record(request: Request, dataset: str, key: str) -> Response:
        return await answered(request, writing, lambda by, _: ingress.delete_record(by, dataset, key, request.headers))

    @app.get("/v1/receipts/{receipt}")
    async def show_receipt(request: Request, receipt: str) -> Response:
        return await answered(request, reading, lambda by, _: ingress.show_receipt(by, receipt))

    @app.get("/openapi.json")
    async def describe(request: Request) -> Response:
        return await answered(request, reading, lambda by, _: ingress.describe(by))

    app.add_exception_handler(HTTPException, _not_routed)
    app.add_exception_handler(Exception, _faulty)
    return app


async def _answered(
    ingress: Ingress, requests: anyio.CapacityLimiter, request: Request, threads: anyio.CapacityLimiter, act: Act
) -> Response:
    """Who sends is asked before the body is read."""
    try:
        _enter(requests, request)
        try:
            _refuse_unreadable(request)
            authorization = request.headers.get("authorization", "")
            sender = await anyio.to_thread.run_sync(ingress.sender, authorization)
            body = await _body(request, ingress.settings.body_bytes)
            with SECONDS.time():
                answer = await anyio.to_thread.run_sync(act, sender, body, limiter=threads)
        finally:
            requests.release_on_behalf_of(request)
    except Rejected as rejected:
        REJECTED.labels(rejected.kind.value).inc()
        answer = answers.problem(rejected)
    return _response(answer)


def _enter(requests: anyio.CapacityLimiter, request: Request) -> None:
    try:
        requests.acquire_on_behalf_of_nowait(request)
    except anyio.WouldBlock:
        raise Rejected(Kind.UNAVAILABLE, "too many requests at once", retry_after_s=RETRY_AFTER_S) from None


def _refuse_unreadable(request: Request) -> None:
    """What the framework would read as something else: a path in another encoding, a body that is compressed."""
    try:
        unquote_to_bytes(request.scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError:
        raise Rejected(Kind.NOT_FOUND, "the path is not UTF-8; write its characters so, percent-encoded") from None
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise Rejected(Kind.MEDIA_TYPE, "the body is compressed; send it as it is, without Content-Encoding")


async def _body(request: Request, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        with anyio.fail_after(_BODY_WITHIN_S):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise Rejected(Kind.TOO_LARGE, f"a request has at most {most} bytes")
                parts.append(part)
    except (TimeoutError, ClientDisconnect):
        raise Rejected(Kind.MALFORMED, f"the body did not come within {_BODY_WITHIN_S:g} s") from None
    return b"".join(parts)


def _response(answer: Answer) -> Response:
    content = json.dumps(answer.document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(content, answer.status, dict(answer.headers), answer.media_type)


async def _not_routed(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    kind = Kind.METHOD if status == answers.STATUSES[Kind.METHOD] else Kind.NOT_FOUND
    answer = answers.problem(Rejected(kind, "see /openapi.json for what is here"))
    allowed = error.headers if isinstance(error, HTTPException) and error.headers else {}
    return _response(replace(answer, headers={**answer.headers, **allowed}))


async def _faulty(_: Request, __: Exception) -> Response:
    """The fault itself is logged by the server, with its traceback."""
    return _response(answers.problem(Rejected(Kind.INTERNAL, "the ingress has a fault; its log has more")))
