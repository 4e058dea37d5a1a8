"""The gRPC server as the gateway sees it: calls, and what its refusals are in HTTP."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import grpc
import grpc.aio
from fastapi import HTTPException
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.client import detail, is_too_large, retry_info
from service.gateway.config import GatewayConfig

T = TypeVar("T")
HEALTH_SECONDS = 5.0
RETRY_SECONDS = 60.0  # where the server has no room for a caller and does not say when it will
# A name with several addresses (replicas behind a headless service): calls take turns over all of them, and one that
# was lost on the way is made again, on the next.
BALANCE = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
# gRPC's codes in HTTP. Who wants to know more than 500: the server's log says it.
STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.CANCELLED: 503,  # the server is going away; a client that goes never reads an answer
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# The fields of TranslateRequest as this API calls them.
NAMES = {
    "contents": "q",
    "content": "q",
    "source_language_code": "source",
    "target_language_code": "target",
    "mime_type": "format",
    "num_hypotheses": "alternatives",
    "include_alignment": "alignment",
    "glossary_config": "glossary",
}


class Backend:
    """Make it within the event loop that uses it."""

    def __init__(self, config: GatewayConfig) -> None:
        self._timeout = config.timeout_seconds
        # http_proxy of the environment would be asked for the server, even on 0.0.0.0: it is one of ours, and near
        options = [("grpc.service_config", json.dumps(BALANCE)), ("grpc.enable_http_proxy", 0)]
        self._channels = config.connection().channels(grpc.aio, options)
        self._stubs = itertools.cycle([pb_grpc.TranslationServiceStub(channel) for channel in self._channels])
        self._health = itertools.cycle([health_pb2_grpc.HealthStub(channel) for channel in self._channels])

    async def call(self, method: str, request: Message, key: str) -> Any:
        """HTTPException where the server refuses. If the caller is cancelled, so is the call."""
        metadata = [("authorization", f"Bearer {key}")] if key else []
        try:
            return await getattr(next(self._stubs), method)(request, timeout=self._timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise self._in_http(error) from None

    async def serving(self) -> bool:
        """What the server's own health says."""
        try:
            answer = await next(self._health).Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    def _in_http(self, error: grpc.aio.AioRpcError) -> HTTPException:
        code, text = error.code(), violations(error) or error.details() or ""
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            if is_too_large(error):
                return HTTPException(413, text)
            return HTTPException(429, text, {"Retry-After": str(math.ceil(retry_info(error) or RETRY_SECONDS))})
        status = STATUS.get(code, 500)
        if code == grpc.StatusCode.UNAVAILABLE:
            text = f"the translation server does not answer: {text}"
        return HTTPException(status, text, {"Retry-After": "1"} if status == 503 else None)


async def all_or_none(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of calls that are made together. The first failure, or a cancellation, cancels the rest."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def violations(error: Any) -> str:
    """What google.rpc.BadRequest says is wrong, in this API's names; empty without."""
    bad = detail(error, error_details_pb2.BadRequest) or error_details_pb2.BadRequest()
    return "; ".join(f"{NAMES.get(one.field, one.field)}: {one.description}" for one in bad.field_violations)
