"""The methods of TranslationService: check the request, wait for the model, fill in the answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from model.errors import UserError
from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.access import client_of
from service.config import ServiceConfig
from service.contents import Content, prepare, visible
from service.detection import detect
from service.explaining import check_document, check_explain, explain_response
from service.glossaries import Glossaries
from service.jobs import Caller, How
from service.metrics import Metrics
from service.models import Models
from service.scheduler import DeadlineError, QueueFullError, Scheduler
from service.stream import Window
from service.validation import (
    RefusedError,
    characters_of,
    check_request,
    check_settings,
    wrong_contents,
    wrong_mime_type,
)

if TYPE_CHECKING:
    from model.translator import Document, Translation, Translator

log = logging.getLogger(__name__)
Context: TypeAlias = grpc.aio.ServicerContext
Code: TypeAlias = grpc.StatusCode
Found: TypeAlias = "tuple[Content, Translation | None]"  # None: the text stands for itself
INLINE_CHARACTERS = 400  # prepared at once on the event loop: that takes less time than changing threads
SLICE_CHARACTERS = 4_000  # prepared in one go on the text thread, so that a book does not hold up a sentence
RETRY_SECONDS = (0.1, 30.0)  # what a refused caller is told to wait, at least and at most
LOADING_SECONDS = 1.0  # what one is told who came before the model


class TranslationServicer(pb_grpc.TranslationServiceServicer):
    """TranslationService over the loaded models."""

    def __init__(
        self, models: Models, glossaries: Glossaries, scheduler: Scheduler, config: ServiceConfig, metrics: Metrics
    ) -> None:
        self._models, self._glossaries = models, glossaries
        self._scheduler, self._config, self._metrics = scheduler, config, metrics
        self._text_thread = ThreadPoolExecutor(1, "text")  # cuts, encodes and detects, away from the event loop
        self._attention_thread = ThreadPoolExecutor(1, "attention")  # aligns and explains
        self._attention_tokens = 0  # that wait for it
        self._calls = itertools.count()
        self._in_flight = 0
        self.idle = asyncio.Event()  # set while no call is in flight
        self.idle.set()
        self.draining = asyncio.Event()

    async def Translate(self, request: pb.TranslateRequest, context: Context) -> pb.TranslateResponse:
        self._count(context)
        models = await self._loaded(context)
        try:
            how = check_request(request, models, self._config, self._glossaries)
            translations = await self._translate(request.contents, how, self._caller(context))
        except Exception as error:
            await self._refuse(context, error, len(request.contents))
        return pb.TranslateResponse(
            translations=[message(*found, request.num_hypotheses, how.translator.name) for found in translations]
        )

    async def TranslateStream(
        self, request_iterator: AsyncIterator[pb.TranslateStreamRequest], context: Context
    ) -> AsyncIterator[pb.TranslateStreamResponse]:
        """A reader task takes in texts while the window has room; each becomes a task whose result is written as soon
        as it is there. A result leaves the window when it is written, so a slow reader of ours stops our reading."""
        self._count(context)
        models = await self._loaded(context)
        caller = self._caller(context, timed=False)
        try:
            first = await anext(aiter(request_iterator), pb.TranslateStreamRequest())
            how = check_settings(first, models, self._config, self._glossaries)
        except Exception as error:
            await self._refuse(context, error, 0)

        async def texts() -> AsyncIterator[str]:
            for text in first.contents:
                yield text
            async for request in request_iterator:
                if request.HasField("settings"):
                    raise RefusedError(code_pb2.INVALID_ARGUMENT, [("settings", "only the first message has them")])
                for text in request.contents:
                    yield text

        async def answer(index: int, text: str) -> pb.TranslateStreamResponse:
            try:
                found = await self._one_of_stream(text, how, caller)
            except Exception as error:
                code, description = self._explain(error, 1)
                failure = pb.ContentError(code=code.value[0], message=description)
                return pb.TranslateStreamResponse(index=index, error=failure)
            translation = message(*found, first.settings.num_hypotheses, how.translator.name)
            return pb.TranslateStreamResponse(index=index, translation=translation)

        window = Window(self._config.stream_characters, self.draining)
        try:
            async for response in window.run(texts(), answer):
                yield response
        except Exception as error:
            await self._refuse(context, error, 0)
        if window.cut_short:
            await abort(context, Code.UNAVAILABLE, f"the server is going away; {window.answered} texts were answered")

    async def DetectLanguage(self, request: pb.DetectLanguageRequest, context: Context) -> pb.DetectLanguageResponse:
        self._count(context)
        models = await self._loaded(context)
        try:
            check_detection(request, self._config)
            languages = {code for model in models.values() for code in model.languages}
            read = visible if request.mime_type == "text/html" else str
            found = await self._in_thread(self._text_thread, lambda: detect(read(request.content), languages))
        except Exception as error:
            await self._refuse(context, error, 1)
        return pb.DetectLanguageResponse(
            languages=[pb.DetectedLanguage(language_code=code, confidence=value) for code, value in found]
        )

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(
            models=[
                pb.Model(
                    name=name,
                    language_pairs=[
                        pb.LanguagePair(source_language_code=source, target_language_code=target)
                        for source, target in itertools.permutations(translator.languages, 2)
                    ],
                    hash=translator.hash,
                )
                for name, translator in (await self._loaded(context)).items()
            ]
        )

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        self._count(context)
        models = await self._loaded(context)
        try:
            how = check_explain(request, models, self._config)
            content = await self._in_thread(self._text_thread, prepare, request.content, how)
            document = check_document(content, how)
            with self._attention([document], how):
                if request.translated_text:
                    translation: Any = request.translated_text
                else:
                    ((_, translation),) = await self._translate([request.content], how, self._caller(context))
                found = await self._in_thread(self._attention_thread, how.translator.explanation, document, translation)
        except Exception as error:
            await self._refuse(context, error, 1)
        return explain_response(message(content, found.translation, 0, how.translator.name), found)

    async def _translate(self, texts: Sequence[str], how: How, caller: Caller) -> list[Found]:
        """Each text and its translation. If the caller goes away, what is not done yet is dropped."""
        if any(texts):  # an empty one needs no room
            self._scheduler.check_room()  # before any work is put into a text
        contents: list[Content] = []
        if how.source and sum(map(len, texts)) <= INLINE_CHARACTERS:
            contents = [prepare(text, how) for text in texts]
        else:
            for part in slices(texts):
                contents += await self._in_thread(
                    self._text_thread, lambda part: [prepare(text, how) for text in part], part
                )
        if caller.deadline <= time.monotonic():
            raise DeadlineError("the deadline passed before the text was read")
        documents = [document for content in contents for document in content.documents]
        with self._attention(documents, how) if how.alignment else contextlib.nullcontext():
            futures = self._scheduler.submit(documents, how, caller)
            try:
                translations = await asyncio.gather(*map(asyncio.wrap_future, futures))
            finally:
                for future in futures:
                    future.cancel()
            if how.alignment:
                translations = await self._aligned(translations, how)

        def rendered() -> list[Found]:
            done = iter(translations)
            return [
                (content, content.render([next(done) for _ in content.documents], how.search)) for content in contents
            ]

        return await self._in_thread(self._text_thread, rendered) if how.html else rendered()

    async def _aligned(self, translations: Sequence[Translation], how: How) -> list[Translation]:
        """A step at a time, so that callers take turns, and one that goes away leaves no work behind."""
        steps = how.translator.aligning(translations)
        while (found := await self._in_thread(self._attention_thread, next, steps)) is None:
            pass
        return list(found)

    @contextlib.contextmanager
    def _attention(self, documents: Sequence[Document], how: How) -> Iterator[None]:
        """Count what will need the attention thread, within the limit of the queue."""
        tokens = how.search.nbest * sum(len(ids) for document in documents for ids in document.sources)
        waiting, limit = self._attention_tokens, self._config.queue_tokens
        if waiting and waiting + tokens > limit:
            raise QueueFullError(
                f"{waiting} tokens are waiting for their attention weights and {tokens} more would pass the limit of "
                f"{limit}; try again later",
                1.0,
            )
        self._attention_tokens += tokens
        try:
            yield
        finally:
            self._attention_tokens -= tokens

    async def _one_of_stream(self, text: str, how: How, caller: Caller) -> Found:
        """One text of a stream, which waits where a request would be refused: its reading stops meanwhile."""
        if violations := wrong_contents(pb.TranslateRequest(contents=[text]), self._config):
            raise RefusedError(code_pb2.INVALID_ARGUMENT, violations)
        while True:
            try:
                return (await self._translate([text], how, caller))[0]
            except QueueFullError as error:
                await asyncio.sleep(bounded(error.retry_seconds))

    @staticmethod
    def _in_thread(thread: ThreadPoolExecutor, function: Any, *args: Any) -> Any:
        return asyncio.get_running_loop().run_in_executor(thread, function, *args)

    def _caller(self, context: Context, timed: bool = True) -> Caller:
        remaining = context.time_remaining() if timed else None
        deadline = math.inf if remaining is None else time.monotonic() + remaining
        return Caller(client_of(context, self._config), next(self._calls), deadline)

    def _count(self, context: Context) -> None:
        """Count the call as in flight until its answer is sent."""

        def done(_: Context) -> None:
            self._in_flight -= 1
            if self._in_flight == 0:
                self.idle.set()

        self._in_flight += 1
        self.idle.clear()
        context.add_done_callback(done)

    async def _loaded(self, context: Context) -> dict[str, Translator]:
        if not (models := self._models.by_name):
            await abort_with(
                context,
                Code.UNAVAILABLE,
                "the model is still loading; try again in a moment",
                retry_info(LOADING_SECONDS),
            )
        return models

    def _explain(self, error: Exception, texts: int) -> tuple[grpc.StatusCode, str]:
        """Status and text for a caller. What nobody foresaw goes to the log, without the text that brought it up."""
        if isinstance(error, RefusedError):
            return next(code for code in Code if code.value[0] == error.code), str(error)
        if isinstance(error, QueueFullError):
            self._metrics.refusals.labels("queue").inc()
            return Code.RESOURCE_EXHAUSTED, str(error)
        if isinstance(error, DeadlineError):
            return Code.DEADLINE_EXCEEDED, str(error)
        if isinstance(error, UserError):
            return Code.INVALID_ARGUMENT, str(error)
        log.error("a request of %d texts failed", texts, exc_info=error)
        return Code.INTERNAL, "the translation failed; the server's log says why"

    async def _refuse(self, context: Context, error: Exception, texts: int) -> NoReturn:
        """Abort with google.rpc.Status: BadRequest for what is wrong, RetryInfo for what may succeed later."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        code, description = self._explain(error, texts)
        if isinstance(error, RefusedError):
            violations: list[Any] = [
                error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
                for field, text in error.violations
            ]
            await abort_with(context, code, description, error_details_pb2.BadRequest(field_violations=violations))
        if isinstance(error, QueueFullError):
            await abort_with(context, code, description, retry_info(bounded(error.retry_seconds)))
        await abort(context, code, description)


def slices(texts: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    characters = 0
    for text in texts:
        if parts[-1] and characters + len(text) > SLICE_CHARACTERS:
            parts.append([])
            characters = 0
        parts[-1].append(text)
        characters += characters_of(text)
    return parts


def check_detection(request: pb.DetectLanguageRequest, config: ServiceConfig) -> None:
    violations = [] if request.content.strip() else [("content", "empty; give a text")]
    if len(request.content) > config.max_characters:
        violations.append(("content", f"{len(request.content)} characters, the limit is {config.max_characters}"))
    violations += wrong_mime_type(request.mime_type)
    if violations:
        raise RefusedError(code_pb2.INVALID_ARGUMENT, violations)


def bounded(seconds: float) -> float:
    return min(max(seconds, RETRY_SECONDS[0]), RETRY_SECONDS[1])


def retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(round(1000 * seconds))
    return error_details_pb2.RetryInfo(retry_delay=delay)


async def abort_with(context: Context, code: Code, description: str, detail: Message) -> NoReturn:
    """As google.rpc.Status, with one of its details."""
    packed = any_pb2.Any()
    packed.Pack(detail)
    status = rpc_status.to_status(status_pb2.Status(code=code.value[0], message=description, details=[packed]))
    await abort(context, status.code, status.details, status.trailing_metadata)


async def abort(context: Context, code: Code, details: str, metadata: Any = ()) -> NoReturn:
    await context.abort(code, details, metadata)
    raise AssertionError("abort raises")  # which type checkers cannot know


def message(content: Content, found: Translation | None, num_hypotheses: int, model: str) -> pb.Translation:
    """One translation on the wire."""
    detected = content.detected
    if found is None:
        warning = pb.TranslationWarning(code=pb.TranslationWarning.COPIED_SOURCE, detail="already in this language")
        return pb.Translation(
            translated_text=content.text,
            hypotheses=[pb.Hypothesis(text=content.text)] if num_hypotheses else [],
            detected_language_code=detected,
            model=model,
            warnings=[warning] if content.in_target and content.text.strip() else [],
        )
    return pb.Translation(
        translated_text=found.text,
        score=found.score,
        detected_language_code=detected,
        model=model,
        hypotheses=[
            pb.Hypothesis(
                text=one.text,
                score=one.score,
                tokens=one.tokens,
                token_scores=one.token_scores,
                alignment=[
                    pb.AlignmentLink(
                        source=pb.Span(start=link.source.start, end=link.source.end),
                        target=pb.Span(start=link.target.start, end=link.target.end),
                        weight=link.weight,
                    )
                    for link in one.alignment
                ],
            )
            for one in found.hypotheses[:num_hypotheses]
        ],
        warnings=[pb.TranslationWarning(code=one.code, detail=one.detail) for one in found.warnings],
    )
