"""Documents over HTTP: translated in one request, kept for a while in memory, fetched by an unguessable name."""

from __future__ import annotations

import asyncio
import io
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from fastapi import HTTPException

from model.errors import UserError
from protos.translation.v1 import translation_pb2 as pb
from service.client import REQUESTS_IN_FLIGHT, requests_of
from service.documents import FORMATS, Options, Record, format_of
from service.documents.record import encodable
from service.gateway.backend import Backend, all_or_none
from service.gateway.schemas import FORMALITIES, FileBody, language

KEPT_SECONDS = 600.0
KEPT_BYTES = 256 << 20  # of all files; beyond, the oldest go
DETECTED_CHARACTERS = 1000  # from the beginning of a document, to know its language


def suffixes() -> list[str]:
    """Of the names of the files that are understood."""
    return sorted(suffix for format_ in FORMATS.values() for suffix in format_.suffixes)


class Files:
    """``max_characters``: of one document."""

    def __init__(self, backend: Backend, max_characters: int) -> None:
        self._backend, self._max_characters = backend, max_characters
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def translate(self, filename: str, data: bytes, body: FileBody, key: str) -> str:
        """The name under which the translation can be fetched. HTTPException 400 for what cannot be read."""
        format_ = format_of(Path(filename))
        if format_ is None:
            raise HTTPException(400, f"file: '{filename}' is none of {', '.join(suffixes())}")
        columns = tuple(name.strip() for name in body.columns.split(",")) if body.columns else ()
        if FORMATS[format_].columns and not columns:
            raise HTTPException(400, "columns: missing; name what to translate in this file, with commas")
        source = language(body.source)
        # sentences end in the same places in most languages: good enough to see which one it is
        options = Options(source or body.target, columns)
        records = await asyncio.to_thread(read, data, format_, options, self._max_characters)
        if not source:
            source = await self._language_of(records, key)
            options = Options(source, columns)
            records = await asyncio.to_thread(read, data, format_, options, self._max_characters)
        settings = pb.TranslateRequest(
            source_language_code=source,
            target_language_code=body.target,
            num_hypotheses=1,
            formality=FORMALITIES[body.formality],
        )
        texts = [text for record in records for text in record.texts]
        found = await self._translations(texts, settings, key)
        return self._keep(PurePosixPath(filename).suffix, await asyncio.to_thread(render, records, found))

    async def _language_of(self, records: Sequence[Record], key: str) -> str:
        sample = ""
        for text in (text for record in records for text in record.texts):
            sample += text + "\n"
            if len(sample) >= DETECTED_CHARACTERS:
                break
        models = (await self._backend.call("ListModels", pb.ListModelsRequest(), key)).models
        known = {pair.source_language_code for model in models for pair in model.language_pairs}
        if sample.strip():
            request = pb.DetectLanguageRequest(content=sample[:DETECTED_CHARACTERS])
            answer = await self._backend.call("DetectLanguage", request, key)
            for one in answer.languages:
                if one.language_code in known:
                    return str(one.language_code)
        raise HTTPException(400, "source: the language of the file cannot be seen; name it")

    async def _translations(
        self, texts: Sequence[str], settings: pb.TranslateRequest, key: str
    ) -> dict[str, pb.Translation]:
        """Each text once, a few requests at a time."""
        turn = asyncio.Semaphore(REQUESTS_IN_FLIGHT)

        async def part(contents: list[str]) -> dict[str, pb.Translation]:
            request = pb.TranslateRequest(contents=contents)
            request.MergeFrom(settings)
            async with turn:
                answer = await self._backend.call("Translate", request, key)
            return dict(zip(contents, answer.translations, strict=True))

        parts = await all_or_none(part(contents) for contents in requests_of(dict.fromkeys(texts)))
        return {text: translation for found in parts for text, translation in found.items()}

    def get(self, name: str) -> bytes | None:
        self._forget()
        return self._kept[name][1] if name in self._kept else None

    def _keep(self, suffix: str, data: bytes) -> str:
        name = secrets.token_urlsafe(24) + suffix.lower()
        self._kept[name] = time.monotonic(), data
        self._forget()
        return name

    def _forget(self) -> None:
        oldest = time.monotonic() - KEPT_SECONDS
        size = sum(len(data) for _, data in self._kept.values())
        while self._kept:
            name, (kept, data) = next(iter(self._kept.items()))
            if kept >= oldest and size <= KEPT_BYTES:
                break
            del self._kept[name]
            size -= len(data)


def read(data: bytes, format_: str, options: Options, max_characters: int) -> list[Record]:
    """The records of a document; HTTPException 400 names the first bad one. A record without text, such as a blank
    line, counts as a character: it takes memory, too.
    """
    records, characters = [], 0
    try:
        for record in FORMATS[format_].read(io.BytesIO(data), options):
            if record.reason or not all(map(encodable, record.texts)):
                reason = record.reason or "it holds half of a surrogate pair, which is no text"
                raise HTTPException(400, f"file: {record.place}: {reason}")
            characters += max(1, sum(map(len, record.texts)))
            if characters > max_characters:
                advice = "split it, or use nmt translate"
                raise HTTPException(400, f"file: more than {max_characters} characters and lines, the limit; {advice}")
            records.append(record)
    except UserError as error:
        raise HTTPException(400, f"file: {error}") from None
    return records


def render(records: Sequence[Record], found: dict[str, pb.Translation]) -> bytes:
    return b"".join(
        record.render([found[text] for text in record.texts]) if record.render else record.raw for record in records
    )
