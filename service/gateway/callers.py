"""Who may call, and how often."""

from __future__ import annotations

import math
import time

from fastapi import HTTPException, Request
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from service.access import WRONG_TOKENS, Guesses, is_known, read_tokens, token_of
from service.gateway.config import GatewayConfig

WRONG = "no valid api_key; ask the operator of this server for one"


class Callers:
    """API keys are the tokens of the gRPC server, and go on to it: turns are shared between their owners."""

    def __init__(self, config: GatewayConfig) -> None:
        self._tokens = read_tokens(config.tokens_file) if config.tokens_file else []
        self._guesses = Guesses()
        self._rates = config.rates()
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    @property
    def keys_wanted(self) -> bool:
        return bool(self._tokens)

    async def let_in(self, request: Request, key: str) -> str:
        """The caller's key for the call to the server; HTTPException 403 or 429."""
        key = key or bearer(request)
        address = request.client.host if request.client else ""
        if self._tokens:
            self._check(key, address)
        elif not (key.isascii() and key.isprintable()):  # could not be sent on
            raise HTTPException(403, WRONG)
        caller = key if self._tokens else address  # without tokens anyone could make up keys
        for rate in self._rates:
            if not await self._limiter.hit(rate, caller):
                reset, _ = await self._limiter.get_window_stats(rate, caller)
                seconds = max(1, math.ceil(reset - time.time()))
                raise HTTPException(429, f"more than {rate}; try again in {seconds} s", {"Retry-After": str(seconds)})
        return key

    def _check(self, key: str, address: str) -> None:
        if seconds := self._guesses.bars(address, key.encode()):
            wait = f"{WRONG_TOKENS} wrong keys came from this address; try again later"
            raise HTTPException(429, wait, {"Retry-After": str(math.ceil(seconds))})
        if not is_known(key.encode(), self._tokens):
            self._guesses.wrong(address)
            raise HTTPException(403, WRONG)
        self._guesses.right(address, key.encode())

    def key_for_lists(self, request: Request, key: str) -> str:
        """Which languages there are, is no secret: a page shows them before it has a key."""
        return self._tokens[0].decode() if self._tokens else key or bearer(request)


def bearer(request: Request) -> str:
    return token_of(request.headers.items()).decode()
