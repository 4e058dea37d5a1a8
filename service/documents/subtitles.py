"""Subtitles, SRT and WebVTT: the lines between a time and the next blank line.

The lines of a subtitle are one sentence, broken where the translation allows; lines that begin with a dash are said
by different people, and stay apart. A sentence that goes on in the next subtitle is translated in two parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from service.documents.inline import MARK, TEXT, Piece, Unit
from service.documents.record import Options, Record, document

_TIME = re.compile(r"\s*(?:\d+:)?\d\d?:\d\d[,.]\d{1,3}\s*-->")
_SPEAKER = re.compile(r"\s*(?:<[^>]*>|\{[^}]*\})*\s*[-–—]")
_TAG = re.compile(r"(<[^>\n]*>|\{\\[^}\n]*\})")
_END = re.compile(r"\r?\n\Z|\r\Z")
_OUTSIDE_TAGS = re.compile(r"\s+(?![^<]*>)")


def read(file: BinaryIO, options: Options) -> Iterator[Record]:
    return document(file, lambda text: parse(text, options.source))


def parse(text: str, language: str) -> Iterator[str | Unit]:
    """What is copied and what is translated, in order; joined, it is the text."""
    said: list[str] = []
    within = False
    for line in text.splitlines(keepends=True) if "\n" not in text else re.findall(r"[^\n]*\n|[^\n]+", text):
        if within and line.strip():
            said.append(line)
            continue
        yield from _subtitle(said, language)
        said, within = [], bool(_TIME.match(line))
        yield line
    yield from _subtitle(said, language)


def _subtitle(lines: list[str], language: str) -> Iterator[str | Unit]:
    if any(_SPEAKER.match(line) for line in lines[1:]):
        for line in lines:
            yield from _unit([line], language)
    elif lines:
        yield from _unit(lines, language)


def _unit(lines: list[str], language: str) -> Iterator[str | Unit]:
    end = _END.search(lines[-1])
    tail = end[0] if end else ""
    raw = "".join(lines).removesuffix(tail)
    pieces = [
        Piece(MARK, part) if index % 2 else Piece(TEXT, part, re.sub(r"\s*\n", " ", part))
        for index, part in enumerate(_TAG.split(raw))
        if part
    ]
    newline = "\r\n" if "\r\n" in raw else "\n"
    unit = Unit(raw, pieces, language, finish=lambda text: newline.join(_wrap(text, len(lines))))
    yield unit if unit.texts else raw
    yield tail


def _wrap(text: str, count: int) -> list[str]:
    """At most ``count`` lines of about the same length."""
    lines = []
    for left in range(count, 1, -1):
        spaces = list(_OUTSIDE_TAGS.finditer(text.rstrip()))
        if not spaces:
            break
        space = min(spaces, key=lambda match: abs(match.start() - len(text) / left))
        lines.append(text[: space.start()])
        text = text[space.end() :]
    return [*lines, text]
