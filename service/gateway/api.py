"""LibreTranslate's API, answered by the gRPC service."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response

from protos.translation.v1 import translation_pb2 as pb
from service.gateway import schemas
from service.gateway.backend import Backend, all_or_none
from service.gateway.bodies import file_form, form_of, form_or_json, reader
from service.gateway.callers import Callers
from service.gateway.config import GatewayConfig
from service.gateway.files import suffixes
from service.gateway.formality import with_formality
from service.languages import name_of

DETECTIONS_IN_FLIGHT = 16


def add_api(app: FastAPI, config: GatewayConfig) -> None:
    callers = Callers(config)

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
        detected: list[schemas.Detected] = []
        if not schemas.language(body.source):
            detected = await detections(body.texts, [one.detected_language_code for one in found], body.format, key)
        return schemas.TranslateAnswer.model_validate(
            {name: values if isinstance(body.q, list) else values[0] for name, values in columns(body, found, detected)}
        )

    async def detections(texts: list[str], codes: list[str], format_: str, key: str) -> list[schemas.Detected]:
        """How sure the language of each text is."""
        turn = asyncio.Semaphore(DETECTIONS_IN_FLIGHT)

        async def one(text: str, code: str) -> schemas.Detected:
            if not code:
                return schemas.Detected(confidence=0, language="")
            request = pb.DetectLanguageRequest(content=text, mime_type=schemas.MIME_TYPES[format_])
            async with turn:
                found = (await backend().call("DetectLanguage", request, key)).languages
            confidence = next((language.confidence for language in found if language.language_code == code), 0.0)
            return schemas.Detected(confidence=percent(confidence), language=code)

        return await all_or_none(one(text, code) for text, code in zip(texts, codes, strict=True))

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
        return await asyncio.to_thread(schemas.ExplainAnswer.of, answer)  # of a long sentence a million weights

    @app.post("/translate_file", openapi_extra=file_form())
    async def translate_file(request: Request) -> schemas.FileAnswer:
        """Translate a document; the answer says where to fetch it, for ten minutes."""
        body = await reader(schemas.FileBody)(request)
        key = await callers.let_in(request, body.api_key)
        file = (await form_of(request)).get("file")
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
            "language": {
                "source": {"code": "auto", "name": "Auto Detect"},
                "target": {"code": "en", "name": "English"},
            },
        }

    @app.get("/health")
    async def health() -> schemas.Health:
        """503 unless the server itself says that it serves."""
        if not await backend().serving():
            raise HTTPException(503, "the translation server is not serving", {"Retry-After": "1"})
        return schemas.Health()


def columns(
    body: schemas.TranslateBody, found: Sequence[pb.Translation], detected: Sequence[schemas.Detected]
) -> Iterator[tuple[str, Sequence[Any]]]:
    """The fields of the answer, each for all texts."""
    yield "translatedText", [one.translated_text for one in found]
    yield "score", [one.score for one in found]
    yield "confidence", [math.exp(min(one.score, 0.0)) for one in found]
    yield "warnings", [[warned(warning) for warning in one.warnings] for one in found]
    if detected:
        yield "detectedLanguage", detected
    if body.alternatives:
        yield "alternatives", [[other.text for other in one.hypotheses[1:]] for one in found]
    if body.alignment:
        yield "alignment", [[link(one) for one in translation.hypotheses[0].alignment] for translation in found]


def percent(confidence: float) -> float:
    return round(100 * confidence, 1)


def warned(warning: pb.TranslationWarning) -> schemas.Warned:
    return schemas.Warned(code=pb.TranslationWarning.Code.Name(warning.code), detail=warning.detail)


def link(one: pb.AlignmentLink) -> schemas.Link:
    return one.source.start, one.source.end, one.target.start, one.target.end, one.weight
