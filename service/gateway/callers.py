"""Who may call, and how often."""

from __future__ import annotations

import math
import time

from fastapi import HTTPException, Request
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from service.access import is_known, read_tokens, token_of
from service.gateway.config import GatewayConfig


class Callers:
    """API keys are the tokens of the gRPC server, and go on to it: turns are shared between their owners."""

    def __init__(self, config: GatewayConfig) -> None:
        self._tokens = read_tokens(config.tokens_file) if config.tokens_file else []
        self._rates = config.rates()
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    @property
    def keys_wanted(self) -> bool:
        return bool(self._tokens)

    async def let_in(self, request: Request, key: str) -> str:
        """The caller's key for the call to the server; HTTPException 403 or 429."""
        key = key or bearer(request)
        if not (key.isascii() and key.isprintable()) or (self._tokens and not is_known(key.encode(), self._tokens)):
            raise HTTPException(403, "no valid api_key; ask the operator of this server for one")
        # without tokens anyone could make up keys, so the address counts
        caller = key if self._tokens else (request.client.host if request.client else "")
        for rate in self._rates:
            if not await self._limiter.hit(rate, caller):
                reset, _ = await self._limiter.get_window_stats(rate, caller)
                seconds = max(1, math.ceil(reset - time.time()))
                raise HTTPException(429, f"more than {rate}; try again in {seconds} s", {"Retry-After": str(seconds)})
        return key

    def key_for_lists(self, request: Request, key: str) -> str:
        """Which languages there are, is no secret: a page shows them before it has a key."""
        return self._tokens[0].decode() if self._tokens else key or bearer(request)


def bearer(request: Request) -> str:
    return token_of(request.headers.items()).decode()
