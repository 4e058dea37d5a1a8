"""Bodies of requests: forms or JSON, read into models, described for OpenAPI, and refused in LibreTranslate's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException as StarletteHTTPException

from service.documents.record import DOCUMENT_BYTES
from service.gateway import schemas

MAX_FIELDS = 10_000  # of a form; above the number of texts that a server takes
FORM, FILE_FORM, JSON = "application/x-www-form-urlencoded", "multipart/form-data", "application/json"
MODELS = (schemas.TranslateBody, schemas.DetectBody, schemas.ExplainBody, schemas.FileBody)
Body = TypeVar("Body", bound=BaseModel)


async def form_of(request: Request) -> Any:
    try:
        # Guard has read it already, up to its limit
        return await request.form(max_fields=MAX_FIELDS, max_part_size=DOCUMENT_BYTES)
    except StarletteHTTPException:
        raise
    except Exception as error:  # python-multipart has errors of several kinds
        raise HTTPException(400, f"the form cannot be read: {error}") from None


def reader(model: type[Body]) -> Callable[[Request], Any]:
    """The body, a form or JSON, as a model; 400 names what is wrong."""

    async def read(request: Request) -> Body:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
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
            raise HTTPException(400, first_of(error.errors(include_input=False, include_url=False))) from None
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
