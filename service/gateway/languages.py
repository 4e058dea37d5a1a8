"""What languages are called, and in which the reader can be addressed in more than one way."""

from __future__ import annotations

import asyncio

from babel import Locale, UnknownLocaleError
from fastapi import HTTPException

from protos.translation.v1 import translation_pb2 as pb
from service.gateway.backend import Backend


def name_of(code: str, in_language: str = "en") -> str:
    """ "de" -> "German"; the code itself where the name is not known, in English where ``in_language`` is not."""
    try:
        language = Locale.parse(code, sep="-")
    except (UnknownLocaleError, ValueError):
        return code
    try:
        name = language.get_display_name(Locale.parse(in_language, sep="-"))
    except (UnknownLocaleError, ValueError):
        name = language.get_display_name("en")
    return name or code


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
