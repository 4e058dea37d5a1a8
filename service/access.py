"""Who may call: TLS, client certificates, bearer tokens."""

from __future__ import annotations

import hmac
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from model.config import check
from model.errors import UserError
from service.config import ServiceConfig
from service.metrics import Metrics

log = logging.getLogger(__name__)
TOKEN_CHARACTERS = 16  # a shorter token could be found by trying
WRONG_TOKENS = 20  # of an address in a minute, before it must wait
REMEMBERED = 10_000  # addresses, and pairs of address and token, at most
OPEN_METHODS = ("/grpc.health.v1.Health/",)  # probes have no token


def server_credentials(config: ServiceConfig) -> grpc.ServerCredentials | None:
    """TLS as configured, None without. The files are read again for connections after they have changed, so that a
    certificate is renewed without a restart."""
    if not config.tls_key:
        return None

    def stamp() -> tuple[int, ...]:
        files = (config.tls_key, config.tls_certificate, config.tls_client_ca)
        return tuple(Path(file).stat().st_mtime_ns for file in files if file)

    def configuration() -> grpc.ServerCertificateConfiguration:
        authority = _read(config.tls_client_ca) if config.tls_client_ca else None
        pair = (_read(config.tls_key), _read(config.tls_certificate))
        return grpc.ssl_server_certificate_configuration([pair], authority)

    first = configuration()
    known = stamp()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal known
        try:
            if (now := stamp()) != known:
                fresh, known = configuration(), now
                return fresh
        except (OSError, UserError) as error:
            log.error("TLS files cannot be read again, the old ones stay: %s", error)
        return None

    return grpc.dynamic_ssl_server_credentials(first, fetch, bool(config.tls_client_ca))


def read_tokens(path: str) -> list[bytes]:
    """The tokens of a file, one a line; blank lines and lines that begin with # are skipped."""
    lines = (line.strip() for line in _read(path).splitlines())
    tokens = [line for line in lines if line and not line.startswith(b"#")]
    check(bool(tokens), f"tokens_file {path}: it holds no token")
    for number, token in enumerate(tokens, start=1):
        size = f"token {number} has {len(token)} characters, fewer than {TOKEN_CHARACTERS}"
        check(len(token) >= TOKEN_CHARACTERS, f"tokens_file {path}: {size}; make one with: openssl rand -hex 16")
        printable = token.isascii() and token.decode().isprintable()
        check(printable, f"tokens_file {path}: token {number} holds characters that are not ASCII: none could be sent")
    return tokens


def is_known(token: bytes, tokens: Sequence[bytes]) -> bool:
    """All are compared, each in constant time: how long it takes says nothing about any of them."""
    return sum(hmac.compare_digest(token, known) for known in tokens) > 0


def token_of(metadata: Any) -> bytes:
    for key, value in metadata or ():
        if key == "authorization" and str(value)[:7].lower() == "bearer ":
            return str(value)[7:].strip().encode()
        if key == "x-goog-api-key":  # how Google's clients send one
            return str(value).encode()
    return b""


def client_of(context: grpc.aio.ServicerContext, config: ServiceConfig) -> object:
    """Who shares turns: the token's owner where callers have tokens (and this one was let in), else the address."""
    if config.tokens_file:
        return token_of(context.invocation_metadata())
    return address_of(context)


def address_of(context: grpc.aio.ServicerContext) -> str:
    """Of the caller, without the port."""
    return str(context.peer().rpartition(":")[0])


class Guesses:
    """Wrong tokens by address: after ``WRONG_TOKENS`` within a minute an address is barred for the rest of it. Tokens
    that were right from there before the bar still are, so that a guesser does not shut out its neighbours."""

    def __init__(self) -> None:
        self._wrong: Counter[str] = Counter()
        self._right: set[tuple[str, bytes]] = set()
        self._until = 0.0

    def wrong(self, address: str) -> None:
        self._wrong[address] += 1

    def right(self, address: str, token: bytes) -> None:
        if len(self._right) == REMEMBERED:
            self._right.clear()
        self._right.add((address, token))

    def bars(self, address: str, token: bytes) -> float:
        """For how many seconds; 0: it may try."""
        now = time.monotonic()
        if now >= self._until or len(self._wrong) > REMEMBERED:
            self._wrong.clear()
            self._until = now + 60.0
        barred = self._wrong[address] >= WRONG_TOKENS and (address, token) not in self._right
        return self._until - now if barred else 0.0


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """UNAUTHENTICATED for a call without one of the tokens, RESOURCE_EXHAUSTED for an address that tries many."""

    def __init__(self, tokens: list[bytes], metrics: Metrics) -> None:
        self._tokens, self._metrics, self._guesses = tokens, metrics, Guesses()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(OPEN_METHODS):
            return handler
        given = token_of(handler_call_details.invocation_metadata)
        matches = is_known(given, self._tokens)

        async def refusal(context: grpc.aio.ServicerContext) -> None:
            """Ends the call if it must; the address is known only now."""
            address = address_of(context)
            if seconds := self._guesses.bars(address, given):
                self._metrics.refusals.labels("guesses").inc()
                wait = f"{WRONG_TOKENS} wrong tokens came from this address; try again in {seconds:.0f} s"
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, wait)
            if not matches:
                self._guesses.wrong(address)
                self._metrics.refusals.labels("token").inc()
                advice = "no valid token; send the metadata 'authorization: Bearer TOKEN'"
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, advice)
            self._guesses.right(address, given)

        if handler.response_streaming:
            inner_stream = handler.unary_stream or handler.stream_stream

            async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
                await refusal(context)
                async for response in inner_stream(request, context):
                    yield response

            return handler_like(handler, stream)
        inner = handler.unary_unary or handler.stream_unary

        async def unary(request: Any, context: grpc.aio.ServicerContext) -> Any:
            await refusal(context)
            return await inner(request, context)

        return handler_like(handler, unary)


def handler_like(handler: grpc.RpcMethodHandler, function: Any) -> grpc.RpcMethodHandler:
    """The handler with another function in it."""
    kind = ("unary", "stream")[handler.request_streaming], ("unary", "stream")[handler.response_streaming]
    make = getattr(grpc, f"{kind[0]}_{kind[1]}_rpc_method_handler")
    return make(function, handler.request_deserializer, handler.response_serializer)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
