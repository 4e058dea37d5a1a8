"""The methods of TranslationService: check the request, wait for the model, fill in the answer."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from model.errors import UserError
from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.config import ServiceConfig
from service.scheduler import DeadlineError, QueueFullError, Scheduler
from service.validation import RefusedError, check_request

if TYPE_CHECKING:
    from model.translator import Translation, Translator

log = logging.getLogger(__name__)
Context: TypeAlias = grpc.aio.ServicerContext
Code: TypeAlias = grpc.StatusCode


class TranslationServicer(pb_grpc.TranslationServiceServicer):
    """TranslationService over one model."""

    def __init__(self, scheduler: Scheduler, config: ServiceConfig) -> None:
        self._scheduler = scheduler
        self._config = config
        self._in_flight = 0
        self.idle = asyncio.Event()  # set while no call is in flight
        self.idle.set()

    async def Translate(self, request: pb.TranslateRequest, context: Context) -> pb.TranslateResponse:
        self._count(context)
        translator = await self._translator(context)
        remaining = context.time_remaining()
        deadline = math.inf if remaining is None else time.monotonic() + remaining
        try:
            how = check_request(request, translator.languages, translator.name, self._config)
            # A caller that goes away cancels this coroutine, which cancels the job where it waits.
            job = self._scheduler.submit(list(request.contents), how, deadline)
            translations = await asyncio.wrap_future(job)
        except RefusedError as error:
            await refuse(context, error)
        except QueueFullError as error:
            await abort(context, Code.RESOURCE_EXHAUSTED, str(error))
        except DeadlineError as error:
            await abort(context, Code.DEADLINE_EXCEEDED, str(error))
        except UserError as error:
            await abort(context, Code.INVALID_ARGUMENT, str(error))
        except Exception:
            log.exception("a request of %d texts failed", len(request.contents))
            await abort(context, Code.INTERNAL, "the translation failed; the server's log says why")
        return response(translations, request.num_hypotheses, translator.name)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        translator = await self._translator(context)
        pairs = [
            pb.LanguagePair(source_language_code=source, target_language_code=target)
            for source, target in itertools.permutations(translator.languages, 2)
        ]
        return pb.ListModelsResponse(models=[pb.Model(name=translator.name, language_pairs=pairs)])

    async def TranslateStream(
        self, request_iterator: AsyncIterator[pb.TranslateStreamRequest], context: Context
    ) -> AsyncIterator[pb.TranslateStreamResponse]:
        await not_implemented(context, "TranslateStream", "; call Translate")
        yield pb.TranslateStreamResponse()  # never reached; makes this a stream

    async def DetectLanguage(self, request: pb.DetectLanguageRequest, context: Context) -> pb.DetectLanguageResponse:
        await not_implemented(context, "DetectLanguage")

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        await not_implemented(context, "Explain")

    def _count(self, context: Context) -> None:
        """Count the call as in flight until its answer is sent."""

        def done(_: Context) -> None:
            self._in_flight -= 1
            if self._in_flight == 0:
                self.idle.set()

        self._in_flight += 1
        self.idle.clear()
        context.add_done_callback(done)

    async def _translator(self, context: Context) -> Translator:
        if (translator := self._scheduler.translator) is None:
            await abort(context, Code.UNAVAILABLE, "the model is still loading; try again in a moment")
        return translator


async def abort(context: Context, code: Code, details: str, metadata: Any = ()) -> NoReturn:
    await context.abort(code, details, metadata)
    raise AssertionError("abort raises")  # which type checkers cannot know


async def not_implemented(context: Context, method: str, advice: str = "") -> NoReturn:
    await abort(context, Code.UNIMPLEMENTED, f"{method} is not implemented yet{advice}")


async def refuse(context: Context, error: RefusedError) -> NoReturn:
    """Abort with the error as google.rpc.Status and its violations as google.rpc.BadRequest."""
    violations: list[Any] = [
        error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
        for field, description in error.violations
    ]
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.BadRequest(field_violations=violations))
    status = rpc_status.to_status(status_pb2.Status(code=error.code, message=str(error), details=[detail]))
    await abort(context, status.code, status.details, status.trailing_metadata)


def response(translations: Sequence[Translation], num_hypotheses: int, model: str) -> pb.TranslateResponse:
    return pb.TranslateResponse(
        translations=[
            pb.Translation(
                translated_text=translation.text,
                score=translation.score,
                model=model,
                hypotheses=[
                    pb.Hypothesis(
                        text=hypothesis.text,
                        score=hypothesis.score,
                        tokens=hypothesis.tokens,
                        token_scores=hypothesis.token_scores,
                    )
                    for hypothesis in translation.hypotheses[:num_hypotheses]
                ],
            )
            for translation in translations
        ]
    )
