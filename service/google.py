"""Google Cloud Translation v3 on our port, for programs that use Google's client: TranslateText, DetectLanguage,
GetSupportedLanguages. Each becomes a call of ours; limits, turns and errors are the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from protos.google import translation_v3_pb2 as google
from protos.translation.v1 import translation_pb2 as pb
from service.languages import name_of
from service.servicer import Context, TranslationServicer, abort

NAME = "google.cloud.translation.v3.TranslationService"
DEFAULT_MODELS = ("", "general/nmt", "general/base")  # Google's names for the model of the language pair
DEFAULT_MIME_TYPE = "text/html"
OURS = google.DESCRIPTOR.services_by_name["TranslationService"]


class GoogleServicer:
    """Google's methods by those of ``servicer``, in whose answers and refusals the fields have the same names."""

    def __init__(self, servicer: TranslationServicer) -> None:
        self._servicer = servicer

    async def TranslateText(
        self, request: google.TranslateTextRequest, context: Context
    ) -> google.TranslateTextResponse:
        glossary = request.glossary_config
        await self._check(
            request,
            context,
            {
                "transliteration_config": request.transliteration_config.enable_transliteration,
                "glossary_config.contextual_translation_enabled": glossary.contextual_translation_enabled,
            },
        )
        ours = pb.TranslateRequest(
            contents=request.contents,
            mime_type=request.mime_type or DEFAULT_MIME_TYPE,
            source_language_code=request.source_language_code,
            target_language_code=request.target_language_code,
            model=model_of(request.model),
        )
        answer = google.TranslateTextResponse(translations=await self._translations(ours, request, context))
        if request.HasField("glossary_config"):  # as Google: once without it and once with it
            ours.glossary_config.glossary = glossary.glossary.rpartition("glossaries/")[2]
            ours.glossary_config.ignore_case = glossary.ignore_case
            answer.glossary_translations.extend(await self._translations(ours, request, context))
        return answer

    async def _translations(
        self, ours: pb.TranslateRequest, request: google.TranslateTextRequest, context: Context
    ) -> list[google.Translation]:
        return [
            google.Translation(
                translated_text=one.translated_text,
                detected_language_code=one.detected_language_code,
                model=request.model,  # as Google: where the request names it
                glossary_config=request.glossary_config if ours.HasField("glossary_config") else None,
            )
            for one in (await self._servicer.Translate(ours, context)).translations
        ]

    async def DetectLanguage(
        self, request: google.DetectLanguageRequest, context: Context
    ) -> google.DetectLanguageResponse:
        await self._check(request, context, {"model": request.model})
        mime_type = request.mime_type or DEFAULT_MIME_TYPE
        ours = pb.DetectLanguageRequest(content=request.content, mime_type=mime_type)
        answer = await self._servicer.DetectLanguage(ours, context)
        return google.DetectLanguageResponse(
            languages=[
                google.DetectedLanguage(language_code=one.language_code, confidence=one.confidence)
                for one in answer.languages
            ]
        )

    async def GetSupportedLanguages(
        self, request: google.GetSupportedLanguagesRequest, context: Context
    ) -> google.SupportedLanguages:
        await self._check(request, context, {})
        models = list((await self._servicer.ListModels(pb.ListModelsRequest(), context)).models)
        if wanted := model_of(request.model):
            models = [model for model in models if model.name == wanted]
            if not models:
                await abort(context, grpc.StatusCode.NOT_FOUND, f"model: '{wanted}' is not loaded")
        pairs = [pair for model in models for pair in model.language_pairs]
        sources = {pair.source_language_code for pair in pairs}
        targets = {pair.target_language_code for pair in pairs}
        display = request.display_language_code
        return google.SupportedLanguages(
            languages=[
                google.SupportedLanguage(
                    language_code=code,
                    display_name=name_of(code, display) if display else "",
                    support_source=code in sources,
                    support_target=code in targets,
                )
                for code in sorted(sources | targets)
            ]
        )

    async def _check(self, request: Message, context: Context, unsupported: dict[str, Any]) -> None:
        """UNIMPLEMENTED for what this server does not have, also for fields that Google has added since."""
        found = [field for field, is_set in unsupported.items() if is_set]
        unknown = UnknownFieldSet(request)
        found += [f"field {unknown[index].field_number}" for index in range(len(unknown))]
        if found:
            await abort(context, grpc.StatusCode.UNIMPLEMENTED, f"not on this server: {', '.join(found)}")


class GoogleHandler(grpc.GenericRpcHandler):
    """The methods of a GoogleServicer under Google's name, and UNIMPLEMENTED in words for the others."""

    def __init__(self, servicer: GoogleServicer) -> None:
        self._handlers = {
            method.name: grpc.unary_unary_rpc_method_handler(
                getattr(servicer, method.name),
                getattr(google, method.input_type.name).FromString,
                getattr(google, method.output_type.name).SerializeToString,
            )
            for method in OURS.methods
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if service != NAME:
            return None
        return self._handlers.get(method) or grpc.unary_unary_rpc_method_handler(missing(method, self._handlers))


def missing(method: str, there_are: Iterable[str]) -> Any:
    async def refuse(_: Any, context: Context) -> NoReturn:
        known = ", ".join(there_are)
        await abort(context, grpc.StatusCode.UNIMPLEMENTED, f"{method} is not on this server; there is {known}")

    return refuse


def model_of(name: str) -> str:
    """Ours of ``projects/P/locations/L/models/NAME``; empty: the default."""
    found = name.rpartition("models/")[2]
    return "" if found in DEFAULT_MODELS else found
