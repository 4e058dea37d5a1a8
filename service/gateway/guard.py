"""Around the whole application: how much is read, when work stops, what browsers are told, what operators see."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import MutableMapping
from typing import Any

from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import SECONDS

log = logging.getLogger(__name__)
CLIENT_GONE = 499  # nginx's number; nobody reads it but the operator
HELD_BYTES = 64 << 20  # of all bodies in memory at a time; a single one may be larger
BODY_SECONDS = 60.0  # that a client may take for the next part of a body
# Nothing from elsewhere and nothing inline: a text that came into a page as markup could do nothing.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


class GatewayMetrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("nmt_http_requests", "Answered requests.", ("path", "status"), registry=registry)
        self.seconds = Histogram(
            "nmt_http_seconds",
            "From a request's head to its answer's end.",
            ("path",),
            buckets=SECONDS,
            registry=registry,
        )


class Guard:
    """Reads the body first, at most ``limits[path]`` or else ``limit`` bytes; cancels the work, and with it the call to
    the server, when the client goes away."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics, limit: int, limits: dict[str, int]) -> None:
        self._app, self._metrics, self._limit, self._limits = app, metrics, limit, limits
        self._held = 0  # bytes of bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begin, status = time.monotonic(), 0
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the HTTP server leaves the body out

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                known = {name for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in known)]
            await send(message)

        try:
            if not await self._run(scope, receive, send_guarded):
                status = CLIENT_GONE
        except Exception as error:
            log.error("a request failed", exc_info=error)  # after its answer, 500
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(path, status or CLIENT_GONE).inc()
            self._metrics.seconds.labels(path).observe(time.monotonic() - begin)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """False where the client went away before its answer was complete."""
        body = bytearray()
        try:
            if refusal := await self._read(body, self._limits.get(scope["path"], self._limit), receive):
                await refusal(scope, receive, send)
                return True
            return await self._answer(body, scope, receive, send)
        except ClientDisconnect:
            return False
        finally:
            self._held -= len(body)

    async def _read(self, body: bytearray, limit: int, receive: Receive) -> JSONResponse | None:
        """Read a body; the answer where it is not taken. Raises ClientDisconnect."""
        more = True
        while more:
            try:
                message = await asyncio.wait_for(receive(), BODY_SECONDS)
            except TimeoutError:
                return JSONResponse(
                    {"error": f"no more of the request came for {BODY_SECONDS:g} s; send it again"}, 408
                )
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part = message.get("body", b"")
            body += part
            self._held += len(part)
            more = message.get("more_body", False)
            if len(body) > limit:
                return JSONResponse({"error": f"more than {limit} bytes, the limit of a request; send less"}, 413)
            if self._held > HELD_BYTES and self._held > len(body):
                error = {"error": "too much is being sent at once; try again in a moment"}
                return JSONResponse(error, 503, {"Retry-After": "1"})
        return None

    async def _answer(self, body: bytearray, scope: Scope, receive: Receive, send: Send) -> bool:
        given = False

        async def receive_again() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": bytes(body), "more_body": False}
            return await asyncio.shield(gone)

        complete = False

        async def send_on(message: MutableMapping[str, Any]) -> None:
            nonlocal complete
            await send(message)
            complete = complete or (message["type"] == "http.response.body" and not message.get("more_body", False))

        gone = asyncio.ensure_future(disconnect(receive))
        work = asyncio.ensure_future(self._app(scope, receive_again, send_on))
        try:
            await asyncio.wait((gone, work), return_when=asyncio.FIRST_COMPLETED)
            if work.done() or complete:  # after a whole answer the server, too, says that the client is gone
                await work
                return True
            return False
        finally:
            for task in (gone, work):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task


async def disconnect(receive: Receive) -> Message:
    while (message := await receive())["type"] != "http.disconnect":
        pass
    return message
