"""What an operator sees of each call: counts and times for Prometheus, a line in the log where it failed, and, with
``nmt[otel]``, an OpenTelemetry trace. No text of a user is in any of them."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from model.errors import UserError
from protos.google import translation_v3_pb2 as google
from protos.translation.v1 import translation_pb2 as pb
from service.access import handler_like
from service.metrics import Metrics

log = logging.getLogger(__name__)
COUNTED = ("/translation.", "/google.cloud.translation.")
METHODS = {
    method.name
    for contract in (pb.DESCRIPTOR, google.DESCRIPTOR)
    for method in contract.services_by_name["TranslationService"].methods
}
DEADLINE_SLACK = 0.05, 0.02  # seconds, and of what was allowed
CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Counts, times and logs the calls of the methods that there are."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(COUNTED):  # health watches last for days
            return handler
        name = method.rpartition("/")[2]
        name = name if name in METHODS else "other"  # the caller's words are no label
        if handler.response_streaming:
            inner_stream = handler.unary_stream or handler.stream_stream

            async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
                begin, allowed = time.monotonic(), context.time_remaining()
                try:
                    async for response in inner_stream(request, context):
                        yield response
                except BaseException as error:
                    self._ended(name, begin, _code(context, allowed, error))
                    raise
                self._ended(name, begin, _code(context, allowed, None))

            return handler_like(handler, stream)
        inner = handler.unary_unary or handler.stream_unary

        async def unary(request: Any, context: grpc.aio.ServicerContext) -> Any:
            begin, allowed = time.monotonic(), context.time_remaining()
            try:
                response = await inner(request, context)
            except BaseException as error:
                self._ended(name, begin, _code(context, allowed, error))
                raise
            self._ended(name, begin, _code(context, allowed, None))
            return response

        return handler_like(handler, unary)

    def _ended(self, method: str, begin: float, code: str) -> None:
        seconds = time.monotonic() - begin
        self._metrics.calls.labels(method, code).inc()
        self._metrics.call_seconds.labels(method).observe(seconds)
        if code == "DEADLINE_EXCEEDED":
            self._metrics.refusals.labels("deadline").inc()
        level = logging.DEBUG if code == "OK" else logging.INFO
        log.log(level, "%s: %s after %.3f s", method, code, seconds, extra={"method": method, "code": code})


def _code(context: grpc.aio.ServicerContext, allowed: float | None, error: BaseException | None) -> str:
    """The name of the status that ends a call, which began with ``allowed`` seconds, or None for any number."""
    code = context.code()
    code = getattr(code, "value", (code,))[0]
    if error is None or code:
        return CODES.get(code or 0, "UNKNOWN")
    if not isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "UNKNOWN"
    # A call whose deadline passes is cancelled, by gRPC or a moment before by the caller, whose clock rounds otherwise
    remaining = context.time_remaining()
    late = (
        allowed is not None
        and remaining is not None
        and remaining <= max(DEADLINE_SLACK[0], DEADLINE_SLACK[1] * allowed)
    )
    return "DEADLINE_EXCEEDED" if late else "CANCELLED"


class JsonFormatter(logging.Formatter):
    """One object a line. Of an exception: its type and where it came from, not its message, which may quote text."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: getattr(record, key) for key in ("method", "code") if hasattr(record, key)}
        if record.exc_info:
            entry["exception"] = describe(record.exc_info[1])
        return json.dumps(entry, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """As JsonFormatter, for people."""

    def formatException(self, ei: Any) -> str:
        return describe(ei[1])


def describe(error: BaseException | None) -> str:
    """Type and stack of an exception, without its message."""
    frames = traceback.extract_tb(error.__traceback__) if error else []
    return f"{type(error).__name__} at " + " > ".join(f"{f.filename}:{f.lineno} {f.name}" for f in frames)


def set_up_logging(format: str) -> None:
    """Log to standard error, as ServiceConfig.log_format says."""
    if format == "auto":
        format = "text" if sys.stderr.isatty() else "json"
    handler = logging.StreamHandler()
    text = TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def tracing_interceptor(endpoint: str) -> grpc.aio.ServerInterceptor:
    """Traces of all calls, continued from the caller's traceparent, sent to an OTLP collector at ``endpoint``."""
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.grpc import aio_server_interceptor, filters
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    except ImportError as error:
        raise UserError(
            f"otlp_endpoint needs OpenTelemetry ({error.name}); install it with: pip install 'nmt[otel]'"
        ) from None

    class Exporter(OTLPSpanExporter):
        """Leaves out what may quote a text: stack traces and the details of a status."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return super().export([without_words(span) for span in spans])

    def without_words(span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            span.name,
            span.context,
            span.parent,
            span.resource,
            span.attributes,
            kind=span.kind,
            status=trace.Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    provider = TracerProvider(resource=Resource.create({"service.name": "nmt"}))
    provider.add_span_processor(BatchSpanProcessor(Exporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
    # probes would be most of the spans, and the interceptor cannot follow the health service's own kind of stream
    return aio_server_interceptor(filter_=filters.negate(filters.health_check()))
