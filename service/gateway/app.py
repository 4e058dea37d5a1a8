"""The whole gateway as an ASGI application: the API, the web page, the page that describes the API."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from service.documents.record import DOCUMENT_BYTES
from service.gateway import schemas
from service.gateway.api import add_api
from service.gateway.backend import Backend
from service.gateway.bodies import in_words, openapi
from service.gateway.config import GatewayConfig
from service.gateway.files import Files
from service.gateway.guard import GatewayMetrics, Guard

HERE = Path(__file__).parent
WEB = HERE.parent / "web"
SWAGGER = Path(fastapi_offline.__file__).parent / "static"
UPLOAD_BYTES = DOCUMENT_BYTES + (64 << 10)  # the form around the file
GZIP_BYTES = 1000  # from this size on an answer is compressed


def create_app(config: GatewayConfig, metrics: GatewayMetrics | None = None) -> ASGIApp:
    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.backend = backend = Backend(config)
        app.state.files = Files(backend, config.max_characters)
        yield
        await backend.close()

    app = FastAPI(
        title="nmt",
        version="1",
        summary="Translation: LibreTranslate's API and extensions of our own.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        responses={status: {"model": schemas.Error} for status in (400, 403, 408, 413, 429, 500, 501, 503, 504)},
    )
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    add_api(app, config)
    add_pages(app)
    for error in (HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(error, in_words)
    limits = {"/translate_file": UPLOAD_BYTES}
    guarded = Guard(GZipMiddleware(app, GZIP_BYTES), metrics or GatewayMetrics(), config.max_body_bytes, limits)
    if not config.cors_origins:
        return guarded
    origins = [origin.strip() for origin in config.cors_origins.split(",")]
    return CORSMiddleware(guarded, origins, allow_methods=("*",), allow_headers=("*",), expose_headers=("Retry-After",))


def add_pages(app: FastAPI) -> None:
    web, docs = Fresh(directory=WEB, check_dir=False), Fresh(directory=HERE)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return await web.get_response("index.html", request.scope)

    @app.get("/docs", include_in_schema=False)
    async def describe(request: Request) -> Response:
        return await docs.get_response("docs.html", request.scope)

    @app.get("/docs.js", include_in_schema=False)
    async def describe_script(request: Request) -> Response:
        return await docs.get_response("docs.js", request.scope)

    app.mount("/assets", Fresh(directory=WEB / "assets", check_dir=False))
    app.mount("/swagger", Fresh(directory=SWAGGER))


class Fresh(StaticFiles):
    """Files that a browser asks for again each time; the answer is 304 while they are the same."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response
