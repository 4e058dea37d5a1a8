"""Subtitles, SRT and WebVTT: the lines between a time and the next blank line, or the next time.

The lines of a subtitle are one sentence, broken where the translation allows; lines that begin with a dash are said
by different people, and stay apart. A sentence that goes on in the next subtitle is translated in two parts.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import BinaryIO

from service.documents.inline import MARK, TEXT, Piece, Unit
from service.documents.record import Options, Record, document

_TIME = re.compile(r"\s*(?:\d+:)?\d\d?:\d\d[,.]\d{1,3}\s*-->")
_SPEAKER = re.compile(r"\s*(?:(?:<[^<>]*>|\{[^{}]*\})\s*)*[-–—]")
_TAG = re.compile(r"(<[^<>\n]*>|\{\\[^{}\n]*\})")
_END = re.compile(r"\r?\n\Z|\r\Z")
_SPACE = re.compile(r"\s+")
_SPACE_OR_BRACKET = re.compile(r"\s+|[<>]")


def read(file: BinaryIO, options: Options) -> Iterator[Record]:
    return document(file, lambda text: parse(text, options.source))


def parse(text: str, language: str) -> Iterator[str | Unit]:
    """What is copied and what is translated, in order; joined, it is the text."""
    said: list[str] = []
    within = False
    for line in text.splitlines(keepends=True) if "\n" not in text else re.findall(r"[^\n]*\n|[^\n]+", text):
        is_time = bool(_TIME.match(line))
        if within and line.strip() and not is_time:
            said.append(line)
            continue
        # Without a blank line before it, the next subtitle begins with its number
        number = said.pop() if is_time and said and said[-1].strip().isdigit() else ""
        yield from _subtitle(said, language)
        said, within = [], is_time
        yield number + line
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
        Piece(MARK, part) if index % 2 else Piece(TEXT, part, _SPACE.sub(_in_one_line, part))
        for index, part in enumerate(_TAG.split(raw))
        if part
    ]
    newline = "\r\n" if "\r\n" in raw else "\n"
    unit = Unit(
        raw, pieces, language, finish=lambda text: newline.join(_wrap(_SPACE.sub(_in_one_line, text), len(lines)))
    )
    yield unit if unit.texts else raw
    yield tail


def _in_one_line(space: re.Match[str]) -> str:
    return " " if "\n" in space[0] else space[0]


def _wrap(text: str, count: int) -> list[str]:
    """At most ``count`` lines of about the same length."""
    spaces = [space for space in _outside_tags(text.rstrip()) if space[0]]  # an empty line would end the subtitle
    starts = [start for start, _ in spaces]
    lines, begin, first = list[str](), 0, 0
    for left in range(count, 1, -1):
        if first == len(spaces):
            break
        aim = begin + (len(text) - begin) / left
        after = bisect_left(starts, aim, first)
        near = range(max(after - 1, first), min(after + 1, len(spaces)))
        chosen = min(near, key=lambda i: abs(starts[i] - aim))
        lines.append(text[begin : starts[chosen]])
        begin, first = spaces[chosen][1], chosen + 1
    return [*lines, text[begin:]]


def _outside_tags(text: str) -> list[tuple[int, int]]:
    """Where white space is, but for that within <...>."""
    found, bracket = [], ""  # the next one
    for match in reversed(list(_SPACE_OR_BRACKET.finditer(text))):
        if match[0] in ("<", ">"):
            bracket = match[0]
        elif bracket != ">":
            found.append(match.span())
    return found[::-1]
