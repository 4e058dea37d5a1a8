"""In which languages the reader can be addressed in more than one way."""

from __future__ import annotations

import asyncio

from fastapi import HTTPException

from protos.translation.v1 import translation_pb2 as pb
from service.gateway.backend import Backend


async def with_formality(codes: set[str], backend: Backend, key: str) -> set[str]:
    """Those of the target languages that formality is to be had in: the server is asked with an empty text, which costs
    the model nothing."""

    async def has_it(code: str) -> bool:
        request = pb.TranslateRequest(contents=[""], target_language_code=code, formality=pb.FORMALITY_FORMAL)
        try:
            await backend.call("Translate", request, key)
        except HTTPException as error:
            if error.status_code != 400:
                raise
            return False
        return True

    answers = await asyncio.gather(*map(has_it, codes))
    return {code for code, has in zip(codes, answers, strict=True) if has}
