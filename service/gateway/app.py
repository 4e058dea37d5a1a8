"""LibreTranslate's API, answered by the gRPC service; and the web page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar

import fastapi_offline
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, JSONResponse
from google.protobuf.json_format import MessageToDict
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from protos.translation.v1 import translation_pb2 as pb
from service.documents.record import DOCUMENT_BYTES
from service.gateway import schemas
from service.gateway.backend import Backend
from service.gateway.callers import Callers
from service.gateway.config import GatewayConfig
from service.gateway.files import Files, suffixes
from service.gateway.guard import GatewayMetrics, Guard
from service.gateway.languages import name_of, with_formality

WEB = Path(__file__).parent.parent / "web"
SWAGGER = Path(fastapi_offline.__file__).parent / "static"
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
DETECTIONS = 16  # calls at a time for the texts of one request
UPLOAD_BYTES = DOCUMENT_BYTES + (64 << 10)  # the form around the file
GZIP_BYTES = 1000  # from this size on an answer is compressed

Body = TypeVar("Body", bound=BaseModel)
FORMS = (schemas.TranslateBody, schemas.DetectBody, schemas.ExplainBody, schemas.FileBody)


def create_app(config: GatewayConfig, metrics: GatewayMetrics | None = None) -> ASGIApp:
    """The whole gateway as an ASGI application."""

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.backend = backend = Backend(config)
        app.state.files = Files(backend)
        yield
        await backend.close()

    app = FastAPI(
        title="nmt",
        version="1",
        summary="Translation: LibreTranslate's API and extensions of our own.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        responses={status: {"model": schemas.Error} for status in (400, 403, 413, 429, 500, 501, 503, 504)},
    )
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    callers = Callers(config)
    add_api(app, config, callers)
    add_pages(app)
    for error in (StarletteHTTPException, RequestValidationError):
        app.add_exception_handler(error, in_words)
    inner: ASGIApp = GZipMiddleware(app, GZIP_BYTES)
    if config.cors_origins:
        origins = [origin.strip() for origin in config.cors_origins.split(",")]
        inner = CORSMiddleware(inner, origins, allow_methods=("*",), allow_headers=("*",))
    return Guard(inner, metrics or GatewayMetrics(), config.max_body_bytes, {"/translate_file": UPLOAD_BYTES})


def add_api(app: FastAPI, config: GatewayConfig, callers: Callers) -> None:
    def backend() -> Backend:
        found: Backend = app.state.backend
        return found

    def check_characters(texts: Sequence[str]) -> None:
        if (characters := sum(map(len, texts))) > config.max_characters:
            raise HTTPException(400, f"q: {characters} characters, the limit is {config.max_characters}; send less")

    @app.post("/translate", openapi_extra=form_or_json(schemas.TranslateBody), response_model_exclude_none=True)
    async def translate(
        request: Request, body: Annotated[schemas.TranslateBody, Depends(reader(schemas.TranslateBody))]
    ) -> schemas.TranslateAnswer:
        """Translate one text or several."""
        key = await callers.let_in(request, body.api_key)
        check_characters(body.texts)
        answer: pb.TranslateResponse = await backend().call("Translate", body.message(), key)
        found = answer.translations
        detected = None
        if body.source == "auto":
            detected = await detections(body.texts, [one.detected_language_code for one in found], body.format, key)
        many = isinstance(body.q, list)
        parts: dict[str, list[Any] | None] = {
            "translatedText": [one.translated_text for one in found],
            "detectedLanguage": detected,
            "alternatives": [[other.text for other in one.hypotheses[1:]] for one in found],
            "score": [one.score for one in found],
            "confidence": [math.exp(min(one.score, 0.0)) for one in found],
            "warnings": [[warned(warning) for warning in one.warnings] for one in found],
            "alignment": [[link(one) for one in translation.hypotheses[0].alignment] for translation in found]
            if body.alignment
            else None,
        }
        if not body.alternatives:
            parts["alternatives"] = None
        return schemas.TranslateAnswer(
            **{name: values if many or values is None else values[0] for name, values in parts.items()}
        )

    async def detections(texts: list[str], codes: list[str], format_: str, key: str) -> list[schemas.Detected]:
        """How sure the language of each text is."""
        turn = asyncio.Semaphore(DETECTIONS)

        async def one(text: str, code: str) -> schemas.Detected:
            if not code:
                return schemas.Detected(confidence=0, language="")
            request = pb.DetectLanguageRequest(content=text, mime_type=schemas.MIME_TYPES[format_])
            async with turn:
                found = (await backend().call("DetectLanguage", request, key)).languages
            confidence = next((language.confidence for language in found if language.language_code == code), 0.0)
            return schemas.Detected(confidence=percent(confidence), language=code)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(*pair)) for pair in zip(texts, codes, strict=True)]
        return [task.result() for task in tasks]

    @app.post("/detect", openapi_extra=form_or_json(schemas.DetectBody))
    async def detect(
        request: Request, body: Annotated[schemas.DetectBody, Depends(reader(schemas.DetectBody))]
    ) -> list[schemas.Detected]:
        """In which language a text is written, likeliest first."""
        key = await callers.let_in(request, body.api_key)
        check_characters([body.q])
        answer = await backend().call("DetectLanguage", pb.DetectLanguageRequest(content=body.q), key)
        return [
            schemas.Detected(confidence=percent(one.confidence), language=one.language_code) for one in answer.languages
        ]

    @app.post("/explain", openapi_extra=form_or_json(schemas.ExplainBody))
    async def explain(
        request: Request, body: Annotated[schemas.ExplainBody, Depends(reader(schemas.ExplainBody))]
    ) -> schemas.ExplainAnswer:
        """Extension: translate a sentence and give the attention weights behind it."""
        key = await callers.let_in(request, body.api_key)
        check_characters([body.q])
        answer: pb.ExplainResponse = await backend().call("Explain", body.message(), key)
        fields = MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        return schemas.ExplainAnswer(translatedText=answer.translation.translated_text, **fields)

    @app.post("/translate_file", openapi_extra=file_form())
    async def translate_file(request: Request) -> schemas.FileAnswer:
        """Translate a document; the answer says where to fetch it, for ten minutes."""
        form = await form_of(request)
        body = await reader(schemas.FileBody)(request)
        key = await callers.let_in(request, body.api_key)
        file = form.get("file")
        if file is None or isinstance(file, str):
            raise HTTPException(400, "file: missing; send the form as multipart/form-data")
        name = await app.state.files.translate(file.filename or "", await file.read(), body, key)
        return schemas.FileAnswer(translatedFileUrl=str(request.url_for("download_file", name=name)))

    @app.get("/download_file/{name}", response_class=Response)
    async def download_file(name: str) -> Response:
        """A document that /translate_file translated."""
        data: bytes | None = app.state.files.get(name)
        if data is None:
            raise HTTPException(404, "there is no such file, or no longer")
        return Response(
            data,
            media_type="application/octet-stream",
            headers={"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"},
        )

    @app.get("/languages")
    async def languages(request: Request, api_key: str = "") -> list[schemas.Language]:
        """The languages of the loaded models, and into which others each is translated."""
        key = callers.key_for_lists(request, api_key)
        answer = await backend().call("ListModels", pb.ListModelsRequest(), key)
        targets: dict[str, set[str]] = {}
        for pair in (pair for model in answer.models for pair in model.language_pairs):
            targets.setdefault(pair.source_language_code, set()).add(pair.target_language_code)
        formal = await with_formality(set().union(*targets.values()), backend(), key)
        return [
            schemas.Language(code=code, name=name_of(code), targets=sorted(targets[code]), formality=code in formal)
            for code in sorted(targets)
        ]

    @app.get("/frontend/settings")
    async def settings() -> dict[str, Any]:
        """What a page needs to know; as LibreTranslate's."""
        return {
            "apiKeys": callers.keys_wanted,
            "keyRequired": callers.keys_wanted,
            "charLimit": config.max_characters,
            "filesTranslation": True,
            "supportedFilesFormat": suffixes(),
            "frontendTimeout": 500,
            "suggestions": False,
            "language": {"source": {"code": "auto", "name": "Auto Detect"}, "target": {"code": "en", "name": "English"}},
        }

    @app.get("/health")
    async def health() -> schemas.Health:
        """503 unless the server itself says that it serves."""
        if not await backend().serving():
            raise HTTPException(503, "the translation server is not serving", {"Retry-After": "1"})
        return schemas.Health()


def add_pages(app: FastAPI) -> None:
    fresh = {"cache-control": "no-cache"}  # asked again each time, and answered 304

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return FileResponse(WEB / "index.html", headers=fresh)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(Path(__file__).parent / "docs.html", headers=fresh)

    @app.get("/docs.js", include_in_schema=False)
    async def docs_script() -> Response:
        return FileResponse(Path(__file__).parent / "docs.js", headers=fresh)

    app.mount("/assets", Fresh(directory=WEB / "assets", check_dir=False))
    app.mount("/swagger", Fresh(directory=SWAGGER))


class Fresh(StaticFiles):
    """Files that a browser asks for again each time; the answer is 304 while they are the same."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


async def form_of(request: Request) -> Any:
    try:
        return await request.form()
    except StarletteHTTPException:
        raise
    except Exception as error:  # python-multipart has errors of several kinds
        raise HTTPException(400, f"the form cannot be read: {error}") from None


def reader(model: type[Body]) -> Callable[[Request], Any]:
    """The body, a form or JSON, as a model; 400 names what is wrong."""

    async def read(request: Request) -> Body:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        values: Any
        if kind in FORM_TYPES:
            form = await form_of(request)
            values = {name: form.getlist(name) if len(form.getlist(name)) > 1 else form[name] for name in form}
        elif kind in ("application/json", ""):
            try:
                values = json.loads(await request.body())
            except (ValueError, RecursionError) as error:
                raise HTTPException(400, f"the body is not JSON: {error}") from None
        else:
            raise HTTPException(415, f"content-type {kind} is not one of application/json, {', '.join(FORM_TYPES)}")
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise HTTPException(400, first_of(error.errors(include_input=False, include_url=False))) from None

    return read


def first_of(errors: Sequence[Any]) -> str:
    place = next((str(part) for part in errors[0]["loc"] if part != "query"), "the body")
    return f"{place}: {errors[0]['msg']}"


async def in_words(request: Request, error: Exception) -> JSONResponse:
    """LibreTranslate's form of an error."""
    if isinstance(error, RequestValidationError):
        return JSONResponse({"error": first_of(error.errors())}, HTTPStatus.BAD_REQUEST)
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def percent(confidence: float) -> float:
    return round(100 * confidence, 1)


def warned(warning: pb.TranslationWarning) -> schemas.Warned:
    return schemas.Warned(code=pb.TranslationWarning.Code.Name(warning.code), detail=warning.detail)


def link(one: pb.AlignmentLink) -> schemas.Link:
    return one.source.start, one.source.end, one.target.start, one.target.end, one.weight


def form_or_json(model: type[BaseModel]) -> dict[str, Any]:
    schema = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    return {"requestBody": {"required": True, "content": {"application/json": schema, FORM_TYPES[0]: schema}}}


def file_form() -> dict[str, Any]:
    file = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
    fields = {"$ref": f"#/components/schemas/{schemas.FileBody.__name__}"}
    schema = {"schema": {"allOf": [file, fields]}}
    return {"requestBody": {"required": True, "content": {FORM_TYPES[1]: schema}}}


def openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's, and the bodies that are read as form or JSON, which it does not know."""
    if not app.openapi_schema:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        _, more = models_json_schema(
            [(model, "validation") for model in FORMS], ref_template="#/components/schemas/{model}"
        )
        schema["components"]["schemas"].update(more["$defs"])
        app.openapi_schema = schema
    return app.openapi_schema
