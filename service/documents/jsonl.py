"""JSON, one object a line: the strings, and lists of strings, under the named keys ("text", "meta.title") change, no
other byte does.

Spacing, order, escapes and numbers stay, because the standard library's scanner says where each value stands, and only
that is replaced. A line that is no JSON object, or has none of the keys, goes to the error file and not to the output.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, BinaryIO

from service.documents.record import Options, Record, encodable
from service.documents.text import read_raw

_DECODER = json.JSONDecoder(strict=False)
_SPACE = re.compile(r"[ \t\r\n]*")

Value = tuple[int, int, str]  # start and end in the line, quotation marks included, and the string


def read(file: BinaryIO, options: Options) -> Iterator[Record]:
    for number, raw, text, reason in read_raw(file):
        place = f"line {number}"
        if not reason and not text.strip("\ufeff \t\r\n"):
            yield Record(place, raw)
            continue
        if not reason:
            try:
                values, known = strings(text, options.columns)
                if not known:
                    reason = f"no key {' or '.join(options.columns)}"
            except (ValueError, RecursionError) as error:
                reason = f"malformed JSON: {error}"
        if reason:
            yield Record(place, raw, reason=reason)
        else:
            yield Record(place, raw, tuple(value for *_, value in values), partial(_render, text, values))


def strings(text: str, keys: Sequence[str]) -> tuple[list[Value], bool]:
    """The strings under the keys in a JSON object, and whether any key is there at all (a number is, too, but not
    translated). ValueError where the text is no object."""
    start = 1 if text.startswith("\ufeff") else 0
    values: list[Value] = []
    known, end = _object(text, _skip(text, start), "", frozenset(keys), values)
    if _skip(text, end) != len(text):
        raise ValueError(f"something follows the object at character {end + 1}")
    return values, known


def _object(text: str, at: int, path: str, keys: frozenset[str], values: list[Value]) -> tuple[bool, int]:
    """Scan the object at ``at``; returns whether it has any of the keys, and where it ends."""
    at = _expect(text, at, "{")
    known = False
    if text[at : at + 1] == "}":
        return known, at + 1
    while True:
        _expect(text, at, '"')
        key, at = scanstring(text, at + 1, False)
        start = _expect(text, _skip(text, at), ":")
        name = path + key
        if text[start : start + 1] == "{" and any(wanted.startswith(name + ".") for wanted in keys):
            inner, at = _object(text, start, name + ".", keys, values)
            known = known or inner
        elif name in keys:
            known, at = True, _value(text, start, values)
        else:
            _, at = _DECODER.raw_decode(text, start)
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            return known, at + 1
        at = _expect(text, at, ",")


def _value(text: str, at: int, values: list[Value]) -> int:
    """Take the string at ``at``, or those of a list there, and leave anything else alone; returns where it ends."""
    found, end = _DECODER.raw_decode(text, at)
    if isinstance(found, str):
        values.append((at, end, found))
    elif isinstance(found, list):
        for item in found:
            at = _skip(text, at + 1)  # behind the bracket or the comma
            _, stop = _DECODER.raw_decode(text, at)
            if isinstance(item, str):
                values.append((at, stop, item))
            at = _skip(text, stop)
    return end


def _skip(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] != character:
        raise ValueError(f"expected {character} at character {at + 1}")
    return _skip(text, at + 1)


def _render(text: str, values: list[Value], found: Sequence[Any]) -> bytes:
    out, end = "", 0
    for (start, stop, source), translation in zip(values, found, strict=True):
        new = translation.hypotheses[0].text
        raw = text[start:stop]
        if new != source:
            raw = json.dumps(new, ensure_ascii="\\u" in raw or not encodable(new))
        out, end = out + text[end:start] + raw, stop
    return (out + text[end:]).encode()
