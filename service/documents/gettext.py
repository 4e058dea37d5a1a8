"""gettext PO and POT: an empty msgstr is filled with the translation of its msgid.

What somebody has translated stays, and so does all else, byte for byte: comments, order, line breaks, obsolete
entries. msgstr[0] of a plural is the singular, the others are the plural. Placeholders (%s, %(name)s, {name}) and tags
stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from service.documents.inline import FIXED, MARK, TEXT, Piece, Unit
from service.documents.record import Options, Record, document

# A field and its strings, comments excluded: msgid "..." and lines of "..." after it.
_FIELD = re.compile(
    r"^[ \t]*(?P<key>msgctxt|msgid_plural|msgid|msgstr)[ \t]*(?:\[(?P<index>\d+)\])?[ \t]*"
    r'(?P<value>"(?:[^"\\\n]|\\.)*"[ \t]*(?:\r?\n[ \t]*"(?:[^"\\\n]|\\.)*"[ \t]*)*)',
    re.MULTILINE,
)
_NEXT = re.compile(r"\s*msgstr")
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_KEPT = re.compile(
    r"(?P<fixed>%(?:\(\w+\)|\d+\$)?[-+#0]*(?:\d+|\*)?(?:\.\d+)?[hlLqjzt]*[diouxXeEfFgGcrsap]|%%|\{[^{}\s]*\})"
    r"|(?P<mark></?[A-Za-z][^<>]*>)"
)


def read(file: BinaryIO, options: Options) -> Iterator[Record]:
    return document(file, lambda text: parse(text, options.source))


def parse(text: str, language: str) -> Iterator[str | Unit]:
    """What is copied and what is translated, in order; joined, it is the text."""
    done = 0
    singular = plural = ""
    for field in _FIELD.finditer(text):
        key, value = field["key"], unquote(field["value"])
        if key == "msgid":
            singular = plural = value
        elif key == "msgid_plural":
            plural = value
        elif key == "msgstr" and singular and not value:
            yield text[done : field.start("value")]
            done = field.end("value")
            only = field["index"] == "0" and not _NEXT.match(text, done)  # a language without plurals
            yield _unit(field["value"], singular if field["index"] in (None, "0") and not only else plural, language)
    yield text[done:]


def _unit(raw: str, message: str, language: str) -> Unit:
    pieces = []
    end = 0
    for match in _KEPT.finditer(message):
        pieces.append(Piece(TEXT, message[end : match.start()], message[end : match.start()]))
        pieces.append(Piece(FIXED, match[0], match[0]) if match["fixed"] else Piece(MARK, match[0]))
        end = match.end()
    pieces.append(Piece(TEXT, message[end:], message[end:]))
    newline = "\r\n" if "\r\n" in raw else "\n"
    return Message(raw, [piece for piece in pieces if piece.raw], language, finish=lambda text: quote(text, newline))


class Message(Unit):
    """Unlike other units, it is not in its place yet: even the source itself is written there."""

    def render(self, translations: list[str]) -> str:  # type: ignore[override]
        return super().render(translations) if list(translations) != list(self.texts) else self._finish(self._source)

    @property
    def _source(self) -> str:
        return "".join(piece.raw for piece in self._pieces)


def unquote(value: str) -> str:
    joined = "".join(_STRING.findall(value))
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), joined)


def quote(text: str, newline: str = "\n") -> str:
    """A PO string; of several lines, if the text has them."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    for letter, character in _ESCAPES.items():
        text = text.replace(character, "\\" + letter)
    lines = re.findall(r".*?\\n|.+$", text) if re.search(r"\\n.", text) else [text]
    return newline.join(f'"{line}"' for line in ([""] if len(lines) > 1 else []) + lines)
