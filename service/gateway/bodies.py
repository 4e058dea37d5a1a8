"""Bodies of requests: forms or JSON, read into models, described for OpenAPI, and refused in LibreTranslate's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException as StarletteHTTPException

from service.documents.record import DOCUMENT_BYTES
from service.gateway import schemas

MAX_FIELDS = 10_000  # of a form; above the number of texts that a server takes
FORM, FILE_FORM, JSON = "application/x-www-form-urlencoded", "multipart/form-data", "application/json"
MODELS = (schemas.TranslateBody, schemas.DetectBody, schemas.ExplainBody, schemas.FileBody)
Body = TypeVar("Body", bound=BaseModel)


def kind_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def form_of(request: Request) -> FormData:
    if kind_of(request) == FORM:
        return urlencoded(await request.body())
    try:
        # Guard has read it already, up to its limit
        return await request.form(max_fields=MAX_FIELDS, max_part_size=DOCUMENT_BYTES)
    except StarletteHTTPException:
        raise
    except Exception as error:  # python-multipart has errors of several kinds
        raise HTTPException(400, f"the form cannot be read: {error}") from None


def urlencoded(body: bytes) -> FormData:
    """The fields, in UTF-8 whether raw, as ``curl -d`` sends them, or percent-encoded. Starlette's parser takes raw
    bytes for Latin-1, and puts U+FFFD where encoded ones are not UTF-8. Guard limits the size."""
    fields = body.replace(b"+", b" ").split(b"&", MAX_FIELDS)
    if len(fields) > MAX_FIELDS:
        raise HTTPException(400, f"more than {MAX_FIELDS} fields, the limit of a form; send JSON or several requests")
    pairs = (field.partition(b"=") for field in fields if field)
    try:
        return FormData([(unquote_to_bytes(name).decode(), unquote_to_bytes(text).decode()) for name, _, text in pairs])
    except UnicodeDecodeError:
        raise HTTPException(400, "the form is not UTF-8; send its text in UTF-8, raw or percent-encoded") from None


def reader(model: type[Body]) -> Callable[[Request], Any]:
    """The body, a form or JSON, as a model; 400 names what is wrong."""

    async def read(request: Request) -> Body:
        kind = kind_of(request)
        try:
            if kind in (FORM, FILE_FORM):
                form = await form_of(request)
                lists: dict[str, list[Any]] = {}
                for name, value in form.multi_items():
                    lists.setdefault(name, []).append(value)
                return model.model_validate({name: found if found[1:] else found[0] for name, found in lists.items()})
            if kind in (JSON, ""):
                return model.model_validate_json(await request.body())
        except ValidationError as error:
            reason = first_of(error.errors(include_input=False, include_url=False))
            if kind == FORM and (await request.body()).lstrip().startswith(b"{"):  # curl -d calls all a form
                reason += f"; the body looks like JSON: send it with content-type: {JSON}"
            raise HTTPException(400, reason) from None
        raise HTTPException(415, f"content-type {kind} is not one of {JSON}, {FORM}, {FILE_FORM}")

    return read


def first_of(errors: Sequence[Any]) -> str:
    place = next((str(part) for part in errors[0]["loc"] if part != "query"), "the body")
    return f"{place}: {errors[0]['msg']}"


async def in_words(request: Request, error: Exception) -> JSONResponse:
    """LibreTranslate's form of an error."""
    if isinstance(error, RequestValidationError):
        return JSONResponse({"error": first_of(error.errors())}, 400)
    if isinstance(error, StarletteHTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": "the gateway failed; its log says why"}, 500)


def form_or_json(model: type[BaseModel]) -> dict[str, Any]:
    schema = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    return {"requestBody": {"required": True, "content": {JSON: schema, FORM: schema}}}


def file_form() -> dict[str, Any]:
    file = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
    fields = {"$ref": f"#/components/schemas/{schemas.FileBody.__name__}"}
    schema = {"schema": {"allOf": [file, fields]}}
    return {"requestBody": {"required": True, "content": {FILE_FORM: schema}}}


def openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's, and the bodies that are read as form or JSON, which it does not know."""
    if not app.openapi_schema:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        _, more = models_json_schema(
            [(model, "validation") for model in MODELS], ref_template="#/components/schemas/{model}"
        )
        schema["components"]["schemas"].update(more["$defs"])
        app.openapi_schema = schema
    return app.openapi_schema
